package openflow

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// Inspections by signatures come after policies: what a policy denies, no signature engine sees.
//
//	judged ─ policy engine, where there is one ─ copies to engines that detect ─ the engine that prevents, if any ─ un-DNAT ─ on
//
// Which inspections look at a connection depends on its edge, its direction and the server's port, and on nothing else. It is found
// out when the connection is judged (Taps), and written into it. What comes back from the policy engine has lost its connection, and a
// request that was translated cannot be looked up again; there it is worked out once more, by edge and port (AfterPolicy).
//
// Every engine must see the same two addresses in both directions: so requests are tapped after their DNAT, and replies before their
// un-DNAT, which is done last, in UnDNAT. On a node without inspections none of these tables is there.

// inspects says whether the node has inspections.
func (r *renderer) inspects() bool { return len(r.plan.Taps) > 0 }

// judged is where connections go that have their verdict.
func (r *renderer) judged() string {
	if r.inspects() {
		return gotoTable(tableTaps)
	}
	return gotoTable(tableCommit)
}

// onward is where packets go that no policy has the engine look at.
func (r *renderer) onward() string {
	if r.inspects() {
		return gotoTable(tableTapped)
	}
	return gotoTable(tableDeliver)
}

// tapWrites writes the taps' registers into the connection.
func (r *renderer) tapWrites() []string {
	return []string{
		move(fieldTapMarks.name(), markTapBits), move(fieldDetectTap.name(), labelDetect), move(fieldPrevent.name(), labelPrevent),
		move(fieldPreventProcess.name(), labelProcess),
	}
}

// taps looks up which inspections look at a new connection.
func (r *renderer) taps() {
	for i := range r.groups {
		g := &r.groups[i]
		for _, t := range g.Taps {
			c, does := r.tap(g, t)
			for _, mask := range portMasks(t.Port, t.EndPort) {
				r.b.add(tableTaps, priorityTap, c, fmt.Sprintf("Inspections of %s %s for group %s: %s.", t.Protocol, portRange{t.Port, t.EndPort}, g.Key, r.tapNames(t)),
					newMatch(is(fieldGroup, g.number), is(fieldProto, protoNumber(t.Protocol)), within(fieldPeerPort, mask)),
					actions(append(does, r.tapMarks(t), gotoTable(tableCommit))...))
			}
		}
		if t, some := widest(g.Taps, plan.UDP); some {
			c, does := r.tap(g, t)
			for _, f := range ipFamilies {
				r.b.add(tableTaps, priorityTapFragment, c, fmt.Sprintf("Fragments of UDP, whose port is not known, for group %s: %s.", g.Key, r.tapNames(t)),
					newMatch(is(fieldGroup, g.number), is(fieldEndpointChosen, 0), proto(f), fragmentUDP), actions(append(does, r.tapMarks(t), gotoTable(tableCommit))...))
			}
		}
	}
	r.b.add(tableTaps, priorityMiss, cookie(featurePipeline, 0), "Connections that no inspection looks at.", newMatch(), gotoTable(tableCommit))
}

// widest gives what fragments have, whose port is not known: of each mode the first tap that any port has. One too many is looked at
// rather than one too few.
func widest(taps []plan.PortTaps, protocols ...plan.Protocol) (t plan.PortTaps, some bool) {
	for _, own := range taps {
		if len(protocols) == 0 || slices.Contains(protocols, own.Protocol) {
			t.Detect, t.Prevent, some = cmp.Or(t.Detect, own.Detect), cmp.Or(t.Prevent, own.Prevent), true
		}
	}
	return t, some
}

// tap gives the cookie of a group's taps, and the actions that load them.
func (r *renderer) tap(g *group, t plan.PortTaps) (c uint64, does []string) {
	var detect, prevent uint16
	if t.Detect != "" {
		detect = r.tapNumber(g, t.Detect)
		does = append(does, load(fieldDetectTap, uint32(detect)))
	}
	if t.Prevent != "" {
		prevent = r.tapNumber(g, t.Prevent)
		does = append(does, load(fieldPrevent, uint32(r.slotOf(t.Prevent))<<fieldPreventSlot.lo|uint32(prevent)),
			load(fieldPreventProcess, uint32(r.processOf(t.Prevent))))
	}
	return cookie(featureTap, uint32(cmp.Or(detect, prevent))), does
}

// tapBits are markTapped and markTapOpen of a connection with these taps, from bit 0.
func (r *renderer) tapBits(t plan.PortTaps) uint32 {
	bits := uint32(markTapped | markTapOpen)
	if prevent := r.plan.Tap(t.Prevent); prevent != nil && !prevent.FailOpen {
		bits = markTapped
	}
	return bits >> fieldTapMarks.lo
}

