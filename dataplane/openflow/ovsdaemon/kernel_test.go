package ovsdaemon

import (
	"errors"
	"testing"
)

func TestChooseDatapath(t *testing.T) {
	none := errors.New("no module")
	for name, test := range map[string]struct {
		wanted, was Datapath
		kernel      error
		foreign     bool
		want        Datapath // "": an error
	}{
		"auto, with the module":               {wanted: DatapathAuto, want: DatapathKernel},
		"auto, without":                       {wanted: DatapathAuto, kernel: none, want: DatapathUserspace},
		"auto, somebody else has it":          {wanted: DatapathAuto, foreign: true, want: DatapathUserspace},
		"auto, as before":                     {wanted: DatapathAuto, was: DatapathUserspace, want: DatapathUserspace},
		"auto, the module is gone":            {wanted: DatapathAuto, was: DatapathKernel, kernel: none, want: DatapathUserspace},
		"kernel":                              {wanted: DatapathKernel, was: DatapathUserspace, want: DatapathKernel},
		"kernel, without the module":          {wanted: DatapathKernel, kernel: none},
		"kernel, and somebody else has it":    {wanted: DatapathKernel, foreign: true},
		"userspace":                           {wanted: DatapathUserspace, was: DatapathKernel, want: DatapathUserspace},
		"userspace, and somebody else has it": {wanted: DatapathUserspace, foreign: true, want: DatapathUserspace},
	} {
		t.Run(name, func(t *testing.T) {
			got, why, err := chooseDatapath(test.wanted, test.was, test.kernel, test.foreign)
			if got != test.want || (err != nil) != (test.want == "") {
				t.Errorf("%q, %q, %v; want %q", got, why, err, test.want)
			}
		})
	}
}
