package signatures

import (
	"maps"
	"net/netip"

	"go4.org/netipx"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// Vars are what $NAMES in rules stand for, all of them: each value as suricata.yaml has it ("any", "[10.0.0.0/8,!10.0.0.1]").
type Vars struct {
	Addresses, Ports map[string]string
}

const (
	homeNet     = "HOME_NET"
	externalNet = "EXTERNAL_NET"
)

// nowhere is HOME_NET where no Pod is selected. The engine has no empty list, and "any" would make EXTERNAL_NET one.
const nowhere = "0.0.0.0/32"

// defaultVariables has every variable that public rules use.
func defaultVariables() v1alpha1.RuleVariables {
	v := v1alpha1.RuleVariables{
		Addresses: map[string]v1alpha1.RuleValues{homeNet: {nowhere}, externalNet: {"!$" + homeNet}, "AIM_SERVERS": {"$" + externalNet}},
		Ports: map[string]v1alpha1.RuleValues{
			"HTTP_PORTS": {"80"}, "SHELLCODE_PORTS": {"!80"}, "ORACLE_PORTS": {"1521"}, "SSH_PORTS": {"22"}, "DNP3_PORTS": {"20000"},
			"MODBUS_PORTS": {"502"}, "FILE_DATA_PORTS": {"$HTTP_PORTS", "110", "143"}, "FTP_PORTS": {"21"}, "GENEVE_PORTS": {"6081"},
			"VXLAN_PORTS": {"4789"}, "TEREDO_PORTS": {"3544"}, "SIP_PORTS": {"5060", "5061"},
		},
	}
	for _, name := range []string{
		"HTTP_SERVERS", "SMTP_SERVERS", "SQL_SERVERS", "DNS_SERVERS", "TELNET_SERVERS", "DC_SERVERS", "DNP3_SERVER", "DNP3_CLIENT",
		"MODBUS_CLIENT", "MODBUS_SERVER", "ENIP_CLIENT", "ENIP_SERVER",
	} {
		v.Addresses[name] = v1alpha1.RuleValues{"$" + homeNet}
	}
	return v
}

// merge puts variables one over the other; of two with one name the later one counts.
func merge(all ...v1alpha1.RuleVariables) v1alpha1.RuleVariables {
	out := v1alpha1.RuleVariables{Addresses: map[string]v1alpha1.RuleValues{}, Ports: map[string]v1alpha1.RuleValues{}}
	for _, v := range all {
		maps.Copy(out.Addresses, v.Addresses)
		maps.Copy(out.Ports, v.Ports)
	}
	return out
}

// Variables merges a rule set's variables with those of an inspection, which come before them, and gives every variable that public
// rules use a value. Where neither sets HOME_NET it is home, the selected Pods' addresses, in as few prefixes as they can be said; and
// where neither sets EXTERNAL_NET it is what HOME_NET is not, or any where that is nothing. The variables must have passed
// CheckVariables.
func Variables(ruleSet, inspection v1alpha1.RuleVariables, home []netip.Prefix) Vars {
	merged := merge(defaultVariables(), homeVariables(home), ruleSet, inspection)
	_, set := ruleSet.Addresses[externalNet]
	_, setAgain := inspection.Addresses[externalNet]
	if !set && !setAgain && newResolver(addressKind, merged.Addresses).empty(externalNet) {
		merged.Addresses[externalNet] = v1alpha1.RuleValues{"any"}
	}
	return Vars{Addresses: rendered(addressKind, merged.Addresses), Ports: rendered(portKind, merged.Ports)}
}

func homeVariables(home []netip.Prefix) v1alpha1.RuleVariables {
	var b netipx.IPSetBuilder
	for _, p := range home {
		b.AddPrefix(p)
	}
	set, err := b.IPSet()
	if err != nil || len(set.Prefixes()) == 0 {
		return v1alpha1.RuleVariables{}
	}
	return v1alpha1.RuleVariables{Addresses: map[string]v1alpha1.RuleValues{homeNet: addressList(set)}}
}
