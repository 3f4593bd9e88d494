package plan

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// A group's peers are sorted into classes in three steps.
//
// First, every address of a Pod or endpoint that some allowance lists gets a set: the allowances that list it. Sets are made by
// refinement: going through the allowances one by one, the addresses of each move from the set they are in to that set with the
// allowance added, so that addresses with equal histories share a set and nothing is compared.
//
// Then all prefixes that occur (addresses, blocks, exceptions) are visited in order, which visits each after the prefixes that
// contain it, and the blocks that hold for a prefix are those of the next shorter one, with its own added and its exceptions
// taken away. That is what holds for each address that has no longer prefix, hence the longest prefix wins.
//
// Last, the set of an address and the blocks that hold for it together give its allowances, and these its verdicts. Equal
// verdicts are one class, and a prefix whose class is that of the next shorter one is left out.

// classifier works out the peers and classes of one group.
type classifier struct {
	x     *index
	judge *portJudge
	// allows are the group's allowances in the order of their rules' numbers.
	allows []*allowance

	// setOf is the set of each address, by id; 0 is the empty set.
	setOf []int32
	// sets are chains: the set that this one extends, and the allowance that it adds.
	sets []addressSet

	// classOf remembers the class of each pair of address set and block set.
	classOf map[[2]int32]int
	// byContent finds a class by its verdicts.
	byContent map[string]int
	classes   [][]PortVerdict
}

type addressSet struct{ parent, adds int32 }

func newClassifier(x *index, g *groupDraft, j *portJudge) *classifier {
	c := &classifier{
		x: x, judge: j,
		setOf:     make([]int32, len(x.addresses)),
		sets:      []addressSet{{}},
		classOf:   map[[2]int32]int{},
		byContent: map[string]int{},
	}
	for i := range g.members {
		for k := range g.members[i].allows {
			c.allows = append(c.allows, &g.members[i].allows[k])
		}
	}
	return c
}

// classify returns a group's peers and classes.
func (c *classifier) classify() ([]Peer, [][]PortVerdict) {
	c.refine()
	peers := c.walk(c.prefixes())
	return renumber(peers, c.classes)
}

func (c *classifier) refine() {
	moved := map[int32]int32{}
	for i, a := range c.allows {
		clear(moved)
		for _, id := range a.addresses {
			from := c.setOf[id]
			to, ok := moved[from]
			if !ok {
				to = int32(len(c.sets))
				c.sets = append(c.sets, addressSet{from, int32(i)})
				moved[from] = to
			}
			c.setOf[id] = to
		}
	}
}

// prefixNode is a prefix that occurs in a group's rules.
type prefixNode struct {
	prefix netip.Prefix
	// set is the address set, for a single address.
	set int32
	// adds and removes are blocks, by number, that begin to hold here or are excepted.
	adds, removes []int32
}

// blockAllows are, for each numbered block of a group, the allowance it belongs to.
type blockAllows []int32

// prefixes returns all prefixes that occur, sorted, and whose blocks they are.
func (c *classifier) prefixes() ([]prefixNode, blockAllows) {
	var nodes []prefixNode
	var owners blockAllows
	place := map[netip.Prefix]int{}
	at := func(p netip.Prefix) *prefixNode {
		i, ok := place[p]
		if !ok {
			i = len(nodes)
			place[p] = i
			nodes = append(nodes, prefixNode{prefix: p})
		}
		return &nodes[i]
	}
	for _, b := range everybody() {
		at(b.prefix)
	}
	for i, a := range c.allows {
		for _, b := range a.blocks {
			number := int32(len(owners))
			owners = append(owners, int32(i))
			at(b.prefix).adds = append(at(b.prefix).adds, number)
			for _, e := range b.except {
				at(e).removes = append(at(e).removes, number)
			}
		}
	}
	slices.SortFunc(nodes, func(a, b prefixNode) int { return a.prefix.Compare(b.prefix) })
	return c.mergeAddresses(nodes), owners
}

// mergeAddresses puts the addresses that have a set among the sorted prefixes.
func (c *classifier) mergeAddresses(nodes []prefixNode) []prefixNode {
	listed := 0
	for _, set := range c.setOf {
		if set != 0 {
			listed++
		}
	}
	merged := make([]prefixNode, 0, len(nodes)+listed)
	for id, set := range c.setOf {
		if set == 0 {
			continue
		}
		own := netip.PrefixFrom(c.x.addresses[id], c.x.addresses[id].BitLen())
		for len(nodes) > 0 && nodes[0].prefix.Compare(own) < 0 {
			merged, nodes = append(merged, nodes[0]), nodes[1:]
		}
		n := prefixNode{prefix: own}
		if len(nodes) > 0 && nodes[0].prefix == own {
			n, nodes = nodes[0], nodes[1:]
		}
		n.set = set
		merged = append(merged, n)
	}
	return append(merged, nodes...)
}