func (r *renderer) tapMarks(t plan.PortTaps) string { return load(fieldTapMarks, r.tapBits(t)) }

func (r *renderer) tapNumber(g *group, key string) uint16 {
	number, known := r.numbers.Taps[key]
	if !known || !idFits(g.Direction, number) {
		r.b.fail("tap %s of group %s has no number for %s (it has %d): hand out numbers for the plan before rendering", key, g.Key, g.Direction, number)
	}
	return number
}

// slotOf gives the slot of the engine that a tap of mode Prevent leads through.
func (r *renderer) slotOf(key string) uint8 {
	t := r.plan.Tap(key)
	if t == nil || len(t.Profiles) != 1 {
		r.b.fail("tap %s leads through no engine or several: the plan is wrong", key)
		return 0
	}
	return r.slot(t.Profiles[0])
}

// processOf gives the process of that engine.
func (r *renderer) processOf(key string) uint8 {
	if t := r.plan.Tap(key); t != nil && len(t.Profiles) == 1 {
		return r.ports.Signatures[t.Profiles[0]].Process
	}
	return 0
}

func (r *renderer) slot(profile string) uint8 {
	slot := r.numbers.Slots[profile]
	if slot < ledger.SlotFirst || slot > ledger.SlotLast {
		r.b.fail("the signature engine %s has no slot within %d..%d: hand out numbers for the plan before rendering", profile, ledger.SlotFirst, ledger.SlotLast)
	}
	return slot
}

func (r *renderer) tapNames(t plan.PortTaps) string {
	names := ""
	for _, key := range []string{t.Detect, t.Prevent} {
		if own := r.plan.Tap(key); own != nil {
			if names != "" {
				names += ", "
			}
			names += fmt.Sprintf("%s by %s", own.Mode, joinNames(own.Inspections))
		}
	}
	return names
}

func joinNames(names []string) string { return strings.Join(names, " and ") }

// tappedBackwards lets TCP segments that can only be replies pass, and takes them for no connection: as with governed ports (see
// newConnection), they must not open one the wrong way round. Of inspections of all ports it cannot be told which they are.
func (r *renderer) tappedBackwards(g *group) {
	for _, t := range g.Taps {
		if t.Protocol != plan.TCP || t.Port <= 1 && t.EndPort == 65535 {
			continue
		}
		does, what := gotoTable(tableDeliver), "pass"
		if r.tapBits(t) == markTapped>>fieldTapMarks.lo {
			does, what = r.stray(g.Direction), "are dropped"
		}
		for _, mask := range portMasks(t.Port, t.EndPort) {
			for _, name := range [...]string{"tcp", "tcp6"} {
				r.b.add(tableNewConnection, priorityBackwards-1, cookie(featureBackwards, g.number),
					fmt.Sprintf("Replies from %s, which inspections of group %s look at, without their connection: they %s.", portRange{t.Port, t.EndPort}, g.Key, what),
					newMatch(ctState("+new+trk"), proto(name), is(fieldReverseGroup, g.number), tpSrc(mask), notSYN), does)
			}
		}
	}
}

// hasTaps says whether inspections look at connections that a group judges.
func (r *renderer) hasTaps(group uint32) bool {
	for i := range r.groups {
		if r.groups[i].number == group {
			return len(r.groups[i].Taps) > 0
		}
	}
	return false
}

// chained adds to the actions of a packet that comes back from the policy engine what AfterPolicy must know.
func (r *renderer) chained(group uint32, reply bool, does ...string) []string {
	if !r.hasTaps(group) {
		return does
	}
	does = append(does, load(fieldGroup, group))
	if reply {
		does = append(does, load(fieldReply, 1))
	}
	return does
}

// afterPolicy is the last action of such a packet; usual is what it is where no inspection looks.
func (r *renderer) afterPolicy(group uint32, usual string) string {
	if r.hasTaps(group) {
		return gotoTable(tableAfterPolicy)
	}
	return usual
}

// unDNATAfterPolicy does the same for a reply that is un-DNATed.
func (r *renderer) unDNATAfterPolicy(group uint32, usual string) []string {
	if r.hasTaps(group) {
		return []string{load(fieldUnDNAT, 1), gotoTable(tableAfterPolicy)}
	}
	return []string{usual}
}

