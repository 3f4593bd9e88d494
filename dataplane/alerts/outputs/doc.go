// Package outputs forwards events, which are JSON objects, to where people collect them: the standard output, files, syslog servers and
// web servers.
//
// Each output has a buffer of its own and a goroutine that empties it, so that a slow or dead one holds up neither those who report
// events nor the other outputs. What cannot be delivered is lost in the end, and counted by output and reason: never silently.
//
//	f, err := outputs.New(configs, outputs.Options{Log: log})
//	registry.MustRegister(f)
//	f.Send(line)          // never blocks
//	err = f.Set(others)   // the outputs that stay the same go on
//	err = f.Close(ctx)    // delivers what it can until ctx ends
package outputs
