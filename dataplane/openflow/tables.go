package openflow

import "fmt"

// table is an OpenFlow table. Packets go only forward, to tables with higher numbers, as goto_table demands.
type table uint8

// The tables, in the order in which packets meet them.
const (
	tableClassifier     table = 0
	tableClient         table = 5
	tableConntrack      table = 10
	tableConntrackRead  table = 20
	tableConntrackState table = 30
	tableNewConnection  table = 40
	tableAskClient      table = 45
	tableServiceLB      table = 50
	tableNodePort       table = 55
	tableAffinity       table = 56
	tableKept           table = 57
	tableKeep           table = 58
	tablePeerPort       table = 60
	tablePeerClass      table = 70
	tableNodeSource     table = 75
	tablePortVerdict    table = 80
	tableTaps           table = 85
	tableCommit         table = 90
	tableCommitted      table = 95
	tableOutput         table = 100
	tableAfterEngine    table = 110
	tableAfterPolicy    table = 111
	tableTapped         table = 112
	tableCopy           table = 113
	tablePrevent        table = 114
	tableMetered        table = 115
	tableAfterPrevent   table = 116
	tableUnDNAT         table = 118
	tableDeliver        table = 120
)

// tableDocs says of each table, in order, its name and what it is for.
var tableDocs = []struct {
	table table
	name  string
	about string
}{
	{tableClassifier, "Classifier", "which side of which edge, or which engine port, a packet comes from"},
	{tableClient, "Client", "finds the edge of a packet that comes back from being asked for its client"},
	{tableConntrack, "Conntrack", "looks the connection up in the edge's zone, without NAT: its mark and label are read, nothing is rewritten"},
	{tableConntrackRead, "ConntrackRead", "replies of inspected connections go to the engine as they are; the others get NAT as usual"},
	{tableConntrackState, "ConntrackState", "connections that were judged by the group's present epoch go on; all others are judged"},
	{tableNewConnection, "NewConnection", "keeps replies from opening a connection backwards, and what is not governed from being judged"},
	{tableAskClient, "AskClient", "asks the node's conntrack who hides behind the node's address"},
	{tableServiceLB, "ServiceLB", "chooses an endpoint for a Service's address; nothing is rewritten yet"},
	{tableNodePort, "NodePort", "the same for a node's address and a Service's node port"},
	{tableAffinity, "Affinity", "the endpoints that keep clients, as the switch has learned them by itself"},
	{tableKept, "Kept", "to the endpoint that keeps the client, where it still is one; else one is chosen"},
	{tableKeep, "Keep", "has the chosen endpoint keep the client"},
	{tablePeerPort, "PeerPort", "the server's port, into a register"},
	{tablePeerClass, "PeerClass", "the peer's address gives a class: the longest prefix wins"},
	{tableNodeSource, "NodeSource", "gives a packet that was judged by its client's address the node's back"},
	{tablePortVerdict, "PortVerdict", "class, protocol and port give the verdict"},
	{tableTaps, "Taps", "which inspections look at a new connection"},
	{tableCommit, "Commit", "writes the verdict, and the Service's translation, into the connection"},
	{tableCommitted, "Committed", "stops connections that conntrack did not take in, since it is full: nothing would hold their verdict"},
	{tableOutput, "Output", "to the engine, or straight on"},
	{tableAfterEngine, "AfterEngine", "takes the VLAN tag off; the un-DNAT of replies is done here and only here"},
	{tableAfterPolicy, "AfterPolicy", "what the engine for policies has let pass: which inspections look at it, by its edge and port"},
	{tableTapped, "Tapped", "all other packets: which inspections look at it, by its connection"},
	{tableCopy, "Copy", "copies for the signature engines that detect"},
	{tablePrevent, "Prevent", "to the signature engine that prevents, or straight on"},
	{tableMetered, "Metered", "copies, as many a second as their engine may get"},
	{tableAfterPrevent, "AfterPrevent", "finds the edge of a packet that comes back from there"},
	{tableUnDNAT, "UnDNAT", "the un-DNAT of replies that every engine has seen"},
	{tableDeliver, "Deliver", "out of the edge's other port"},
}

// String gives the table's name.
func (t table) String() string {
	for _, d := range tableDocs {
		if d.table == t {
			return d.name
		}
	}
	return fmt.Sprintf("table %d", uint8(t))
}