// signatureEngines leads packets by the signature engines.
func (r *renderer) signatureEngines() {
	r.afterPolicies()
	r.tapped()
	r.copies()
	r.prevent()
	r.afterPrevent()
	c := cookie(featureTap, 0)
	for _, f := range ipFamilies {
		r.b.add(tableUnDNAT, priorityStep, c, "Replies of translated connections.", newMatch(proto(f), is(fieldUnDNAT, 1)), translate(tableDeliver))
	}
	r.b.add(tableUnDNAT, priorityMiss, c, "All others.", newMatch(), gotoTable(tableDeliver))
}

// afterPolicies works out the taps of packets that the policy engine let pass.
func (r *renderer) afterPolicies() {
	r.b.add(tableAfterPolicy, priorityReset, cookie(featureTap, 0), "The agent's TCP resets, which are of denied connections.",
		newMatch(is(fieldPath, pathReset)), gotoTable(tableUnDNAT))
	for i := range r.groups {
		g := &r.groups[i]
		for _, t := range g.Taps {
			r.tapAfterPolicy(g, t)
		}
		if t, some := widest(g.Taps); some {
			c, does := r.tap(g, t)
			for _, f := range ipFamilies {
				for _, part := range [...]condition{firstFragment, laterFragment} {
					r.b.add(tableAfterPolicy, priorityTapFragment, c, fmt.Sprintf("Fragments, whose port is not known, of group %s: %s.", g.Key, r.tapNames(t)),
						newMatch(proto(f), is(fieldGroup, g.number), part), actions(append(does, load(fieldTapped, r.tapBits(t)), gotoTable(tableCopy))...))
				}
			}
		}
	}
	r.b.add(tableAfterPolicy, priorityMiss, cookie(featureTap, 0), "Packets that no inspection looks at.", newMatch(), gotoTable(tableUnDNAT))
}

func (r *renderer) tapAfterPolicy(g *group, t plan.PortTaps) {
	c, does := r.tap(g, t)
	does = append(does, load(fieldTapped, r.tapBits(t)))
	onward := gotoTable(tableCopy)
	replies := onward
	if t.Prevent != "" && t.Protocol == plan.TCP {
		replies = show(tableCopy) // the connection tells which process of the engine has seen its replies
	}
	for _, mask := range portMasks(t.Port, t.EndPort) {
		for _, name := range shorthands(t.Protocol) {
			add := func(whose string, reply uint32, port condition, onward string) {
				r.b.add(tableAfterPolicy, priorityTap, c, fmt.Sprintf("%s %s %s of group %s: %s.", whose, t.Protocol, portRange{t.Port, t.EndPort}, g.Key, r.tapNames(t)),
					newMatch(proto(name), is(fieldGroup, g.number), is(fieldReply, reply), port), actions(append(slices.Clone(does), onward)...))
			}
			add("To", 0, tpDstIn(mask), onward)
			add("From", 1, tpSrc(mask), replies)
		}
	}
}

// shorthands gives a protocol's names in both families.
func shorthands(p plan.Protocol) []string {
	for _, t := range transports {
		if t.protocol == p {
			return []string{t.v4, t.v6}
		}
	}
	return nil
}

// tapped reads the taps of a packet's connection.
func (r *renderer) tapped() {
	c := cookie(featureTap, 0)
	read := []string{move(labelDetect, fieldDetectTap.name()), move(labelPrevent, fieldPrevent.name()), move(markTapBits, fieldTapped.name())}
	add := func(priority int, comment string, does []string, conditions ...condition) {
		r.b.add(tableTapped, priority, c, comment, newMatch(conditions...), actions(does...))
	}
	reply := is(fieldPath, pathReplyBypass)
	add(priorityStep+30, "Replies of tapped connections that are translated.",
		append(slices.Clone(read), load(fieldReply, 1), load(fieldUnDNAT, 1), gotoTable(tableCopy)), ctMark(markTapped|markNATed), reply)
	add(priorityStep+20, "Other replies of tapped connections.", append(slices.Clone(read), load(fieldReply, 1), gotoTable(tableCopy)), ctMark(markTapped), reply)
	add(priorityStep+10, "Requests of tapped connections, translated.", append(slices.Clone(read), gotoTable(tableCopy)), ctMark(markTapped))
	add(priorityStep, "Replies that should be with the policy engine, which is not there, of translated connections.",
		[]string{load(fieldUnDNAT, 1), gotoTable(tableUnDNAT)}, ctMark(markNATed), reply)
	add(priorityMiss, "Connections that no inspection looks at.", []string{gotoTable(tableDeliver)})
}

