package observing

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/meerkat-dev/meerkat/dataplane/engine/launcher"
	"github.com/meerkat-dev/meerkat/dataplane/verdict"
)

// Table writes events in columns, which become wider as they must: nobody knows what comes.
type Table struct {
	To io.Writer
	// Colour is for terminals.
	Colour bool
	// Zone is that of the times; nil is the machine's.
	Zone *time.Location

	widths [columns]int
	begun  bool
}

const (
	columnTime = iota
	columnVerdict
	columnClient
	columnServer
	columnRequest
	columnBy
	columns
)

// widest is how wide a column may become; mostText is how much of a reason is shown.
const widest, mostText = 60, 300

var titles = [columns]string{"TIME", "VERDICT", "CLIENT", "SERVER", "REQUEST", "BY"}

var colours = map[string]string{"deny": "\x1b[31m", "drop": "\x1b[31m", "audit": "\x1b[33m", "alert": "\x1b[35m", "allow": "\x1b[32m", "lost": "\x1b[33m"}

// Write writes an event.
func (t *Table) Write(e *Event) error {
	if !t.begun {
		t.begun = true
		t.widths = [columns]int{12, 7, 24, 24, 32, 20}
		if err := t.line(titles, "WHY", ""); err != nil {
			return err
		}
	}
	zone := t.Zone
	if zone == nil {
		zone = time.Local
	}
	cells := [columns]string{
		e.Time.In(zone).Format("15:04:05.000"), e.What, end(e.Client), end(e.Server), clean(e.Request, widest), clean(strings.Join(e.By, ","), widest),
	}
	switch {
	case e.What == "lost":
		cells[columnClient], cells[columnServer] = "", clean(e.Node, widest)
	case len(e.Services) == 1:
		cells[columnServer] = clean(cells[columnServer]+" by "+e.Services[0], widest+20)
	}
	return t.line(cells, clean(e.Why, mostText), e.What)
}

func (t *Table) line(cells [columns]string, why, what string) error {
	var b strings.Builder
	for i, c := range cells {
		width := utf8.RuneCountInString(c)
		t.widths[i] = max(t.widths[i], min(width, widest))
		if i == columnVerdict && t.Colour && colours[what] != "" {
			c = colours[what] + c + "\x1b[0m"
		}
		b.WriteString(c + strings.Repeat(" ", max(t.widths[i]-width, 0)+2))
	}
	b.WriteString(why)
	_, err := fmt.Fprintln(t.To, strings.TrimRight(b.String(), " "))
	return err
}

// end is one end of a connection: its name, or else its address.
func end(p verdict.Peer) string {
	text := p.Address.String()
	if !p.Address.IsValid() {
		text = ""
	}
	return clean(cmp.Or(p.Name, text), widest)
}

// clean is text that strangers had a part in.
func clean(text string, most int) string { return launcher.Clean(text, most) }
