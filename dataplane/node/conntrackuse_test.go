package node

import (
	"context"
	"errors"
	"testing"

	"github.com/meerkat-dev/meerkat/dataplane/openflow"
)

// kernelSwitch is a switch on the kernel's datapath.
type kernelSwitch struct{ openflow.Switch }

func (kernelSwitch) ConntrackUse(context.Context) (used, limit uint64, err error) {
	return 0, 0, errors.ErrUnsupported
}

func TestConntrackUseOfTheKernel(t *testing.T) {
	n := &Node{cfg: Config{Switch: kernelSwitch{}}}
	used, limit, err := n.ConntrackUse(t.Context())
	if err != nil || limit == 0 || used > limit {
		t.Errorf("the kernel holds %d connections of %d: %v", used, limit, err)
	}
}
