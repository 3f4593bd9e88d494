package openflow

import (
	"context"
	"encoding/binary"
	"errors"
	"time"
)

const (
	// stagedBundle marks the number of a bundle that is sent before it is needed: those that ovs-ofctl gives out are low.
	stagedBundle = 1 << 31
	// stageAfter is how long nobody else may have written until a bundle is sent ahead: in a fight it would only cost more.
	stageAfter = 50 * time.Millisecond
	// stageAnew is after how many additions a bundle is sent anew, since the switch keeps all of them.
	stageAnew = 300
	// stagePause is how long nothing is sent ahead after the switch has refused it, or thrown it away: it may do so always.
	stagePause = time.Minute
)

// staged is a recorded bundle that the switch has been sent by a listener's connection, and has only to commit. To read it and to make
// flows of it is most of what putting flows back takes: the switch reads fifty messages at a time, and in between sees to everything
// else. A bundle ends with its connection.
type staged struct {
	recording *recording
	// commit is the message that commits it, and number that message's; touch adds once more what was added last.
	commit, touch []byte
	number        uint32
	touches       int
}

// stage has the switch hold the bundle ready that puts a recording's flows back, held, and keep it: the switch throws away what nobody
// has added to for some time (Open_vSwitch's other_config:bundle-idle-timeout, by default ten seconds). So it is called again and again.
func (l *listener) stage(r *recording) error {
	l.mu.Lock()
	st, paused := l.staged, time.Now().Before(l.stageNot)
	l.mu.Unlock()
	if st != nil && st.recording == r && st.touches < stageAnew {
		st.touches++
		return l.write(st.touch)
	}
	if st != nil {
		l.setStaged(nil)
		if err := l.send(typeBundleControl, l.xid.Add(1), bundleControl(bundleDiscard)); err != nil {
			return err
		}
	}
	if paused {
		return nil
	}
	st, ahead := r.held.stage()
	if st == nil {
		return errors.New("the recording is no bundle")
	}
	st.recording = r
	l.setStaged(st)
	return l.write(ahead)
}

func (l *listener) setStaged(st *staged) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.staged = st
}

// unstaged is told when the switch refuses a part of what it was sent ahead, or throws it away. The caller has the lock.
func (l *listener) unstaged() {
	if l.staged != nil {
		l.staged, l.stageNot = nil, time.Now().Add(stagePause)
	}
}

var errNotStaged = errors.New("the switch does not have it")

// commitStaged commits what the switch holds ready, when it is of that recording; done is as for replay.
func (l *listener) commitStaged(ctx context.Context, r *recording, done func()) error {
	l.mu.Lock()
	st := l.staged
	if st == nil || st.recording != r {
		l.mu.Unlock()
		return errNotStaged
	}
	l.staged = nil // a bundle that cannot be committed is gone, too
	l.mu.Unlock()
	return l.request(ctx, stagedXID, st.number, st.commit, done)
}

// stage gives what is to be sent ahead, and what later; nil when the messages are no bundle of flows.
func (m *messages) stage() (st *staged, ahead []byte) {
	all := append([]byte(nil), m.bytes...)
	var starts []int
	for at := 0; at+headerLength <= len(all); {
		length := int(binary.BigEndian.Uint16(all[at+2:]))
		if length < headerLength+bundleHeader || at+length > len(all) {
			return nil, nil
		}
		number(all[at:])
		all[at+headerLength] |= stagedBundle >> 24
		if all[at+1] == typeBundleAdd {
			number(all[at+headerLength+bundleHeader:]) // the message in it has to have the same number
		}
		starts = append(starts, at)
		at += length
	}
	if len(starts) < 3 || all[starts[len(starts)-2]+1] != typeBundleAdd {
		return nil, nil
	}
	added, commit := starts[len(starts)-2], starts[len(starts)-1]
	return &staged{commit: all[commit:], touch: all[added:commit], number: stagedXID | m.commit}, all[:commit]
}

// number gives a recorded message a number of those that are sent ahead.
func number(message []byte) {
	binary.BigEndian.PutUint32(message[4:], stagedXID|binary.BigEndian.Uint32(message[4:]))
}

// bundleControl is the body of a message about what is staged.
func bundleControl(kind uint16) []byte {
	body := binary.BigEndian.AppendUint32(nil, stagedBundle)
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(body, kind), 0)
}
