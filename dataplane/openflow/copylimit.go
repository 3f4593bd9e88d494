package openflow

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
)

// MaxCopies is how many copies a second a signature engine gets at most, unless LimitCopies says less.
const MaxCopies = copyMeterRate

// LimitCopies changes a meter, and takes what the switch tells of that for its own doing.
func (s *OVS) LimitCopies(ctx context.Context, slot uint8, rate uint32) error {
	if slot < ledger.SlotFirst || slot > ledger.SlotLast {
		return fmt.Errorf("no signature engine has slot %d", slot)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.copiesMu.Lock()
	defer s.copiesMu.Unlock()
	counted, err := s.countedCopies(ctx)
	if err != nil {
		return err
	}
	if s.copyRates == nil {
		s.copyRates, s.copiesBefore = map[uint8]uint32{}, map[uint8]uint64{}
	}
	before := s.copyRates[slot]
	s.copyRates[slot] = min(rate, MaxCopies)
	if _, err := s.ofctl(ctx, "", "mod-meter", s.bridge(), s.meter(copyMeter+int(slot))); err != nil {
		s.copyRates[slot] = before
		return fmt.Errorf("limiting the copies for the signature engine in slot %d: %w", slot, err)
	}
	s.copiesBefore[slot] += counted[slot] // a meter that is changed counts from 0 again
	s.watch.ours(ctx, Overwritten{Meters: 1})
	return nil
}

// CopiesDropped reads the meters' counts. The few copies that are dropped while LimitCopies changes a meter are not in it.
func (s *OVS) CopiesDropped(ctx context.Context) (map[uint8]uint64, error) {
	s.copiesMu.Lock()
	defer s.copiesMu.Unlock()
	counts, err := s.countedCopies(ctx)
	if err != nil {
		return nil, err
	}
	for slot, before := range s.copiesBefore {
		counts[slot] += before
	}
	return counts, nil
}

// ClientsDropped reads the meter's count.
func (s *OVS) ClientsDropped(ctx context.Context) (uint64, error) {
	text, err := s.ofctl(ctx, "", "meter-stats", s.bridge(), fmt.Sprintf("meter=%d", clientMeter))
	if err != nil {
		return 0, fmt.Errorf("reading how many packets were too many to ask for: %w", err)
	}
	for line := range strings.Lines(text) {
		if m := bandStats.FindStringSubmatch(line); m != nil {
			return strconv.ParseUint(m[1], 10, 64)
		}
	}
	return 0, nil
}

// countedCopies reads what the meters count now.
func (s *OVS) countedCopies(ctx context.Context) (map[uint8]uint64, error) {
	text, err := s.ofctl(ctx, "", "meter-stats", s.bridge())
	if err != nil {
		return nil, fmt.Errorf("reading the counts of dropped copies: %w", err)
	}
	return parseMeters(text), nil
}

// limits are how many packets a second a meter lets pass, and how many at once.
func (s *OVS) limits(id int) (rate, burst uint32) {
	rate, burst = uint32(copyMeterRate), uint32(copyMeterBurst)
	switch id {
	case denialMeter:
		rate, burst = denialMeterRate, denialMeterBurst
	case strayMeter:
		rate, burst = strayMeterRate, strayMeterBurst
	case clientMeter:
		rate, burst = clientMeterRate, clientMeterBurst
	default:
		if limit := s.copyRates[uint8(id-copyMeter)]; limit > 0 {
			rate, burst = limit, max(limit/(copyMeterRate/copyMeterBurst), 1)
		}
	}
	return rate, burst
}

// meter spells a meter, as ovs-ofctl reads it.
func (s *OVS) meter(id int) string {
	rate, burst := s.limits(id)
	return fmt.Sprintf("meter=%d,pktps,burst,band=type=drop,rate=%d,burst_size=%d", id, rate, burst)
}

// ours takes a change that was our own, and is done, off what was told.
func (w *watch) ours(ctx context.Context, o Overwritten) {
	if l := w.current(); l == nil || l.settle(ctx) != nil {
		return // nobody tells, or the connection is lost: with the next one everything is read anyway
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen.Meters = max(w.seen.Meters-o.Meters, 0)
	if w.seen == (Overwritten{}) {
		w.since = time.Time{}
	}
}

// makeMeter makes a meter, or changes the one that is there.
func (s *OVS) makeMeter(ctx context.Context, id int) error {
	meter := s.meter(id)
	_, err := s.ofctl(ctx, "", "add-meter", s.bridge(), meter)
	if err != nil && strings.Contains(err.Error(), "METER_EXISTS") {
		_, err = s.ofctl(ctx, "", "mod-meter", s.bridge(), meter)
	}
	if err != nil {
		return fmt.Errorf("making meter %d, which bounds copies of packets: %w", id, err)
	}
	return nil
}
