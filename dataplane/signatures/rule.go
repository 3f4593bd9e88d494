package signatures

import (
	"fmt"
	"strconv"
	"strings"
)

// rule is one rule as it was read, or changed since.
type rule struct {
	origin Origin
	file   int    // which of the files, in their order
	group  string // the file's name

	text    string // without what comments it out
	enabled bool

	action   string
	gid      uint32
	sid      uint32
	rev      uint32
	options  []option
	metadata []string // "key value"
	flowbits []flowbit
	noalert  bool

	forFlowbits bool   // on only because another rule needs its flowbit
	lost        bool   // to a rule with the same number
	fault       string // what is wrong with it beyond its text; told when it is enabled in the end
}

// option is one of a rule's options: "msg" and "\"text\"".
type option struct {
	name, value string
	at          int // where it begins in the rule's text
}

// flowbit is an option such as flowbits:set,a.
type flowbit struct {
	verb  string
	names []string
}

// number is what rules are told apart by.
type number struct{ gid, sid uint32 }

func (r *rule) number() number { return number{r.gid, r.sid} }

// headerParts are how many words stand before the options: ACTION PROTOCOL ADDRESSES PORTS -> ADDRESSES PORTS.
const headerParts = 7

const shape = "a rule is ACTION PROTOCOL ADDRESSES PORTS -> ADDRESSES PORTS (OPTIONS), on one line"

// parseRule reads a rule's text, which is not commented out. It knows no keywords but those that it needs: whether the others make
// sense is the engine's to say. It splits options exactly as the engine does, so that it sees each keyword that the engine sees. The
// error says what is wrong and what to do.
func parseRule(text string) (*rule, error) {
	open := strings.IndexByte(text, '(')
	if open < 0 || !strings.HasSuffix(text, ")") {
		return nil, fmt.Errorf("it is no rule: %s; begin comments with #", shape)
	}
	header := words(text[:open])
	if len(header) != headerParts || strings.Contains(text[:open], ")") {
		return nil, fmt.Errorf("%d words stand before its options, not %d: %s; blanks within a list need [ and ] around it",
			len(header), headerParts, shape)
	}
	options, err := parseOptions(text, open+1, len(text)-1)
	if err != nil {
		return nil, err
	}
	r := &rule{text: text, action: header[0], gid: 1, options: options}
	for _, o := range options {
		if err := r.take(o); err != nil {
			return nil, err
		}
	}
	if r.sid == 0 {
		return nil, fmt.Errorf("it has no sid: give it a number of its own, as in sid:1000001; (those from 1000000 to 1999999 are for local rules)")
	}
	return r, nil
}

// words splits a header at blanks that are not within brackets.
func words(header string) []string {
	var out []string
	depth, start := 0, -1
	for i := 0; i <= len(header); i++ {
		if i == len(header) || depth == 0 && isBlank(header[i]) {
			if start >= 0 {
				out = append(out, header[start:i])
			}
			start = -1
			continue
		}
		if start < 0 {
			start = i
		}
		switch header[i] {
		case '[':
			depth++
		case ']':
			depth = max(0, depth-1)
		}
	}
	return out
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

const blanks = " \t"

// parseOptions splits text[from:to] at each semicolon that has no backslash before it, as the engine does: quotes make no difference,
// and neither do capitals in names.
func parseOptions(text string, from, to int) ([]option, error) {
	var out []option
	for from < to {
		for from < to && isBlank(text[from]) {
			from++
		}
		if from == to {
			break
		}
		end := from
		for end < to && (text[end] != ';' || end > from && text[end-1] == '\\') {
			end++
		}
		if end == to {
			return nil, fmt.Errorf("its last option, %s, has no semicolon at its end: put one before the closing parenthesis", quote(text[from:to]))
		}
		name, value, _ := strings.Cut(text[from:end], ":")
		out = append(out, option{name: strings.ToLower(strings.Trim(name, blanks)), value: strings.Trim(value, blanks), at: from})
		from = end + 1
	}
	return out, nil
}

// take notes what Meerkat needs of an option.
func (r *rule) take(o option) error {
	switch o.name {
	case "gid", "sid", "rev":
		n, err := strconv.ParseUint(o.value, 10, 32)
		if err != nil || n == 0 && o.name == "sid" {
			return fmt.Errorf("its %s is %s: write a whole number from 1 to 4294967295", o.name, quote(o.value))
		}
		switch o.name {
		case "gid":
			r.gid = uint32(n)
		case "sid":
			if r.sid != 0 {
				return fmt.Errorf("it has two sids: leave one out")
			}
			r.sid = uint32(n)
		case "rev":
			r.rev = uint32(n)
		}
	case "metadata":
		for entry := range strings.SplitSeq(o.value, ",") {
			r.metadata = append(r.metadata, strings.Trim(entry, blanks))
		}
	case "flowbits":
		verb, names, _ := strings.Cut(o.value, ",")
		bit := flowbit{verb: strings.Trim(verb, blanks)}
		for name := range strings.SplitSeq(names, "|") {
			bit.names = append(bit.names, strings.Trim(name, blanks))
		}
		r.flowbits = append(r.flowbits, bit)
		r.noalert = r.noalert || strings.Contains(o.value, "noalert")
	case "noalert":
		r.noalert = true
	}
	return nil
}

// quieten adds noalert to the rule, before its sid.
func (r *rule) quieten() {
	if r.noalert {
		return
	}
	r.noalert = true
	for _, o := range r.options {
		if o.name == "sid" {
			at := o.at
			for r.text[at-1] == ' ' {
				at--
			}
			r.text = r.text[:at] + " noalert;" + r.text[at:]
			return
		}
	}
}

// quote makes text fit for a message, whatever is in it.
func quote(text string) string {
	const most = 60
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return strconv.Quote(text)
}
