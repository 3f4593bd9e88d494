package signatures

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

// Revision names what nodes run: twelve hexadecimal digits of the hash of the rules and the variables. Where a rule is from makes no
// difference.
func Revision(r *Result, vars v1alpha1.RuleVariables) string {
	h := sha256.New()
	_ = json.NewEncoder(h).Encode(vars) // of strings only, keys sorted; ends with a newline
	h.Write(r.Rules)
	return hex.EncodeToString(h.Sum(nil))[:12]
}
