package flowexport

import "net/netip"

type requestKey struct {
	client, server netip.AddrPort
	protocol       uint8
}

// requests are the last requests of connections: of the last 8,192 at least, and of twice as many at most.
type requests struct {
	now, before map[requestKey]Request
}

const mostRequests = 8192

func (r *requests) put(q Request) {
	q.Client, q.Server = unmap(q.Client), unmap(q.Server)
	if r.now == nil || len(r.now) >= mostRequests {
		r.now, r.before = map[requestKey]Request{}, r.now
	}
	r.now[requestKey{q.Client, q.Server, q.Protocol}] = q
}

func (r *requests) get(k requestKey) (Request, bool) {
	q, ok := r.now[k]
	if !ok {
		q, ok = r.before[k]
	}
	return q, ok
}
