package engine

import (
	"context"
	"encoding/json"
)

// inForce is what the next supervisor must find to know that a running engine has the rules that stand in Dir.
type inForce struct {
	// Hash is that of the rules that were loaded.
	Hash string `json:"hash"`
	// ReloadTime is what the engine says to that since: it changes with each load, and is another engine's only by chance.
	ReloadTime string `json:"reloadTime"`
}

// remember writes down what the engine has loaded; the rules directory is as it was then.
func (e *Engine) remember(reloadTime string) {
	m, err := readManifest(paths(e.cfg.Dir).rules())
	if err != nil {
		return
	}
	text, err := json.Marshal(inForce{Hash: m.Hash, ReloadTime: reloadTime})
	if err == nil {
		err = writeFile(e.cfg.Dir, loadedFile, text)
	}
	if err != nil { // the next supervisor reloads then, that is all
		e.log.Error(err, "Cannot write down which rules are in force")
	}
}

// hasItsRules tells whether the running engine is known to have loaded the rules directory as it is now.
func (e *Engine) hasItsRules(ctx context.Context) bool {
	text, err := readFile(e.cfg.Dir, loadedFile)
	if err != nil {
		return false
	}
	var was inForce
	if json.Unmarshal(text, &was) != nil || was.ReloadTime == "" {
		return false
	}
	m, err := readManifest(paths(e.cfg.Dir).rules())
	if err != nil || m.Hash != was.Hash {
		return false
	}
	now, err := e.command.ReloadTime(ctx)
	return err == nil && now == was.ReloadTime && e.verify(ctx) == nil
}
