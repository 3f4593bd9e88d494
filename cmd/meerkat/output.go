package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// outputFlag adds -o with the given forms; the first is the default.
func outputFlag(c *cobra.Command, value *string, forms ...string) {
	c.Flags().StringVarP(value, "output", "o", forms[0], "form of the output: "+strings.Join(forms, " or "))
	before := c.PreRunE
	c.PreRunE = func(c *cobra.Command, args []string) error {
		if !slices.Contains(forms, *value) {
			return usageError(fmt.Errorf("-o %s: is none of %s", *value, strings.Join(forms, ", ")))
		}
		if before != nil {
			return before(c, args)
		}
		return nil
	}
}