// copies gives copies to the engines that detect, as many as their meters allow. A copy has the tap's number for a VLAN id.
//
// A meter drops the packet that it is met with, and not only a copy, unless the datapath makes a clone for it. Open vSwitch (3.5) takes no
// meter inside of clone; and where all that is inside can be undone, as a resubmit can, it makes no clone and has the original meet the
// meter. An output that may cut packets off cannot be undone: so there is one, to the port that the packet is made to have come from,
// where no packet is sent to. The test TestCopiesAreCloned looks at what the datapath gets.
func (r *renderer) copies() {
	nowhere := cmp.Or(r.ports.Agent, r.ports.EngineA)
	for i := range r.plan.Taps {
		t := &r.plan.Taps[i]
		if t.Mode == v1alpha1.InspectionPrevent {
			continue
		}
		number := r.numbers.Taps[t.Key]
		var does []string
		for _, profile := range t.Profiles {
			if r.ports.Signatures[profile].A != 0 && nowhere != 0 {
				does = append(does, fmt.Sprintf("clone(%s)", actions(load(fieldCopySlot, uint32(r.slot(profile))), loadInPort(nowhere),
					resubmit(tableMetered), fmt.Sprintf("output(port=%d,max_len=64)", nowhere))))
			}
		}
		if len(does) > 0 {
			r.b.add(tableCopy, priorityTap, cookie(featureTap, uint32(number)), fmt.Sprintf("Copies for %s, %s.", joinNames(t.Inspections), t.Direction),
				newMatch(is(fieldDetectTap, uint32(number))), actions(append(does, gotoTable(tablePrevent))...))
		}
	}
	r.b.add(tableCopy, priorityMiss, cookie(featureTap, 0), "Packets that nobody gets a copy of.", newMatch(), gotoTable(tablePrevent))
	for i := range r.plan.Profiles {
		p := &r.plan.Profiles[i]
		if port := r.ports.Signatures[p.Key].A; p.Mode != v1alpha1.InspectionPrevent && port != 0 {
			slot := uint32(r.slot(p.Key))
			r.b.add(tableMetered, priorityTap, cookie(featureSignature, slot), "Copies for the engine of "+joinNames(p.Inspections)+".",
				newMatch(is(fieldCopySlot, slot)),
				actions(fmt.Sprintf("meter:%d", copyMeter+slot), "push_vlan:0x8100", move(fieldDetectTap.name(), "OXM_OF_VLAN_VID[]"), output(port)))
		}
	}
	r.b.add(tableMetered, priorityMiss, cookie(featureTap, 0), "Nothing comes here.", newMatch(), drop)
}

// prevent sends packets through the engines that prevent, or holds the failure policy.
func (r *renderer) prevent() {
	r.preventing(func(p *plan.Profile, slot uint8, ports SignaturePorts) {
		c := cookie(featureSignature, uint32(slot))
		who := joinNames(p.Inspections)
		of := is(fieldPreventSlot, uint32(slot))
		if !ports.Up || ports.A == 0 || ports.B == 0 {
			r.b.withoutPrevent(slot, who)
			return
		}
		through := func(port uint32) string {
			return actions("push_vlan:0x8100", move(fieldPreventTap.name(), "OXM_OF_VLAN_VID[]"), output(port))
		}
		reply := is(fieldReply, 1)
		r.b.add(tablePrevent, priorityTap, c, fmt.Sprintf("Requests for %s.", who), newMatch(is(fieldReply, 0), of), through(ports.A))
		r.b.add(tablePrevent, priorityTap+2, c, fmt.Sprintf("Replies for %s, as they are.", who), newMatch(reply, of, ctProcess(ports.Process)), through(ports.B))
		for _, name := range shorthands(plan.TCP) { // as of those for the engine of policies
			r.b.add(tablePrevent, priorityTap+1, c, "The first reply that this process sees of a connection which is older: twice, for "+who+".",
				newMatch(proto(name), reply, of), actions(through(ports.B), output(ports.B), popVLAN, commitSlot(labelProcessShift, ports.Process)))
		}
		r.b.add(tablePrevent, priorityTap, c, fmt.Sprintf("Other replies for %s.", who), newMatch(reply, of), through(ports.B))
	})
	c := cookie(featureTap, 0)
	r.b.add(tablePrevent, priorityStep, c, "Packets that go through no engine.", newMatch(is(fieldPreventSlot, 0)), gotoTable(tableUnDNAT))
	r.b.add(tablePrevent, priorityMiss, c, "Packets for an engine that is gone, until their connection is judged anew.", newMatch(), drop)
}

