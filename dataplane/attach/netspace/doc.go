// Package netspace runs code in Linux network namespaces, and creates, lists and deletes the named ones that `ip netns`
// shows. A namespace belongs to an operating-system thread, while goroutines wander between threads: every function here
// keeps its goroutine on one thread as long as that thread is away from home, and lets a thread that could not be brought
// home end with its goroutine, so that no other goroutine ever runs in a foreign namespace by accident.
package netspace
