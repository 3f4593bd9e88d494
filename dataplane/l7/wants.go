package l7

import (
	"strconv"
	"strings"
)

// wants says what the entry asks for in its condition of that number (see conditions), as a clause about its rule: "whose path is
// /public/*".
func (e Entry) wants(condition int) string {
	if condition == 0 {
		return "which is for " + e.protocol()
	}
	switch {
	case e.HTTP != nil:
		return e.HTTP.wants(condition)
	case e.GRPC != nil && condition == 1:
		return "which is for gRPC calls"
	case e.GRPC != nil && condition == 2:
		return "whose service is " + e.GRPC.Service
	case e.GRPC != nil:
		return "whose method is " + or(e.GRPC.Methods)
	case e.TLS != nil:
		return "whose server name is " + or(e.TLS.ServerNames)
	case e.DNS != nil:
		return "whose name is " + or(e.DNS.Names)
	}
	return ""
}

func (e Entry) protocol() string {
	switch {
	case e.HTTP != nil:
		return ProtocolHTTP
	case e.GRPC != nil:
		return "grpc"
	case e.TLS != nil:
		return ProtocolTLS
	case e.DNS != nil:
		return ProtocolDNS
	}
	return e.Protocol
}

func (h HTTP) wants(condition int) string {
	switch {
	case condition == 1:
		return "whose version is HTTP/" + strings.Join(h.Versions, " or HTTP/")
	case condition == 2:
		return "whose host is " + or(h.Hosts)
	case condition == 3 && h.Path != nil:
		return "whose path is " + h.Path.pattern()
	case condition == 4:
		return "whose method is " + or(h.Methods)
	}
	var headers []string
	for _, m := range h.Headers {
		headers = append(headers, m.pattern())
	}
	return "which wants " + strings.Join(headers, " and ")
}

func (m StringMatch) pattern() string {
	switch {
	case m.Prefix != "":
		return m.Prefix + "*"
	case m.Regex != "":
		return "like " + m.Regex
	}
	return m.Exact
}

func (m HeaderMatch) pattern() string {
	switch {
	case m.Present:
		return "the header " + m.Name
	case m.Regex != "":
		return "a header " + m.Name + " like " + m.Regex
	}
	return "the header " + m.Name + ": " + strconv.Quote(m.Exact)
}

func or(list []string) string { return strings.Join(list, " or ") }
