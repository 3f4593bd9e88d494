package signatures

import "slices"

// enableForFlowbits switches rules on that set a flowbit which an enabled rule asks for, and rules that those need, and so on. They
// get noalert: whoever switched them off does not want to hear of them.
func enableForFlowbits(rules []*rule) int {
	settersOff := map[string][]*rule{}
	var asking []*rule
	for _, r := range rules {
		if r.enabled {
			asking = append(asking, r)
			continue
		}
		for _, bit := range r.flowbits {
			if slices.Contains([]string{"set", "setx", "unset", "toggle"}, bit.verb) {
				for _, name := range bit.names {
					settersOff[name] = append(settersOff[name], r)
				}
			}
		}
	}
	switchedOn := 0
	for len(asking) > 0 {
		r := asking[len(asking)-1]
		asking = asking[:len(asking)-1]
		for _, bit := range r.flowbits {
			if bit.verb != "isset" && bit.verb != "isnotset" {
				continue
			}
			for _, name := range bit.names {
				for _, setter := range settersOff[name] {
					if !setter.enabled {
						setter.enabled, setter.forFlowbits = true, true
						setter.quieten()
						asking = append(asking, setter)
						switchedOn++
					}
				}
				delete(settersOff, name)
			}
		}
	}
	return switchedOn
}
