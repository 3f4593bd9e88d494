package failure

import "github.com/meerkat-dev/meerkat/test/testlab"

// labs names the labs of these tests.
var labs testlab.Labs
