package verdict

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// Judge makes verdict events. It is for use by one goroutine.
type Judge struct {
	// Node is the name that the events carry.
	Node string
	// ReplyInterface is the one by which replies enter the engine.
	ReplyInterface string
	// RuleDetail, when set, says in a sentence what a rule of the engine is about, by its sid; "" when it is not known.
	RuleDetail func(sid uint32) string
	// BeforeDNAT, when set, gives the address that the client of a connection through an edge's own Service DNAT sent to, and
	// an invalid one where there was no DNAT, or none any more; seen is when the packet passed.
	BeforeDNAT func(client, server netip.AddrPort, protocol string, seen time.Time) netip.AddrPort

	told recent
}

// FromEngine makes the event of what the engine reports, and false when it is nothing new or of no rule set.
func (j *Judge) FromEngine(d *Directory, e engine.Event) (Event, bool) {
	set := d.ruleSets[e.VLAN]
	if set == nil || (e.Alert == nil && e.Drop == nil && !e.Over) || !j.news(e) {
		return Event{}, false
	}
	client, server := e.Src, e.Dst
	if j.reply(e) {
		client, server = server, client
	}
	ev := Event{
		Time: e.Time, Verdict: Deny, Node: j.Node, Policies: set.Policies, Direction: set.Direction, Layer: 7,
		Protocol: e.Proto, Client: d.client(client, server), Server: d.pod(server), Application: e.AppProto, FlowID: e.FlowID,
	}
	if set.Audit {
		ev.Verdict = Audit
	}
	if j.BeforeDNAT != nil && set.Direction == plan.Egress {
		ev.Service = d.service(j.BeforeDNAT(client, server, e.Proto, e.Time))
	}
	ev.HTTP, ev.TLS, ev.DNS = asked(e)
	if e.Over {
		return allowed(ev, set, e)
	}
	if notJudged(e) {
		ev.Verdict, ev.Reason = Drop, e.Drop.Reason
		ev.Why = []string{"no rule denies this, but the engine cannot follow the connection: " + e.Drop.Reason}
		return ev, true
	}
	ev.Why = j.why(set, e)
	if e.Alert != nil {
		ev.SID = e.Alert.SID
	}
	if e.Drop != nil {
		ev.Reason = e.Drop.Reason
	}
	return ev, true
}

// reply tells whether the event's packet is one from the server. Which way it came tells that, also of connections whose beginning
// the engine did not see.
func (j *Judge) reply(e engine.Event) bool {
	switch {
	case e.Over:
		return false // Src is always the client
	case e.Interface == "":
		return e.Direction == "to_client"
	}
	return e.Interface == j.ReplyInterface
}

// notJudged tells whether the engine dropped the packet since it did not know what to make of it, or had no memory for it.
func notJudged(e engine.Event) bool {
	return e.Alert == nil && e.Drop != nil && (strings.HasPrefix(e.Drop.Reason, "stream ") || strings.HasSuffix(e.Drop.Reason, " memcap"))
}

// FromFlows makes the event of a connection that the flows denied, and false when it is nothing new.
func (j *Judge) FromFlows(d *Directory, p engine.DeniedPacket) (Event, bool) {
	denial, ok := d.denials[p.Number]
	// A client that gets no answer sends its first packet again: tell of it once.
	if !ok || !j.told.add(fmt.Sprintf("l4 %s %s %s", p.Proto, p.Src, p.Dst)) {
		return Event{}, false
	}
	e := Event{
		Time: p.Time, Verdict: Deny, Node: j.Node, Policies: denial.Policies, Direction: denial.Direction, Layer: 4,
		Protocol: p.Proto, Client: d.pod(p.Src), Server: d.pod(p.Dst),
		Why: []string{fmt.Sprintf("no rule allows %s to port %d from this peer", p.Proto, p.Dst.Port())},
	}
	if denial.Full {
		e.Reason, e.Why = ReasonFull, []string{
			"Open vSwitch holds as many connections as it may, and takes in no more: see ovs-appctl dpctl/ct-get-maxconns and dpctl/ct-get-limits",
		}
	}
	return e, true
}

// news tells whether an event is about something new: several rules may speak of one request, and every later packet of a
// denied connection is reported as dropped.
func (j *Judge) news(e engine.Event) bool {
	flow := fmt.Sprintf("flow %d", e.FlowID)
	if e.Over && e.TxID < 0 { // a TLS handshake: one a connection
		return !j.told.has(flow)
	}
	if e.TxID < 0 || e.Drop != nil && e.Alert == nil {
		return j.told.add(flow)
	}
	isNew := j.told.add(fmt.Sprintf("%s tx %d", flow, e.TxID))
	if !e.Over {
		j.told.add(flow)
	}
	return isNew
}

// allowed makes the event of a request that passed. Those of which a denial or an audit was told are no news, and do not come here.
func allowed(ev Event, set *plan.RuleSet, e engine.Event) (Event, bool) {
	ev.Verdict = Allow
	ev.Rule = allowedBy(set.Entries, e)
	return ev, ev.Rule != ""
}

func asked(e engine.Event) (*HTTP, *TLS, *DNS) {
	switch {
	case e.HTTP != nil:
		return &HTTP{Version: httpVersion(e.HTTP.Version), Method: e.HTTP.Method, Path: e.HTTP.URL, Host: e.HTTP.Host}, nil, nil
	case e.TLS != nil:
		return nil, &TLS{ServerName: e.TLS.ServerName}, nil
	case e.DNS != nil:
		return nil, nil, &DNS{Names: queryNames(e.DNS)}
	}
	return nil, nil, nil
}

// recent remembers the last few thousand strings.
type recent struct {
	seen  map[string]struct{}
	order []string
}

const remembered = 8192

func (r *recent) has(s string) bool {
	_, ok := r.seen[s]
	return ok
}

// add tells whether s is new.
func (r *recent) add(s string) bool {
	if _, ok := r.seen[s]; ok {
		return false
	}
	if r.seen == nil {
		r.seen = map[string]struct{}{}
	}
	if len(r.order) >= remembered {
		for _, old := range r.order[:remembered/2] {
			delete(r.seen, old)
		}
		r.order = slices.Clone(r.order[remembered/2:])
	}
	r.seen[s] = struct{}{}
	r.order = append(r.order, s)
	return true
}
