// Package process runs child processes that never outlive the program that
// started them, even when that program is killed.
package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// logTail is how much of a child's log an error quotes, in bytes.
const logTail = 2 << 10

// A Group starts children and ends them together. The kernel signals a child
// when the thread that forked it ends, not the process, so every child of a
// group is forked from one thread that lives as long as the group.
type Group struct {
	forks chan func()
	once  sync.Once

	mu       sync.Mutex
	children []*Process
}

// NewGroup returns an empty group. Close it to release its thread.
func NewGroup() *Group {
	g := &Group{forks: make(chan func())}
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for fork := range g.forks {
			fork()
		}
	}()
	return g
}

// A Process is one running child.
type Process struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Run starts cmd with its standard output and error appended to the file log.
// Name is used in errors. The child belongs to a process group of its own, so
// that an interrupt typed at a terminal reaches only the parent, which then
// ends its children in order.
func (g *Group) Run(name, log string, cmd *exec.Cmd) (*Process, error) {
	out, err := os.OpenFile(filepath.Clean(log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", name, err)
	}
	defer out.Close() //nolint:errcheck // the child has its own descriptor

	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = dieWithParent()
	cmd.SysProcAttr.Setpgid = true

	started := make(chan error, 1)
	g.forks <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}

	p := &Process{name: name, log: log, cmd: cmd, done: make(chan struct{})}
	g.mu.Lock()
	g.children = append(g.children, p)
	g.mu.Unlock()
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Close kills every child in the reverse order of their start, waits until
// they are gone and releases the group's thread. The group cannot be used
// afterwards.
func (g *Group) Close() {
	g.mu.Lock()
	children := g.children
	g.children = nil
	g.mu.Unlock()
	for _, child := range slices.Backward(children) {
		child.Kill()
	}
	g.once.Do(func() { close(g.forks) })
}

// PID returns the process identifier of the child.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err explains, once Done is closed, how the child ended, with the end of its log.
func (p *Process) Err() error {
	err := p.err
	if err == nil {
		err = errors.New("it ended with status 0")
	}
	return fmt.Errorf("%s is not running: %w\n%s", p.name, err, tail(p.log))
}

// Kill ends the child and its own children at once and waits until it is gone.
func (p *Process) Kill() {
	select {
	case <-p.done:
	default:
		// The error says only that the group ended in this very moment.
		_ = syscall.Kill(-p.PID(), syscall.SIGKILL)
		<-p.done
	}
}

// tail returns the last whole lines of the file at path.
func tail(path string) string {
	data, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return ""
	}
	if len(data) > logTail {
		data = data[len(data)-logTail:]
		_, rest, found := strings.Cut(string(data), "\n")
		if found {
			return rest
		}
	}
	return string(data)
}
