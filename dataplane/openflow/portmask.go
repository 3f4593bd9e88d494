package openflow

import "math/bits"

// portMask is a value and the bits of a port that must equal it.
type portMask struct{ value, mask uint16 }

func (p portMask) masked() masked { return masked{uint32(p.value), uint32(p.mask)} }

// portMasks gives the fewest prefix masks that cover the ports from first to last, both included: at most 30, one for a single
// port and one (with mask 0) for all. It gives none when last is before first.
func portMasks(first, last uint16) []portMask {
	var masks []portMask
	for from, to := uint32(first), uint32(last); from <= to; {
		size := uint32(1) << 16
		if from != 0 {
			size = 1 << bits.TrailingZeros32(from)
		}
		for from+size-1 > to {
			size >>= 1
		}
		masks = append(masks, portMask{uint16(from), uint16(-size)})
		from += size
	}
	return masks
}
