package trace

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Output is one answer of ofproto/trace: a packet's way until it leaves or ends. Each time that conntrack looks at the packet, it goes on as
// another Thread.
type Output struct {
	Threads []Thread
}

// Thread is a part of the way, from the port or from a recirculation to the next one or to the end.
type Thread struct {
	// CTState is what conntrack was taken to say of the packet; empty in the thread that begins at the port.
	CTState string
	// Flow is the packet with its metadata at the beginning, Final at the end, as Open vSwitch writes it.
	Flow, Final string
	// NAT is the packet's new addresses and ports where the trace has translated them, as Open vSwitch writes them; else empty.
	NAT string
	// Datapath are the actions that the datapath would do.
	Datapath string
	Matches  []Match
}

// Match is one flow that the packet matched, or a table that has none for it.
type Match struct {
	Table    uint8
	Missed   bool
	Match    string
	Priority int
	Cookie   uint64
	Actions  []Action
}

// Action is one action as it was done.
type Action struct {
	Text string
	// Notes are what Open vSwitch says of it ("output port is 9").
	Notes []string
}

// resumes stands in the line that begins a thread after a recirculation.
const resumes = " - resume conntrack with "

var (
	matchLine = regexp.MustCompile(`^\s*(\d+)\. (?:(.*), )?priority (\d+)(?:, cookie (0x[0-9a-f]+))?$`)
	missLine  = regexp.MustCompile(`^\s*(\d+)\. (?i:no match)`)
)

// Parse reads the output of one ofproto/trace. The error names the line that is not understood.
func Parse(text string) (*Output, error) {
	p := parser{out: &Output{}}
	for number, line := range strings.Split(text, "\n") {
		if err := p.line(strings.TrimRight(line, " \r")); err != nil {
			return nil, fmt.Errorf("ofproto/trace, line %d: %q: %w", number+1, line, err)
		}
	}
	if len(p.out.Threads) == 0 || p.out.Threads[len(p.out.Threads)-1].Datapath == "" {
		return nil, fmt.Errorf("ofproto/trace did not trace to the end: %.200q", text)
	}
	return p.out, nil
}

type parser struct {
	out *Output
	// state and nat belong to the thread that begins next.
	state, nat string
}

func (p *parser) line(line string) error {
	field, value, _ := strings.Cut(line, ": ")
	switch {
	case field == "Flow":
		p.out.Threads = append(p.out.Threads, Thread{CTState: p.state, NAT: p.nat, Flow: value})
		p.state, p.nat = "", ""
		return nil
	case strings.HasPrefix(line, "recirc("):
		return p.recirculation(line)
	case field == " Modified flow":
		p.nat = value
		return nil
	case len(p.out.Threads) == 0 || ornament(line):
		return nil
	}
	t := &p.out.Threads[len(p.out.Threads)-1]
	switch field {
	case "Final flow":
		if t.Final = value; value == "unchanged" {
			t.Final = t.Flow
		}
	case "Datapath actions":
		t.Datapath = value
	case "Megaflow":
	default:
		return t.step(line)
	}
	return nil
}

// ornament tells of lines that say nothing about the packet.
func ornament(line string) bool {
	for _, start := range []string{"bridge(", "----", "====", "Replacing src/dst", " Initial flow", " Modified flow"} {
		if strings.HasPrefix(line, start) {
			return true
		}
	}
	words := strings.TrimSpace(line)
	return words == "" || words == "thaw" || strings.HasPrefix(words, "Resuming from table") || strings.HasPrefix(words, "bucket ")
}

func (p *parser) recirculation(line string) error {
	_, state, ok := strings.Cut(line, resumes)
	if !ok {
		return fmt.Errorf("the packet is recirculated for another reason than conntrack")
	}
	_, state, ok = strings.Cut(state, "ct_state=")
	if !ok {
		return fmt.Errorf("no ct_state")
	}
	p.state, _, _ = strings.Cut(state, " ")
	return nil
}

// step takes in a match, an action or a note on one.
func (t *Thread) step(line string) error {
	if m := matchLine.FindStringSubmatch(line); m != nil {
		table, err := strconv.ParseUint(m[1], 10, 8)
		if err != nil {
			return err
		}
		priority, err := strconv.Atoi(m[3])
		if err != nil {
			return err
		}
		match := Match{Table: uint8(table), Match: m[2], Priority: priority}
		if m[4] != "" {
			if match.Cookie, err = strconv.ParseUint(m[4], 0, 64); err != nil {
				return err
			}
		}
		t.Matches = append(t.Matches, match)
		return nil
	}
	if m := missLine.FindStringSubmatch(line); m != nil {
		table, err := strconv.ParseUint(m[1], 10, 8)
		t.Matches = append(t.Matches, Match{Table: uint8(table), Missed: true})
		return err
	}
	words := strings.TrimSpace(line)
	note, isNote := strings.CutPrefix(words, "-> ")
	if len(t.Matches) == 0 {
		return nil // of trace-packet-out: the actions that it begins with
	}
	m := &t.Matches[len(t.Matches)-1]
	switch {
	case !isNote:
		m.Actions = append(m.Actions, Action{Text: words})
	case len(m.Actions) > 0:
		a := &m.Actions[len(m.Actions)-1]
		a.Notes = append(a.Notes, note)
	}
	return nil
}
