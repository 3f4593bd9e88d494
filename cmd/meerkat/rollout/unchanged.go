package rollout

import (
	"bytes"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// UnchangedSince gives a time since which a policy is certainly as it is now: when it was made, when it was never changed; otherwise the last
// time that somebody wrote who has written a part of its spec. It may have been unchanged for longer. It is zero when nothing tells.
func UnchangedSince(p *v1alpha1.L7Policy) time.Time {
	if p.Generation == 1 {
		return p.CreationTimestamp.Time
	}
	var last time.Time
	for _, m := range p.ManagedFields {
		if m.Subresource != "" || m.Time == nil || m.FieldsV1 == nil || !bytes.Contains(m.FieldsV1.GetRawBytes(), []byte(`"f:spec"`)) {
			continue
		}
		if m.Time.After(last) {
			last = m.Time.Time
		}
	}
	return last
}
