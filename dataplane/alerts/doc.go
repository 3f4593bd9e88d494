// Package alerts turns what signature engines report into alert events: one line of JSON that says which signature of which rule set
// spoke, for which inspection, between which Pods, and through which Service. What an engine writes is taken for untrusted input: it
// repeats what strangers sent.
package alerts
