// Package protocols says what a FlowExport's names of protocols stand for, and what is wrong with it that its schema cannot say. It is pure:
// the manager, which tells of it, and the agents, which do it, come to the same result.
package protocols
