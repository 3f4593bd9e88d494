package node

import (
	"context"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/attach"
	"github.com/meerkat-dev/meerkat/dataplane/openflow"
)

func (n *Node) addSignaturePorts(ctx context.Context, e *signatureEngine) error {
	names := e.portNames()
	numbers, err := n.cfg.Switch.AddPorts(ctx, names...)
	if err != nil {
		return err
	}
	e.setPorts(numbers)
	return nil
}

// portNames are the bridge's ends of the engine's pairs.
func (e *signatureEngine) portNames() []string {
	_, a := attach.SignaturePair(e.slot, false)
	if e.mode != v1alpha1.InspectionPrevent {
		return []string{a}
	}
	_, b := attach.SignaturePair(e.slot, true)
	return []string{a, b}
}

// pairEnds are all ends of the engine's pairs.
func (e *signatureEngine) pairEnds() []string {
	ends := e.portNames()
	a, _ := attach.SignaturePair(e.slot, false)
	b, _ := attach.SignaturePair(e.slot, true)
	return append(ends, []string{a, b}[:len(ends)]...)
}

func (e *signatureEngine) setPorts(numbers map[string]uint32) {
	names := e.portNames()
	e.ports.A = numbers[names[0]]
	if len(names) > 1 {
		e.ports.B = numbers[names[1]]
	}
}

// signaturePorts are the ports that flows may lead to.
func (n *Node) signaturePorts() map[string]openflow.SignaturePorts {
	all := make(map[string]openflow.SignaturePorts, len(n.signatures.engines))
	for key, e := range n.signatures.engines {
		all[key] = e.ports
	}
	return all
}
