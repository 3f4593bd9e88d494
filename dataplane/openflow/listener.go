package openflow

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// The little of OpenFlow 1.5 that hearing of changes takes. Everything else is said by ovs-ofctl.
const (
	openFlow15 = 6

	typeHello            = 0
	typeError            = 1
	typeEchoRequest      = 2
	typeEchoReply        = 3
	typeSetConfig        = 9
	typeMultipartRequest = 18
	typeMultipartReply   = 19
	typeBarrierRequest   = 20
	typeBarrierReply     = 21
	typeSetAsync         = 28
	typeMeterMod         = 29
	typeRequestForward   = 32

	headerLength       = 8
	multipartHeader    = headerLength + 8
	flowMonitor        = 16 // the multipart type
	forwardedToMasters = 11 // the property of SET_ASYNC
	updateAdded        = 1
	updateRemoved      = 2
	updateModified     = 3
	moreToCome         = 1  // the flag of a multipart message
	meterModFailed     = 12 // the error type of flows that use a meter that is not there, too
	maxUnheard         = 65536
	// Our own messages have numbers from firstXID on, those of recordings lower ones, below stagedXID; or between the two, as
	// messages that the switch is sent before they are needed.
	stagedXID           = 1 << 30
	firstXID            = 1 << 31
	listenerDialTimeout = time.Second
)

// listener is a connection to the bridge's management socket by which the switch itself tells at once of every flow that
// anybody adds, changes or removes (a flow monitor), and of every change to groups and meters (request forwarding). The switch
// tells what one transaction did before it answers a barrier that is sent after it.
type listener struct {
	conn net.Conn
	in   *bufio.Reader
	// heard is called for each change, from listen; more is what it has not been told yet, of a list that goes on.
	heard func(Overwritten)
	more  Overwritten
	told  bool // it is to be told of something, be it of nothing that counts

	writing sync.Mutex
	xid     atomic.Uint32

	mu       sync.Mutex
	waiting  map[*waiter]struct{}
	staged   *staged       // nil when the switch holds no bundle ready
	stageNot time.Time     // until then none is sent ahead
	over     chan struct{} // closed when the connection is lost
	why      error         // set before
}

// waiter waits for the answer to the message with the number last, or for a refusal of any from first to last.
type waiter struct {
	first, last uint32
	answered    chan error
	// done, if there is any, is called when it is answered, before anything is heard that happened later.
	done func()
}

// refusal is what the switch says to a message that it does not do.
type refusal struct{ kind, code uint16 }

func (r refusal) Error() string {
	return fmt.Sprintf("the switch refuses it (OpenFlow error %d, code %d)", r.kind, r.code)
}

// dialListener connects and asks to be told. It returns when the switch will tell.
func dialListener(ctx context.Context, runDir, bridge string, heard func(Overwritten)) (*listener, error) {
	dialer := net.Dialer{Timeout: listenerDialTimeout}
	conn, err := dialer.DialContext(ctx, "unix", filepath.Join(cmp.Or(runDir, defaultRunDir), bridge+".mgmt"))
	if err != nil {
		return nil, err
	}
	l := &listener{
		conn: conn, in: bufio.NewReaderSize(conn, maxUnheard), heard: heard,
		waiting: map[*waiter]struct{}{}, over: make(chan struct{}),
	}
	l.xid.Store(firstXID)
	go l.listen()
	if err := errors.Join(l.subscribe(), l.settle(ctx)); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("listening to changes of %s: %w", bridge, err)
	}
	return l, nil
}

// subscribe asks for changes: of all flows in all tables, and of groups and meters.
func (l *listener) subscribe() error {
	const (
		anything   = 0xffffffff
		everyTable = 0xff
		// What is added, removed, changed; not what was there before.
		flags = 1<<1 | 1<<2 | 1<<3
	)
	be := binary.BigEndian
	// A management connection hears nothing by itself unless it asks for some bytes of packets; no packet is asked for below.
	config := be.AppendUint16(make([]byte, 2), 128)
	var async []byte
	for property := uint16(0); property <= forwardedToMasters; property++ {
		mask := uint32(0)
		if property == forwardedToMasters {
			mask = 1<<0 | 1<<1 // groups, meters
		}
		async = be.AppendUint32(be.AppendUint16(be.AppendUint16(async, property), 8), mask)
	}
	monitor := append(be.AppendUint16(nil, flowMonitor), make([]byte, 6)...)
	monitor = be.AppendUint32(be.AppendUint32(be.AppendUint32(monitor, 1), anything), anything)
	monitor = append(be.AppendUint16(monitor, flags), everyTable, 0)
	monitor = append(monitor, 0, 1, 0, 4, 0, 0, 0, 0) // a match of nothing but its header
	return errors.Join(
		l.send(typeHello, 0, nil), l.send(typeSetConfig, 0, config), l.send(typeSetAsync, 0, async),
		l.send(typeMultipartRequest, 0, monitor))
}

