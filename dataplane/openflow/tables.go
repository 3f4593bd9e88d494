package openflow

import "fmt"

// table is an OpenFlow table. Packets go only forward, to tables with higher numbers, as goto_table demands.
type table uint8

// The tables, in the order in which packets meet them.
const (
	tableClassifier     table = 0
	tableConntrack      table = 10
	tableConntrackRead  table = 20
	tableConntrackState table = 30
	tableNewConnection  table = 40
	tableServiceLB      table = 50
	tablePeerPort       table = 60
	tablePeerClass      table = 70
	tablePortVerdict    table = 80
	tableCommit         table = 90
	tableCommitted      table = 95
	tableOutput         table = 100
	tableAfterEngine    table = 110
	tableDeliver        table = 120
)

// tableDocs says of each table, in order, its name and what it is for.
var tableDocs = []struct {
	table table
	name  string
	about string
}{
	{tableClassifier, "Classifier", "which side of which edge, or which engine port, a packet comes from"},
	{tableConntrack, "Conntrack", "looks the connection up in the edge's zone, without NAT: its mark and label are read, nothing is rewritten"},
	{tableConntrackRead, "ConntrackRead", "replies of inspected connections go to the engine as they are; the others get NAT as usual"},
	{tableConntrackState, "ConntrackState", "connections that were judged by the group's present epoch go on; all others are judged"},
	{tableNewConnection, "NewConnection", "keeps replies from opening a connection backwards, and what is not governed from being judged"},
	{tableServiceLB, "ServiceLB", "chooses an endpoint for a Service's address; nothing is rewritten yet"},
	{tablePeerPort, "PeerPort", "the server's port, into a register"},
	{tablePeerClass, "PeerClass", "the peer's address gives a class: the longest prefix wins"},
	{tablePortVerdict, "PortVerdict", "class, protocol and port give the verdict"},
	{tableCommit, "Commit", "writes the verdict, and the Service's translation, into the connection"},
	{tableCommitted, "Committed", "stops connections that conntrack did not take in, since it is full: nothing would hold their verdict"},
	{tableOutput, "Output", "to the engine, or straight on"},
	{tableAfterEngine, "AfterEngine", "takes the VLAN tag off; the un-DNAT of replies is done here and only here"},
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
