//go:build unix && !linux

package process

import "syscall"

// dieWithParent has nothing to ask of kernels without a parent-death signal:
// there, children survive a parent that is killed with SIGKILL.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{}
}