// ancestor is a prefix that contains the one that is being visited.
type ancestor struct {
	prefix netip.Prefix
	blocks []int32 // the numbers, sorted, of those that hold
	set    int32   // the number of that list
	class  int
}

// walk visits the sorted prefixes and returns those that differ in class from the next shorter one.
func (c *classifier) walk(nodes []prefixNode, owners blockAllows) []Peer {
	var peers []Peer
	var path []ancestor
	known := map[string]int32{}
	for i := range nodes {
		n := &nodes[i]
		for len(path) > 0 && !path[len(path)-1].prefix.Contains(n.prefix.Addr()) {
			path = path[:len(path)-1]
		}
		own := ancestor{prefix: n.prefix, class: -1}
		parentClass := -1
		if len(path) > 0 {
			parent := &path[len(path)-1]
			own.blocks, own.set, parentClass = parent.blocks, parent.set, parent.class
		}
		if len(path) == 0 || len(n.adds)+len(n.removes) > 0 {
			own.blocks = holding(own.blocks, n)
			own.set = number(known, own.blocks)
		}
		own.class = c.class(n.set, own.set, own.blocks, owners)
		if own.class != parentClass {
			peers = append(peers, Peer{n.prefix, own.class})
		}
		if !n.prefix.IsSingleIP() {
			path = append(path, own)
		}
	}
	return peers
}

// holding returns the blocks that hold at a prefix, given those that hold around it.
func holding(around []int32, n *prefixNode) []int32 {
	blocks := slices.Concat(around, n.adds)
	slices.Sort(blocks)
	return slices.DeleteFunc(blocks, func(b int32) bool { return slices.Contains(n.removes, b) })
}

// number numbers lists: equal lists get equal numbers.
func number(known map[string]int32, list []int32) int32 {
	key := make([]byte, 0, 4*len(list))
	for _, v := range list {
		key = binary.BigEndian.AppendUint32(key, uint32(v))
	}
	n, ok := known[string(key)]
	if !ok {
		n = int32(len(known))
		known[string(key)] = n
	}
	return n
}

// class returns the class of the addresses for which an address set and a list of blocks hold.
func (c *classifier) class(set, blockSet int32, blocks []int32, owners blockAllows) int {
	pair := [2]int32{set, blockSet}
	if class, ok := c.classOf[pair]; ok {
		return class
	}
	var hold []int32
	for ; set != 0; set = c.sets[set].parent {
		hold = append(hold, c.sets[set].adds)
	}
	for _, b := range blocks {
		hold = append(hold, owners[b])
	}
	allows := make([]*allowance, 0, len(hold))
	for _, i := range sortedUnique(hold) {
		allows = append(allows, c.allows[i])
	}
	verdicts := c.judge.verdicts(allows)
	content := encodeVerdicts(verdicts)
	class, ok := c.byContent[content]
	if !ok {
		class = len(c.classes)
		c.byContent[content] = class
		c.classes = append(c.classes, verdicts)
	}
	c.classOf[pair] = class
	return class
}

func encodeVerdicts(verdicts []PortVerdict) string {
	d := newDigest()
	d.verdicts(verdicts)
	return string(d.Sum(nil))
}

func (d *digest) verdicts(verdicts []PortVerdict) {
	d.number(uint64(len(verdicts)))
	for i := range verdicts {
		v := &verdicts[i]
		d.text(string(v.Protocol))
		d.number(uint64(v.Port)<<16 | uint64(v.EndPort))
		d.text(string(v.Verdict))
		d.text(v.RuleSet)
		d.flag(v.FailOpen)
		d.flag(v.Reset)
		d.texts(v.Policies)
	}
}

// renumber numbers the classes in the order in which the peers speak of them.
func renumber(peers []Peer, classes [][]PortVerdict) ([]Peer, [][]PortVerdict) {
	numbers := make([]int, len(classes))
	ordered := make([][]PortVerdict, 0, len(classes))
	for i := range peers {
		old := peers[i].Class
		if numbers[old] == 0 {
			ordered = append(ordered, classes[old])
			numbers[old] = len(ordered)
		}
		peers[i].Class = numbers[old] - 1
	}
	return peers, ordered
}
