package cluster

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/embed"
)

// A store is an etcd server inside this process.
type store struct {
	server *embed.Etcd
	socket string
}

// startStore starts etcd with its data and its Unix socket in dir, which only
// this user can reach.
func startStore(ctx context.Context, dir string) (*store, error) {
	s := &store{socket: filepath.Join(dir, "etcd.sock")}
	client := url.URL{Scheme: "unix", Path: s.socket}
	// Peers cannot use a socket, and a socket cannot be advertised. There are no
	// peers and nobody asks for addresses, so any free port will do.
	unused := url.URL{Scheme: "http", Host: "127.0.0.1:0"}

	config := embed.NewConfig()
	config.Dir = filepath.Join(dir, "etcd")
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{unused}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{unused}, []url.URL{unused}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.LogLevel = "warn"
	config.LogOutputs = []string{filepath.Join(dir, "etcd.log")}
	// The data does not outlive the process, so it need not reach the disk.
	config.UnsafeNoFsync = true
	// The only member waits for one election timeout before it elects itself.
	config.TickMs, config.ElectionMs = 10, 100

	server, err := embed.StartEtcd(config)
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	s.server = server
	select {
	case <-server.Server.ReadyNotify():
		return s, nil
	case err := <-server.Err():
		server.Close()
		return nil, fmt.Errorf("start etcd: %w", err)
	case <-ctx.Done():
		server.Close()
		return nil, fmt.Errorf("wait for etcd: %w", context.Cause(ctx))
	}
}

// endpoint returns the address for clients.
func (s *store) endpoint() string { return "unix://" + s.socket }

// stop ends the server at once.
func (s *store) stop() {
	s.server.Server.HardStop()
	s.server.Close()
}
