package plan

// shadows notes which rules with l7 lose their effect to a rule that allows the same at L4.
type shadows struct {
	// by holds, for a rule with l7, the rules that allow at L4 some of what it would have inspected.
	by map[*rule]map[*rule]bool
	// total are the rules that have no effect at all on the Pods of some group.
	total map[*rule]bool
	// lost and effective are the rules, of the group that is being judged, that lost or kept their effect for some class and
	// port.
	lost, effective map[*rule]bool
}

func newShadows() *shadows {
	return &shadows{
		by: map[*rule]map[*rule]bool{}, total: map[*rule]bool{},
		lost: map[*rule]bool{}, effective: map[*rule]bool{},
	}
}

// note takes in the rules that match one class of peers and one range of ports.
func (s *shadows) note(m *matches) {
	for _, r := range m.inspect {
		if len(m.allow) == 0 {
			s.effective[r] = true
			continue
		}
		s.lost[r] = true
		if s.by[r] == nil {
			s.by[r] = map[*rule]bool{}
		}
		for _, a := range m.allow {
			s.by[r][a] = true
		}
	}
}

// endGroup draws the conclusion of what was noted for a group.
func (s *shadows) endGroup() {
	for r := range s.lost {
		if !s.effective[r] {
			s.total[r] = true
		}
	}
	clear(s.lost)
	clear(s.effective)
}
