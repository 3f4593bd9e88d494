// Package suricatarules compiles allow-lists (l7.Entry) into rules for a Suricata in firewall mode, such that the engine lets
// through exactly what l7.Allows lets through. It knows neither Kubernetes nor Open vSwitch.
//
// A rule set is what one VLAN id stands for. The engine must run with EngineYAML in its configuration: the rules are exact
// under those settings only.
//
// How a request is judged stands at Compile. What is denied whatever the allow-list says:
//
//   - HTTP/0.9, CONNECT, and HTTP/1 by a method that the engine does not recognise HTTP by (l7.HTTP1Methods);
//   - HTTP/1 requests that two servers may read in different ways: folded or doubled fields that matter, two lengths, odd
//     transfer codings, chunk extensions, blanks in the target;
//   - HTTP/2 requests whose pseudo-header fields are not as they must be, and those whose header takes more than one frame (16 KiB
//     unless the server asks for larger ones);
//   - targets and fields of more than 64 KiB, more than 1,024 fields, and whatever else the engine cannot parse. This last holds
//     in Audit too: the engine itself drops such connections.
//
// What is not judged: TLS after its ClientHello, and the traffic of protocols that are allowed by name.
//
// HTTP/1 requests that a client pipelines, and that are cut in the middle of a line, are delayed by one retransmission. Where that has
// happened, so is the first segment of each open HTTP/1 connection of the same Pod after the engine reloads its rules; see older.go.
package suricatarules