// withoutPrevent has the failure policy of each connection hold in place of a signature engine.
func (b *Bundle) withoutPrevent(slot uint8, who string) {
	c, of := cookie(featureSignature, uint32(slot)), is(fieldPreventSlot, uint32(slot))
	b.add(tablePrevent, priorityTap+1, c, "No engine, fail open: "+who+".", newMatch(of, is(fieldTapOpen, 1)), gotoTable(tableUnDNAT))
	b.add(tablePrevent, priorityTap, c, "No engine, fail closed: "+who+".", newMatch(of), drop)
}

// preventing calls f for each engine that prevents.
func (r *renderer) preventing(f func(p *plan.Profile, slot uint8, ports SignaturePorts)) {
	for i := range r.plan.Profiles {
		p := &r.plan.Profiles[i]
		if p.Mode == v1alpha1.InspectionPrevent {
			f(p, r.slot(p.Key), r.ports.Signatures[p.Key])
		}
	}
}

// fromSignatureEngines classifies what comes back from the engines that prevent, and carries their probes.
func (r *renderer) fromSignatureEngines() {
	r.preventing(func(p *plan.Profile, slot uint8, ports SignaturePorts) {
		if ports.A == 0 || ports.B == 0 {
			return
		}
		c := cookie(featureSignature, uint32(slot))
		who := joinNames(p.Inspections)
		if r.ports.Agent != 0 {
			r.probesOf(c, slot, ports.A, ports.B, "the engine of "+who)
		}
		for _, way := range []struct {
			what        string
			port, reply uint32
		}{{"Replies", ports.A, 1}, {"Requests", ports.B, 0}} {
			comment, does := way.what+" that come back from the engine of "+who+".", actions(load(fieldReply, way.reply), gotoTable(tableAfterPrevent))
			if !ports.Up {
				comment, does = way.what+" that an engine returns which does not inspect, and too late: of "+who+".", drop
			}
			r.b.add(tableClassifier, priorityEngine, c, comment, newMatch(inPort(way.port), vlanTCI(vlanPresent, vlanPresent)), does)
		}
	})
}

// afterPrevent finds a packet's edge again, as afterEngine does.
func (r *renderer) afterPrevent() {
	for i := range r.edges {
		e := &r.edges[i]
		if r.hasTaps(e.ingress) || r.hasTaps(e.egress) {
			r.edgeAfterPrevent(e)
		}
	}
	r.b.add(tableAfterPrevent, priorityMiss, cookie(featureTap, 0), "Packets of an edge that is gone.", newMatch(), drop)
}

func (r *renderer) edgeAfterPrevent(e *edge) {
	const egress, ingress = vlanPresent | vlanEgress, vlanPresent
	const mask = vlanPresent | vlanEgress
	add := func(priority int, comment, match string, does ...string) {
		r.b.add(tableAfterPrevent, priority, cookie(featureEdge, uint32(e.number)), fmt.Sprintf(comment, e.Pod), match, actions(does...))
	}
	add(priorityEdge, "Requests that Pod %s sends.", newMatch(is(fieldReply, 0), vlanTCI(egress, mask), dlSrc(e.ports.MAC)),
		popVLAN, load(fieldOutPort, e.ports.Uplink), gotoTable(tableDeliver))
	add(priorityEdge, "Requests to Pod %s.", newMatch(is(fieldReply, 0), vlanTCI(ingress, mask), dlDst(e.ports.MAC)),
		popVLAN, load(fieldOutPort, e.ports.Pod), gotoTable(tableDeliver))
	add(priorityEdge, "Replies to Pod %s, not un-DNATed yet.", newMatch(is(fieldReply, 1), vlanTCI(egress, mask), dlDst(e.ports.MAC)),
		popVLAN, load(fieldZone, e.zone()), load(fieldOutPort, e.ports.Pod), load(fieldUnDNAT, 1), gotoTable(tableUnDNAT))
	add(priorityEdge, "Replies that Pod %s sends.", newMatch(is(fieldReply, 1), vlanTCI(ingress, mask), dlSrc(e.ports.MAC)),
		popVLAN, load(fieldOutPort, e.ports.Uplink), gotoTable(tableDeliver))
	if !e.Hairpin {
		return
	}
	for _, f := range ipFamilies {
		add(priorityHairpin, "Replies of Pod %s to itself.",
			newMatch(is(fieldReply, 1), proto(f), vlanTCI(ingress, mask), dlSrc(e.ports.MAC), dstIn(single(hairpinAddress(f)))),
			popVLAN, load(fieldZone, e.hairpinZone()), load(fieldOutPort, e.ports.Uplink), load(fieldUnDNAT, 1), gotoTable(tableUnDNAT))
	}
}
