package conflist

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/meerkat-dev/meerkat/dataplane/cni/plugin"
)

// element is one plugin of a list: where it stands in the text.
type element struct {
	start, end int
	ours       bool
}

// elementsOf finds the plugins of a list. Of a key that stands there twice, the last one counts, as it does for container
// runtimes.
func elementsOf(text []byte) (elements []element, err error) {
	if !json.Valid(text) {
		return nil, errors.New("it is not valid JSON")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return nil, errors.New("it is not a JSON object")
	}
	found := false
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		if key != "plugins" {
			var skipped json.RawMessage
			if err := d.Decode(&skipped); err != nil {
				return nil, err
			}
			continue
		}
		found = true
		if elements, err = arrayOf(d, text); err != nil {
			return nil, err
		}
	}
	if !found {
		return nil, errors.New("it has no list of plugins; where the plugins have files of their own, in a directory named as the " +
			"network, put " + plugin.Name + " there by hand")
	}
	return elements, nil
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
		e.ours = typeOf(raw) == plugin.Name
		elements = append(elements, e)
	}
	_, err := d.Token()
	return elements, err
}

func typeOf(raw []byte) string {
	var conf struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(raw, &conf) != nil {
		return ""
	}
	return conf.Type
}

// insert puts our entry behind the last plugin of a list, or in the place of an entry of ours that says something else. Where
// ours is there already it stays in its place, also when another plugin has been put behind it.
func insert(text, entry []byte) ([]byte, error) {
	elements, err := elementsOf(text)
	if err != nil {
		return nil, err
	}
	if len(elements) == 0 {
		return nil, errors.New("its list of plugins is empty")
	}
	for _, e := range elements {
		if !e.ours {
			continue
		}
		if sameJSON(text[e.start:e.end], entry) {
			return text, nil
		}
		return splice(text, e.start, e.end, entry), nil
	}
	last := elements[len(elements)-1]
	return splice(text, last.end, last.end, append([]byte(","+indent(text, elements)), entry...)), nil
}

// indent is the white space before the last plugin.
func indent(text []byte, elements []element) string {
	start := elements[len(elements)-1].start
	from := start
	for from > 0 && bytes.IndexByte([]byte(" \t\r\n"), text[from-1]) >= 0 {
		from--
	}
	return string(text[from:start])
}

// extract takes every entry of ours out of a list. It returns the very text when there is none.
func extract(text []byte) ([]byte, error) {
	for {
		elements, err := elementsOf(text)
		if err != nil {
			return nil, err
		}
		k := 0
		for k < len(elements) && !elements[k].ours {
			k++
		}
		switch {
		case k == len(elements):
			return text, nil
		case k > 0:
			text = splice(text, elements[k-1].end, elements[k].end, nil)
		case len(elements) > 1:
			text = splice(text, elements[0].start, elements[1].start, nil)
		default:
			return nil, fmt.Errorf("%s is its only plugin, and a list without any is of no use", plugin.Name)
		}
	}
}

// has says whether a list has an entry of ours.
func has(text []byte) bool {
	elements, err := elementsOf(text)
	if err != nil {
		return false
	}
	for _, e := range elements {
		if e.ours {
			return true
		}
	}
	return false
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
