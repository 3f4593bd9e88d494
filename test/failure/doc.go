// Package failure tests what happens when parts of the data plane die, hang, slow down or are changed by someone else, under
// traffic. It measures times, so nothing else should run beside it.
package failure
