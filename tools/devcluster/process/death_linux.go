package process

import "syscall"

// dieWithParent makes the kernel kill the child with the thread that forked it.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
