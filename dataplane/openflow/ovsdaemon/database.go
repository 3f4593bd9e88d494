package ovsdaemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// openDatabase makes the database of an earlier run ready for these programs, or makes a new one where there is none. One that
// cannot be read is put aside: what was in it comes back with what writes it.
func openDatabase(ctx context.Context, opts Options, log func(string)) error {
	db := filepath.Join(opts.Dir, "conf.db")
	if !exists(db) {
		return createDatabase(ctx, opts)
	}
	schema, err := schemaOf(opts.Programs)
	if err != nil {
		return err
	}
	answer, err := databaseTool(ctx, opts, "needs-conversion", db, schema)
	if err == nil && answer == "yes" {
		log("Converting the database to the schema of this version of Open vSwitch")
		_, err = databaseTool(ctx, opts, "convert", db, schema)
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	aside := db + ".unreadable"
	log(fmt.Sprintf("The database of an earlier run cannot be read and is put aside as %s; starting with an empty one: %v", aside, err))
	if err := os.Rename(db, aside); err != nil {
		return fmt.Errorf("putting aside a database that cannot be read: %w", err)
	}
	return createDatabase(ctx, opts)
}

func databaseTool(ctx context.Context, opts Options, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, opts.Programs.Path("ovsdb-tool"), args...).CombinedOutput()
	said := strings.TrimSpace(string(out))
	if err != nil {
		return "", errors.Join(fmt.Errorf("ovsdb-tool %s: %w", args[0], err), errors.New(firstLine(out)))
	}
	return said, nil
}
