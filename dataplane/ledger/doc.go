// Package ledger hands out the numbers that flows and rules need (edges, groups, InspectionIDs) and remembers them across
// restarts, so that a number means the same thing as long as any connection may carry it.
package ledger
