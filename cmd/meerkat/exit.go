package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// Exit codes, the same for every command but replay and promote, whose 1 and 3 are their own: a gate must tell a difference from a failure.
const (
	exitOK          = 0
	exitUnexpected  = 1
	exitUsage       = 2
	exitUnable      = 3
	exitInterrupted = 130
)

const exitCodes = `Exit codes:
  0    done; in a lab, every probe did what its scenario expects
  1    a probe did something else than its scenario or trace says; of convert, something has no equal; of suggest, something is left out
  2    the command line or a file is wrong; nothing was changed
  3    it could not be done (the message says what is missing)
  130  interrupted; everything is cleaned up`

// exitError ends the program with a code of its own. Its error may be nil: then all has been said already.
type exitError struct {
	code int
	error
}

func (e exitError) Error() string {
	if e.error == nil {
		return ""
	}
	return e.error.Error()
}

func (e exitError) Unwrap() error { return e.error }

// usageError marks an error as the user's to mend.
func usageError(err error) error {
	if err == nil {
		return nil
	}
	return exitError{exitUsage, err}
}

// usageArgs marks the errors of a check of arguments as the user's to mend.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usageError(fmt.Errorf("%w\nSee '%s --help'", err, c.CommandPath()))
		}
		return nil
	}
}
