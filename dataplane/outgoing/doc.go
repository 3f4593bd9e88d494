// Package outgoing is what connections to the receivers of events and of flow records have in common.
package outgoing
