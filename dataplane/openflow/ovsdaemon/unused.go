package ovsdaemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// RemoveUnused removes the files of a switch that does not run, when its database has no bridge: who made the bridges has left the
// node. The directory itself may be a mount point, and stays.
func RemoveUnused(ctx context.Context, opts Options) error {
	db := filepath.Join(opts.Dir, "conf.db")
	if !exists(db) {
		return nil
	}
	const bridges = `["Open_vSwitch",{"op":"select","table":"Bridge","where":[],"columns":["name"]}]`
	answer, err := databaseTool(ctx, opts, "query", db, bridges)
	if err != nil {
		return err
	}
	var results []struct {
		Rows []any `json:"rows"`
	}
	if err := json.Unmarshal([]byte(answer), &results); err != nil || len(results) != 1 {
		return fmt.Errorf("ovsdb-tool answered %q to a question for bridges: %w", answer, err)
	}
	if len(results[0].Rows) > 0 {
		return nil
	}
	entries, err := os.ReadDir(opts.Dir)
	errs := []error{err}
	for _, entry := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(opts.Dir, entry.Name())))
	}
	return errors.Join(errs...)
}