func (l *listener) send(kind uint8, xid uint32, body []byte) error {
	return l.write(frame(kind, xid, body))
}

func (l *listener) write(messages []byte) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	// A switch that does not read hangs.
	if err := l.conn.SetWriteDeadline(time.Now().Add(defaultTimeout)); err != nil {
		return err
	}
	_, err := l.conn.Write(messages)
	return err
}

// settle returns when everything that was done to the switch before the call has been heard.
func (l *listener) settle(ctx context.Context) error {
	xid := l.xid.Add(1)
	return l.request(ctx, xid, xid, frame(typeBarrierRequest, xid, nil), nil)
}

// request sends messages, and waits for the answer to the one with the number last, or for a refusal of any from first to last; done is
// the waiter's.
func (l *listener) request(ctx context.Context, first, last uint32, messages []byte, done func()) error {
	w := &waiter{first, last, make(chan error, 1), done}
	l.mu.Lock()
	l.waiting[w] = struct{}{}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.waiting, w)
	}()
	if err := l.write(messages); err != nil {
		return err
	}
	select {
	case err := <-w.answered:
		return err
	case <-l.over:
		return errors.Join(errors.New("the switch has closed the connection"), l.why)
	case <-ctx.Done():
		return fmt.Errorf("ovs-vswitchd does not answer: %w", context.Cause(ctx))
	}
}

func (l *listener) close() { _ = l.conn.Close() }

// listen reads until the connection is lost.
func (l *listener) listen() {
	defer close(l.over)
	for {
		message, err := readMessage(l.in)
		if err != nil {
			return
		}
		if l.why = l.take(message[1], binary.BigEndian.Uint32(message[4:]), message); l.why != nil {
			return
		}
	}
}

func (l *listener) take(kind uint8, xid uint32, message []byte) error {
	switch kind {
	case typeEchoRequest:
		return l.send(typeEchoReply, xid, message[headerLength:])
	case typeBarrierReply, typeBundleControl:
		l.answer(xid, nil)
	case typeError:
		if len(message) < headerLength+4 {
			return errors.New("that is not OpenFlow")
		}
		be := binary.BigEndian
		err := refusal{be.Uint16(message[headerLength:]), be.Uint16(message[headerLength+2:])}
		if xid == 0 {
			return err // it will not tell of changes
		}
		l.answer(xid, err)
	case typeMultipartReply:
		if len(message) > multipartHeader && binary.BigEndian.Uint16(message[headerLength:]) == flowMonitor {
			// Who hears of a part mends that, and then has to begin anew for the rest.
			o, some := flowUpdates(message[multipartHeader:])
			l.more.add(o)
			l.told = l.told || some
			if binary.BigEndian.Uint16(message[headerLength+2:])&moreToCome == 0 {
				if l.told {
					l.heard(l.more)
				}
				l.more, l.told = Overwritten{}, false
			}
		}
	case typeRequestForward:
		o := Overwritten{Groups: 1}
		if len(message) > headerLength+1 && message[headerLength+1] == typeMeterMod {
			o = Overwritten{Meters: 1}
		}
		l.heard(o)
	}
	return nil
}

// answer hands the answer to a message, or its refusal, to who waits for it.
func (l *listener) answer(xid uint32, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && stagedXID <= xid && xid < firstXID {
		l.unstaged()
	}
	for w := range l.waiting {
		if xid == w.last || err != nil && w.first <= xid && xid < w.last {
			if err == nil && w.done != nil {
				w.done()
			}
			select {
			case w.answered <- err:
			default:
			}
		}
	}
}

// flowUpdates counts what a flow monitor's message tells. Each update begins with its length and kind. What the switch has learned or forgotten
// by itself does not count, and some is false where there is nothing else.
func flowUpdates(updates []byte) (o Overwritten, some bool) {
	for len(updates) >= 4 {
		length := int(binary.BigEndian.Uint16(updates))
		if length >= 4 && length <= len(updates) && learnedUpdate(updates[:length]) {
			updates = updates[length:]
			continue
		}
		some = true
		switch binary.BigEndian.Uint16(updates[2:]) {
		case updateAdded:
			o.Added++
		case updateRemoved:
			o.Removed++
		case updateModified:
			o.Changed++
		}
		if length < 4 || length > len(updates) {
			break
		}
		updates = updates[length:]
	}
	return o, some
}

// learnedUpdate tells of an update on a flow that the switch has learned or forgotten by itself, by its table and cookie.
func learnedUpdate(update []byte) bool {
	const tableAt, cookieAt = 4, 16
	if len(update) < cookieAt+8 || table(update[tableAt]) != tableAffinity {
		return false
	}
	_, f := splitCookie(binary.BigEndian.Uint64(update[cookieAt:]))
	return f == featureAffinity
}
