package conflist

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/meerkat-dev/meerkat/dataplane/cni/plugin"
)

// element is one plugin of a list: where it stands in the text.
type element struct {
	start, end int
	ours       bool
	// conf is our own entry's.
	conf plugin.Conf
}

// parsed is a list.
type parsed struct {
	elements []element
	// setsCheck says that it has the key disableCheck, whatever it says.
	setsCheck bool
}

// ours gives our first entry; nil when there is none.
func (p parsed) ours() *element {
	for i, e := range p.elements {
		if e.ours {
			return &p.elements[i]
		}
	}
	return nil
}

// parse finds the plugins of a list. Of a key that stands there twice, the last one counts, as it does for container runtimes.
func parse(text []byte) (p parsed, err error) {
	if !json.Valid(text) {
		return p, errors.New("it is not valid JSON")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return p, errors.New("it is not a JSON object")
	}
	found := false
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return p, err
		}
		p.setsCheck = p.setsCheck || key == "disableCheck"
		if key != "plugins" {
			var skipped json.RawMessage
			if err := d.Decode(&skipped); err != nil {
				return p, err
			}
			continue
		}
		found = true
		if p.elements, err = arrayOf(d, text); err != nil {
			return p, err
		}
	}
	if !found {
		return p, errors.New("it has no list of plugins; where the plugins have files of their own, in a directory named as the " +
			"network, put " + plugin.Name + " there by hand")
	}
	return p, nil
}

// arrayOf reads an array of objects from the decoder, which reads text.
func arrayOf(d *json.Decoder, text []byte) ([]element, error) {
	if open, err := d.Token(); err != nil || open != json.Delim('[') {
		return nil, errors.New("its plugins are not a list")
	}
	var elements []element
	for d.More() {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, err
		}
		end := int(d.InputOffset())
		e := element{start: end - len(raw), end: end}
		if e.start < 0 || !bytes.Equal(text[e.start:e.end], raw) {
			return nil, errors.New("its plugins cannot be told apart")
		}
		e.ours = json.Unmarshal(raw, &e.conf) == nil && e.conf.Type == plugin.Name
		elements = append(elements, e)
	}
	_, err := d.Token()
	return elements, err
}

// insert puts our entry behind the last plugin of a list, or in the place of an entry of ours that says something else. Where
// ours is there already it stays in its place, also when another plugin has been put behind it.
//
// The others' CHECK would find an interposed Pod's interface to be another than theirs, and call it broken. So the list gets
// disableCheck, unless it has the key.
func insert(text []byte, conf plugin.Conf) ([]byte, error) {
	p, err := parse(text)
	if err != nil {
		return nil, err
	}
	if len(p.elements) == 0 {
		return nil, errors.New("its list of plugins is empty")
	}
	mine := p.ours()
	conf.DisabledCheck = !p.setsCheck || mine != nil && mine.conf.DisabledCheck
	entry, err := json.Marshal(conf)
	if err != nil {
		return nil, err
	}
	switch {
	case mine == nil:
		last := p.elements[len(p.elements)-1]
		text = splice(text, last.end, last.end, append([]byte(","+spaceBefore(text, last.start)), entry...))
	case !sameJSON(text[mine.start:mine.end], entry):
		text = splice(text, mine.start, mine.end, entry)
	}
	if !p.setsCheck {
		at, with := head(text)
		text = splice(text, at, at, with)
	}
	return text, nil
}

// head is what says disableCheck at a list's very beginning, and where it stands or is to stand.
func head(text []byte) (at int, with []byte) {
	at = bytes.IndexByte(text, '{') + 1
	rest := text[at:]
	space := rest[:len(rest)-len(bytes.TrimLeft(rest, white))]
	return at, append(slices.Clone(space), `"disableCheck":true,`...)
}

// white are the characters between JSON's tokens.
const white = " \t\r\n"

// spaceBefore is the white space before a place.
func spaceBefore(text []byte, at int) string {
	return string(text[len(bytes.TrimRight(text[:at], white)):at])
}

// extract takes every entry of ours out of a list, and disableCheck where it was put in for us. It returns the very text when
// there is none.
func extract(text []byte) ([]byte, error) {
	for {
		p, err := parse(text)
		if err != nil {
			return nil, err
		}
		k := slices.IndexFunc(p.elements, func(e element) bool { return e.ours })
		if k < 0 {
			return text, nil
		}
		e := p.elements[k]
		switch {
		case k > 0:
			text = splice(text, p.elements[k-1].end, e.end, nil)
		case len(p.elements) > 1:
			text = splice(text, e.start, p.elements[1].start, nil)
		default:
			return nil, fmt.Errorf("%s is its only plugin, and a list without any is of no use", plugin.Name)
		}
		if at, with := head(text); e.conf.DisabledCheck && bytes.HasPrefix(text[at:], with) {
			text = splice(text, at, at+len(with), nil)
		}
	}
}

// has says whether a list has an entry of ours.
func has(text []byte) bool {
	p, err := parse(text)
	return err == nil && p.ours() != nil
}

func splice(text []byte, from, to int, with []byte) []byte {
	out := make([]byte, 0, len(text)+len(with))
	out = append(out, text[:from]...)
	out = append(out, with...)
	return append(out, text[to:]...)
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
