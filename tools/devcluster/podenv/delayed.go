package podenv

import (
	"sync"
	"time"
)

// MountLag is how long a changed Secret or ConfigMap takes to appear in the
// containers that mount it. A kubelet needs up to two minutes; what matters is
// that whoever forgets to wait for it meets the old content.
const MountLag = time.Second

// Delayed shows the content of a volume some time after it changed, as a kubelet
// does: what changed meanwhile is shown with it.
type Delayed struct {
	lag  time.Duration
	show func(files map[string][]byte)

	mu     sync.Mutex
	next   map[string][]byte
	timer  *time.Timer
	closed bool
}

// NewDelayed returns a Delayed that calls show, never twice at a time, with
// files by name.
func NewDelayed(lag time.Duration, show func(files map[string][]byte)) *Delayed {
	return &Delayed{lag: lag, show: show}
}

// Set has files shown after the lag, or what is set by then.
func (d *Delayed) Set(files map[string][]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next = files
	if d.timer == nil && !d.closed {
		d.timer = time.AfterFunc(d.lag, d.fire)
	}
}

func (d *Delayed) fire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.timer = nil
	if !d.closed {
		d.show(d.next)
	}
}

// Close returns when nothing is being shown. Nothing is shown any more.
func (d *Delayed) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.timer != nil {
		d.timer.Stop()
	}
}
