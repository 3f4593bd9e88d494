package node

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// loadedFile tells, in a signature engine's directory, of which revisions the rules are that stand there: what an engine that is adopted
// inspects by until it has loaded others.
const loadedFile = "revisions.json"

type loadedRecord struct {
	// Rules is the hash that the engine has of the rules.
	Rules    string              `json:"rules"`
	Hash     string              `json:"hash"`
	Content  string              `json:"content"`
	At       time.Time           `json:"at"`
	RuleSets []plan.SignatureRef `json:"ruleSets"`
}

func (n *Node) loadedPath(slot uint8) string {
	return filepath.Join(n.signatureEngineAt(slot, false).Dir, loadedFile)
}

// writeLoaded writes down what an engine has loaded.
func (n *Node) writeLoaded(slot uint8, rules string, l *backgroundLoad) {
	text, err := json.Marshal(loadedRecord{Rules: rules, Hash: l.want.hash, Content: l.want.content, At: l.at, RuleSets: l.want.ruleSets})
	path := n.loadedPath(slot)
	if err == nil {
		err = os.WriteFile(path+".new", text, 0o640)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil { // the next agent loads the rules again before it says that they are there
		n.cfg.Log.Error(err, "Cannot write down which revisions a signature engine has loaded", "slot", slot)
	}
}

// readLoaded gives what an engine has loaded by the rules that it has; empty when that is not known.
func (n *Node) readLoaded(slot uint8, rules string) signatureLoad {
	var was loadedRecord
	text, err := os.ReadFile(n.loadedPath(slot))
	if err != nil || json.Unmarshal(text, &was) != nil || was.Rules != rules {
		return signatureLoad{}
	}
	return signatureLoad{hash: was.Hash, content: was.Content, at: was.At, ruleSets: was.RuleSets}
}
