package openflow

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/ledger"
)

// Datapath types.
const (
	// DatapathUserspace needs no kernel module; packets pass through ovs-vswitchd itself.
	DatapathUserspace = "netdev"
	// DatapathKernel uses the openvswitch kernel module.
	DatapathKernel = "system"
)

// OVS is a bridge of a running Open vSwitch, 3.3 or newer, driven by its own programs: ovs-ofctl for flows, ovs-vsctl for bridges
// and ports, ovs-appctl for connections. The zero value is the bridge mk-br0 of the system's Open vSwitch in the kernel.
type OVS struct {
	// Programs is the directory of Open vSwitch's programs; empty for those on PATH.
	Programs string
	// RunDir is the directory of Open vSwitch's sockets; empty for the system's own.
	RunDir string
	// Bridge is the bridge's name; empty stands for BridgeName.
	Bridge string
	// DatapathType is DatapathUserspace or DatapathKernel; empty stands for DatapathKernel.
	DatapathType string
	// Timeout bounds every command; 0 stands for 10 seconds.
	Timeout time.Duration

	mu      sync.Mutex // serialises changes of flows
	present *Bundle    // what the bridge held when it was last read, nil when that is not known
	wanted  *Bundle    // what the last Apply that succeeded asked for, nil when there was none
	watch   watch
	// copyRates are how many copies a second signature engines get at most, by slot, where that is less than MaxCopies.
	copyRates map[uint8]uint32

	copiesMu     sync.Mutex       // held while meters are changed or read, after mu
	copiesBefore map[uint8]uint64 // what meters had dropped when they were changed, by slot

	recorded *recording  // of wanted or of something older, nil when there is none
	recorder *time.Timer // records soon

	portsMu sync.Mutex        // serialises changes of ports
	numbers map[string]uint32 // of the ports that were added
}

var _ Switch = &OVS{}

func (s *OVS) bridge() string {
	if s.Bridge == "" {
		return BridgeName
	}
	return s.Bridge
}

func (s *OVS) datapathType() string {
	if s.DatapathType == "" {
		return DatapathKernel
	}
	return s.DatapathType
}

// EnsureBridge makes the bridge with fail_mode=secure, so that no packet passes before there are flows, and the meter that
// bounds the copies of denied packets.
func (s *OVS) EnsureBridge(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.present = nil
	br := s.bridge()
	if _, err := s.vsctl(ctx, "--may-exist", "add-br", br, "--", "set", "bridge", br, "datapath_type="+s.datapathType(),
		"fail_mode=secure", "protocols=OpenFlow15", "other_config:disable-in-band=true", "external_ids:owner=meerkat"); err != nil {
		return fmt.Errorf("making bridge %s: %w", br, err)
	}
	return s.ensureMeters(ctx, nil)
}

