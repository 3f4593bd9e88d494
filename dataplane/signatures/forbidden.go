package signatures

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// What a rule must not do: run code, read or write files, change what the engine tells or lets pass beyond the rule's own match, or
// make Pods' packets other than they were. A rule set is written by whoever may write a RuleSet, and that is not an administrator of
// nodes; the engine's own configuration forbids the same once more.

// actions that a rule may have. pass hides what it matches from the other rules of the same inspection, and from nobody else's.
var allowedActions = []string{"alert", "drop", "pass"}

var forbiddenActions = map[string]string{
	"reject":  "has the engine send packets of its own, past what Open vSwitch knows of the connection: write drop",
	"accept":  "is for firewall rules, which are Meerkat's own: write pass, or an L7Policy",
	"config":  "changes what the engine tells of connections, whoever looks at them: leave it out",
	"sdrop":   "is another engine's: write drop",
	"log":     "is another engine's: write alert",
	"dynamic": "is another engine's: write alert", "activate": "is another engine's: write alert",
}

const (
	runsCode   = "runs code in the engine: say it with content, pcre and flowbits"
	readsFiles = "reads a file of the node, and there is none for rules: "
	writes     = "writes to the node's disk, which a rule must not: leave it out"
)

// forbiddenKeywords must not stand in any rule, whatever their value.
var forbiddenKeywords = map[string]string{
	"lua": runsCode, "luajit": runsCode, "luaxform": runsCode,
	"filestore": writes, "tls.store": writes, "tls_store": writes,
	"filemd5":      readsFiles + "list the hashes as rules of file.data, or leave it out",
	"filesha1":     readsFiles + "list the hashes as rules of file.data, or leave it out",
	"filesha256":   readsFiles + "list the hashes as rules of file.data, or leave it out",
	"datarep":      readsFiles + "use dataset without load, save and state",
	"iprep":        readsFiles + "put the addresses into a variable, and its name into the rule's header",
	"bypass":       "takes whole connections out of inspection, even after the rule is gone: write pass as the rule's action",
	"replace":      "makes packets other than the Pod sent them: write drop as the rule's action",
	"config":       "changes what the engine tells of connections, whoever looks at them: leave it out",
	"nfq_set_mark": "changes how the node routes the packet: leave it out",
}

// forbiddenDataset are the parts of a dataset that a rule must not have.
var forbiddenDataset = map[string]string{
	"load": readsFiles + "leave load out, and fill the set by rules with dataset:set",
	"save": writes, "state": writes,
	"memcap":   "could take all of the engine's memory: leave it out",
	"hashsize": "could take all of the engine's memory: leave it out",
}

// check gives everything that is wrong with an enabled rule, or "".
func (r *rule) check() string {
	faults := r.checkText()
	if r.fault != "" {
		faults = append(faults, r.fault)
	}
	if !slices.Contains(allowedActions, r.action) {
		faults = append(faults, refusedAction(r.action))
	}
	for _, o := range r.options {
		if why := forbiddenKeywords[o.name]; why != "" {
			faults = append(faults, fmt.Sprintf("the keyword %s %s", o.name, why))
		}
		if o.name == "dataset" {
			faults = append(faults, checkDataset(o.value)...)
		}
	}
	return strings.Join(faults, "; ")
}

func refusedAction(action string) string {
	for name, why := range forbiddenActions {
		if strings.HasPrefix(strings.ToLower(action), name) {
			return fmt.Sprintf("the action %s %s", quote(action), why)
		}
	}
	return fmt.Sprintf("the action %s is none of alert, drop and pass: write one of them", quote(action))
}

func checkDataset(value string) (faults []string) {
	for part := range strings.SplitSeq(value, ",") {
		name, _, _ := strings.Cut(strings.TrimSpace(part), " ")
		name, _, _ = strings.Cut(name, "\t")
		if why := forbiddenDataset[strings.ToLower(name)]; why != "" {
			faults = append(faults, fmt.Sprintf("a dataset with %s %s", name, why))
		}
	}
	return faults
}

// checkText finds what the engine would misread without a word.
func (r *rule) checkText() (faults []string) {
	if len(r.text) > maxRule {
		faults = append(faults, fmt.Sprintf("it has %d bytes, and the engine reads %d: make two rules of it", len(r.text), maxRule))
	}
	if i := strings.IndexFunc(r.text, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }); i >= 0 {
		faults = append(faults, fmt.Sprintf("it has a control character, 0x%02x: in content write it as |%02X|, in pcre as \\x%02x", r.text[i], r.text[i], r.text[i]))
	}
	if !utf8.ValidString(r.text) {
		faults = append(faults, "it is not UTF-8: in content write such bytes as |C3 A4|, in pcre as \\xc3\\xa4")
	}
	return faults
}
