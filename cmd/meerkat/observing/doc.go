// Package observing reads the events that agents write, chooses among them, and shows them as they come.
package observing
