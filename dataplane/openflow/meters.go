package openflow

import (
	"context"
	"encoding/binary"
	"errors"
)

const (
	meterAdd    = 0
	meterModify = 1
	// meterPackets and meterBurst are the flags "pktps" and "burst" of ovs-ofctl, and meterDrop is a band's kind.
	meterPackets = 1 << 1
	meterBurst   = 1 << 2
	meterDrop    = 1
	bandLength   = 16
)

// putMeters makes meters, or changes those that are there, by the listener's connection: to start a program for each takes far longer.
func (l *listener) putMeters(ctx context.Context, ids []int, limits func(id int) (rate, burst uint32)) error {
	var messages []byte
	for _, id := range ids { // those that are there already are refused; nobody waits for that
		rate, burst := limits(id)
		messages = append(messages, frame(typeMeterMod, l.xid.Add(1), meterMod(meterAdd, id, rate, burst))...)
	}
	var first, last uint32
	for _, id := range ids {
		rate, burst := limits(id)
		if last = l.xid.Add(1); first == 0 {
			first = last
		}
		messages = append(messages, frame(typeMeterMod, last, meterMod(meterModify, id, rate, burst))...)
	}
	last = l.xid.Add(1)
	return l.request(ctx, first, last, append(messages, frame(typeBarrierRequest, last, nil)...), nil)
}

// meterMod is the body of a message that drops what is more than so many packets a second.
func meterMod(command uint16, id int, rate, burst uint32) []byte {
	be := binary.BigEndian
	body := be.AppendUint16(be.AppendUint16(nil, command), meterPackets|meterBurst)
	body = be.AppendUint32(body, uint32(id))
	body = be.AppendUint16(be.AppendUint16(body, meterDrop), bandLength)
	return be.AppendUint32(be.AppendUint32(be.AppendUint32(body, rate), burst), 0)
}

// remakeMeters makes the meters of what is wanted.
func (s *OVS) remakeMeters(ctx context.Context) error {
	if l := s.watch.current(); l != nil && l.putMeters(ctx, s.wanted.meters(), s.limits) == nil {
		return nil
	}
	return s.ensureMeters(ctx, s.wanted)
}

// noMeter tells whether the switch refuses flows for want of their meter.
func noMeter(err error) bool {
	var r refusal
	return isNoMeter(err) || errors.As(err, &r) && r.kind == meterModFailed
}
