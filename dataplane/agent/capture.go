package agent

import "sync/atomic"

// lostBefore counts what data planes that were stopped had lost: a counter never goes back.
type lostBefore struct{ last, sum atomic.Uint64 }

// capturePacketsLost counts packets that came too fast to be kept.
func (a *Agent) capturePacketsLost() float64 {
	var now uint64
	if n := a.plane.Load(); n != nil {
		now = n.CapturePacketsLost()
	}
	if last := a.captureLost.last.Swap(now); now < last {
		a.captureLost.sum.Add(last)
	}
	return float64(a.captureLost.sum.Load() + now)
}