// ensureMeters makes the meters that a bundle uses, and the one that bounds copies of denied packets in any case.
func (s *OVS) ensureMeters(ctx context.Context, b *Bundle) error {
	for _, id := range b.meters() {
		if err := s.makeMeter(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// DeleteBridge removes the bridge.
func (s *OVS) DeleteBridge(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.present, s.wanted = nil, nil
	if _, err := s.vsctl(ctx, "--if-exists", "del-br", s.bridge()); err != nil {
		return fmt.Errorf("deleting bridge %s: %w", s.bridge(), err)
	}
	return nil
}

// Apply commits the difference between what the bridge holds and what is wanted as one OpenFlow bundle, and reads the bridge
// back. What the bridge held is remembered from the last call. When it changed behind our back, the first commit fails or leaves
// drift, and a second one is made from a fresh reading.
func (s *OVS) Apply(ctx context.Context, b *Bundle) error {
	if err := check(b, nil); err != nil {
		return fmt.Errorf("the bundle is not applied to %s: %w", s.bridge(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.apply(ctx, b)
	if err == nil {
		if s.replayable() && b.same(s.wanted) {
			s.recorded.bundle = b
		}
		s.wanted = b
		s.recordSoon()
	}
	return err
}

func (s *OVS) apply(ctx context.Context, b *Bundle) error {
	if s.present != nil && !slices.Equal(s.present.meters(), b.meters()) {
		if err := s.ensureMeters(ctx, b); err != nil {
			return err
		}
	}
	if s.present != nil {
		if drift, err := s.commit(ctx, b, Transaction(b, s.present)); err == nil && drift.Count() == 0 {
			return nil
		}
	}
	s.present = nil
	if err := s.ensureMeters(ctx, b); err != nil {
		return err
	}
	present, err := s.Dump(ctx)
	if err != nil {
		return err
	}
	drift, err := s.commit(ctx, b, Transaction(b, present))
	if err == nil && drift.Count() != 0 {
		err = fmt.Errorf("bridge %s does not hold what was committed: %s: another controller may be writing to it", s.bridge(), drift)
	}
	if err != nil {
		s.present = nil
	}
	return err
}

// commit commits the text, which is to turn what the bridge holds into b, and reads the bridge back.
func (s *OVS) commit(ctx context.Context, b *Bundle, text string) (Differences, error) {
	if text != "" {
		if err := s.bundle(ctx, text); err != nil {
			return Differences{}, err
		}
	}
	return s.compare(ctx, b)
}

// bundle commits a text as one OpenFlow bundle.
func (s *OVS) bundle(ctx context.Context, text string) error {
	if _, err := s.ofctl(ctx, text, "--no-names", "bundle", s.bridge(), "-"); err != nil {
		return fmt.Errorf("committing flows to %s: %w", s.bridge(), err)
	}
	return nil
}

// compare reads the bridge back. What others do to it from here on is told by the watch.
func (s *OVS) compare(ctx context.Context, b *Bundle) (Differences, error) {
	s.watch.settle(ctx)
	present, err := s.Dump(ctx)
	if err != nil {
		return Differences{}, err
	}
	s.present = present
	return Drift(b, present), nil
}

// Dump reads flows and groups, both at once, without what the switch has learned by itself.
func (s *OVS) Dump(ctx context.Context) (*Bundle, error) {
	var b Bundle
	var groupsErr error
	done := make(chan struct{})
	go func() {
		defer close(done)
		var text string
		if text, groupsErr = s.ofctl(ctx, "", "--no-names", "dump-groups", s.bridge()); groupsErr == nil {
			b.Groups, groupsErr = parseGroups(text)
		}
	}()
	text, err := s.ofctl(ctx, "", "--no-names", "--no-stats", "dump-flows", s.bridge())
	if err == nil {
		b.Flows, err = parseFlows(text)
		b.Flows = slices.DeleteFunc(b.Flows, func(f Flow) bool { return f.learned() })
	}
	<-done
	if err := errors.Join(err, groupsErr); err != nil {
		return nil, fmt.Errorf("reading the flows of %s: %w", s.bridge(), err)
	}
	return &b, nil
}

// FlushZone forgets the connections of a zone.
func (s *OVS) FlushZone(ctx context.Context, zone uint16) error {
	if _, err := s.ofctl(ctx, "", "ct-flush", s.bridge(), fmt.Sprintf("zone=%d", zone)); err != nil {
		return fmt.Errorf("forgetting the connections of zone %d: %w", zone, err)
	}
	return nil
}

// Connections reads the datapath's connections.
func (s *OVS) Connections(ctx context.Context) ([]Connection, error) {
	text, err := s.appctl(ctx, "dpctl/dump-conntrack", s.datapathType()+"@ovs-"+s.datapathType())
	if err != nil {
		return nil, fmt.Errorf("reading connections: %w", err)
	}
	return parseConnections(text)
}

// InspectionIDs reads the datapath's connections.
func (s *OVS) InspectionIDs(ctx context.Context) ([]uint16, error) {
	connections, err := s.Connections(ctx)
	return inspectionIDs(connections), err
}

var flowPackets = regexp.MustCompile(`cookie=(0x[0-9a-f]+),.* n_packets=(\d+)`)

// Denials sums the packet counts of the flows that deny.
func (s *OVS) Denials(ctx context.Context) (map[uint32]uint64, error) {
	const mask = 0xffff00000000ffff
	text, err := s.ofctl(ctx, "", "--no-names", "dump-flows", s.bridge(),
		fmt.Sprintf("cookie=0x%x/0x%x", cookie(featureDenial, 0), uint64(mask)))
	if err != nil {
		return nil, fmt.Errorf("reading the counts of denied packets: %w", err)
	}
	return parseDenials(text)
}

var (
	meterStats = regexp.MustCompile(`meter[:=](\d+) `)
	bandStats  = regexp.MustCompile(`^\s*0: packet_count:(\d+)`)
)

// parseMeters reads the packets that the meters of signature engines have dropped. After a meter's line stands one for its only band,
// which counts what exceeds it.
func parseMeters(text string) map[uint8]uint64 {
	dropped := map[uint8]uint64{}
	slot := 0
	for line := range strings.Lines(text) {
		if m := meterStats.FindStringSubmatch(line); m != nil {
			id, _ := strconv.Atoi(m[1])
			slot = id - copyMeter
		}
		if m := bandStats.FindStringSubmatch(line); m != nil && slot >= ledger.SlotFirst && slot <= ledger.SlotLast {
			dropped[uint8(slot)], _ = strconv.ParseUint(m[1], 10, 64)
		}
	}
	return dropped
}

func parseDenials(text string) (map[uint32]uint64, error) {
	counts := map[uint32]uint64{}
	for _, m := range flowPackets.FindAllStringSubmatch(text, -1) {
		c, err := strconv.ParseUint(m[1], 0, 64)
		if err != nil {
			return nil, fmt.Errorf("the cookie %s is no number: %w", m[1], err)
		}
		packets, err := strconv.ParseUint(m[2], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("the packet count %s is no number: %w", m[2], err)
		}
		number, _ := splitCookie(c)
		counts[number] += packets
	}
	return counts, nil
}
