package node

import (
	"path/filepath"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/alerts"
	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/capture"
	"github.com/meerkat-dev/meerkat/dataplane/ledger"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// CaptureDir is where a node keeps packets unless Config.CaptureDir says otherwise.
func CaptureDir(stateDir string) string { return filepath.Join(stateDir, "capture") }

// followCapture has the packets kept that inspections ask for.
func (n *Node) followCapture(s plan.Snapshot, p *plan.NodePlan, numbers ledger.Numbers) {
	w := capture.Wanted{MaxBytes: map[string]int64{}}
	for i := range s.TrafficInspections {
		in := &s.TrafficInspections[i]
		if c := in.Spec.Capture; c != nil && c.Enabled {
			w.MaxBytes[in.Namespace+"/"+in.Name] = max(c.MaxBytes, smallestCapture)
		}
	}
	for i := range p.Taps {
		t := &p.Taps[i]
		if number, ok := numbers.Taps[t.Key]; ok {
			w.Taps = append(w.Taps, capture.Tap{Number: number, Direction: string(t.Direction), Inspections: t.Inspections})
		}
	}
	for i := range p.Profiles {
		e := n.signatures.engines[p.Profiles[i].Key]
		if e == nil || !anyOf(p.Profiles[i].Inspections, w.MaxBytes) {
			continue
		}
		a, _ := attach.SignaturePair(e.slot, false)
		w.Interfaces = append(w.Interfaces, a)
		if e.mode == v1alpha1.InspectionPrevent {
			b, _ := attach.SignaturePair(e.slot, true)
			w.Interfaces = append(w.Interfaces, b)
		}
	}
	if err := n.capture.Follow(w); err != nil {
		n.cfg.Log.Error(err, "Packets are not kept as they should be")
	}
}

// smallestCapture is what is kept at least, in bytes: what the schema asks for.
const smallestCapture = 1 << 20

func anyOf(names []string, in map[string]int64) bool {
	for _, name := range names {
		if _, ok := in[name]; ok {
			return true
		}
	}
	return false
}

// keepPackets keeps the connection of an alert.
func (n *Node) keepPackets(r alerts.Record, e *alerts.Event) {
	n.capture.Alert(r.Tap, e.Inspections, capture.Connection{
		Time: e.Time, SID: e.Signature.SID, Message: e.Signature.Message, Direction: string(e.Direction), Protocol: e.Protocol,
		Source:      capture.End{Address: e.Source.Address, Name: e.Source.Name},
		Destination: capture.End{Address: e.Destination.Address, Name: e.Destination.Name},
	})
}

// CapturePacketsLost counts packets that came faster than they could be kept.
func (n *Node) CapturePacketsLost() uint64 { return n.capture.Lost() }
