package verdict

import (
	"slices"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/l7"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// why has a sentence for each entry that might have allowed what the event is about.
func (j *Judge) why(set *plan.RuleSet, e engine.Event) []string {
	if e.HTTP == nil && e.TLS == nil && e.DNS == nil {
		return []string{whyGate(set, e)}
	}
	// What the entries allow can be denied for what it is (malformed) or for what became of it (the server switched to another
	// protocol). Then the rule says why, and not the entries.
	if sure, _ := matching(set.Entries, e); len(sure) > 0 && e.Alert != nil && j.RuleDetail != nil {
		if detail := j.RuleDetail(e.Alert.SID); detail != "" {
			return []string{detail}
		}
	}
	var all []string
	for _, r := range requests(e) {
		for _, text := range whyNot(set.Entries, r) {
			if !slices.Contains(all, text) {
				all = append(all, text)
			}
		}
	}
	return all
}

func whyNot(entries []l7.Entry, r l7.Request) []string {
	if len(entries) == 0 {
		return []string{"no rule allows this peer and port"}
	}
	var all []string
	for _, entry := range entries {
		if entry.HTTP != nil && len(entry.HTTP.Headers) > 0 {
			// The engine does not report headers: when all else is satisfied, they are what the request lacks.
			plain := *entry.HTTP
			plain.Headers = nil
			if l7.Allows([]l7.Entry{{HTTP: &plain}}, r) {
				all = append(all, entry.Rule+": it lacks "+headers(entry.HTTP.Headers))
				continue
			}
			entry.HTTP = &plain
		}
		for _, reason := range l7.Explain([]l7.Entry{entry}, r) {
			all = append(all, reason.String())
		}
	}
	return all
}

// allowedBy names the rules that allow what the event is about. The engine does not report headers: an entry that wants some is
// named when nothing else allows the request, since then it must have been that one.
func allowedBy(entries []l7.Entry, e engine.Event) string {
	sure, perhaps := matching(entries, e)
	if len(sure) == 0 {
		sure = perhaps
	}
	return strings.Join(sure, ", ")
}

// matching names the rules that allow what the event is about, and those that do so if it has the headers that they want.
func matching(entries []l7.Entry, e engine.Event) (sure, perhaps []string) {
	for _, entry := range entries {
		name := entry.Policy + ": " + entry.Rule
		list := &sure
		if entry.HTTP != nil && len(entry.HTTP.Headers) > 0 {
			plain := *entry.HTTP
			plain.Headers = nil
			entry.HTTP, list = &plain, &perhaps
		}
		all := true
		for _, r := range requests(e) {
			all = all && l7.Allows([]l7.Entry{entry}, r)
		}
		if all && !slices.Contains(*list, name) {
			*list = append(*list, name)
		}
	}
	return sure, perhaps
}

func headers(wanted []l7.HeaderMatch) string {
	texts := make([]string, len(wanted))
	for i, h := range wanted {
		switch {
		case h.Present:
			texts[i] = "the header " + h.Name
		case h.Regex != "":
			texts[i] = "a header " + h.Name + " that matches " + h.Regex
		default:
			texts[i] = "the header " + h.Name + ": " + h.Exact
		}
	}
	return strings.Join(texts, ", or ")
}

// whyGate explains a denial of which no request is known.
func whyGate(set *plan.RuleSet, e engine.Event) string {
	allowed := protocols(set.Entries)
	only := ", and only " + strings.Join(allowed, " or ") + " is allowed"
	switch {
	case len(set.Entries) == 0:
		return "no rule allows this peer and port"
	case e.Drop != nil && e.Drop.Reason == engine.DropByParser:
		return "the engine cannot follow the messages of this connection any more"
	case e.AppProto == "" || e.AppProto == "failed":
		return "the protocol is not identified" + only
	case e.Proto == "UDP" && slices.Contains(allowed, e.AppProto):
		return "the datagram is no message of the protocol " + e.AppProto + " that can be judged"
	default:
		return "the protocol is " + e.AppProto + only
	}
}

func protocols(entries []l7.Entry) []string {
	var all []string
	for _, e := range entries {
		name := e.Protocol
		switch {
		case e.HTTP != nil:
			name = "http"
		case e.GRPC != nil:
			name = "grpc"
		case e.TLS != nil:
			name = "tls"
		case e.DNS != nil:
			name = "dns"
		}
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

// requests are what the event is about, in the evaluator's terms: one request, one handshake, or each query of a message.
func requests(e engine.Event) []l7.Request {
	switch {
	case e.HTTP != nil:
		return []l7.Request{{
			Protocol: l7.ProtocolHTTP, Version: httpVersion(e.HTTP.Version), Method: e.HTTP.Method, Target: e.HTTP.URL, Host: e.HTTP.Host,
		}}
	case e.TLS != nil:
		return []l7.Request{{Protocol: l7.ProtocolTLS, ServerName: e.TLS.ServerName}}
	case e.DNS != nil:
		var all []l7.Request
		for _, name := range queryNames(e.DNS) {
			all = append(all, l7.Request{Protocol: l7.ProtocolDNS, Name: name})
		}
		return all
	}
	return nil
}

func queryNames(d *engine.DNS) []string {
	names := make([]string, len(d.Queries))
	for i, q := range d.Queries {
		names[i] = strings.ToLower(strings.TrimSuffix(q.Name, "."))
	}
	return names
}

// httpVersion gives "1" or "2" of the engine's "HTTP/1.1" or "2".
func httpVersion(v string) string {
	major, _, _ := strings.Cut(strings.TrimPrefix(v, "HTTP/"), ".")
	return major
}
