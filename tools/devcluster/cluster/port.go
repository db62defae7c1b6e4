package cluster

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A reservation keeps a TCP port of the loopback address from everybody but
// the child it is meant for. Choosing a free port, closing it and naming it to
// the child would let another process take it in between.
type reservation struct {
	descriptor int
	port       int
}

// reservePort reserves a free port. The child must bind it with SO_REUSEPORT;
// the reservation itself never listens, so all connections go to the child.
func reservePort() (*reservation, error) {
	descriptor, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, fmt.Errorf("reserve a port: %w", err)
	}
	unix.CloseOnExec(descriptor)
	r := &reservation{descriptor: descriptor}
	if err := r.bind(); err != nil {
		r.release()
		return nil, fmt.Errorf("reserve a port: %w", err)
	}
	return r, nil
}

func (r *reservation) bind() error {
	if err := unix.SetsockoptInt(r.descriptor, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return err
	}
	if err := unix.Bind(r.descriptor, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	address, err := unix.Getsockname(r.descriptor)
	if err != nil {
		return err
	}
	bound, ok := address.(*unix.SockaddrInet4)
	if !ok {
		return fmt.Errorf("unexpected address %T", address)
	}
	r.port = bound.Port
	return nil
}

// release gives the port up.
func (r *reservation) release() { _ = unix.Close(r.descriptor) }
