package openflow

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// How flows spell an EngineSlot.
var (
	slotInLabel    = regexp.MustCompile(`(0|0x[0-9a-f]` + strings.Repeat("0", labelSlotShift/4) + `)/0xf` + strings.Repeat("0", labelSlotShift/4) + `\b`)
	slotInRegister = regexp.MustCompile(`set_field:(0|0x[0-9a-f]000)/0xf000->reg7\b`)
)

// How flows spell fieldPrevent, and the process of a signature engine.
var (
	processInLabel    = regexp.MustCompile(`(0|0x[0-9a-f]` + strings.Repeat("0", labelProcessShift/4) + `)/0xf` + strings.Repeat("0", labelProcessShift/4) + `\b`)
	processInRegister = regexp.MustCompile(`set_field:(0|0x[0-9a-f]0)/0xf0->reg11\b`)
	preventInRegister = regexp.MustCompile(`set_field:(0|0x[0-9a-f]+)/0xffff->reg10\b`)
)

// WithoutEngine gives the bundle as it is while the engine of policies does not inspect: to what it should inspect happens what the failure
// policy says.
func (b *Bundle) WithoutEngine() *Bundle {
	c := *b
	onward := ""
	c.Flows = slices.DeleteFunc(slices.Clone(b.Flows), func(f Flow) bool {
		_, feature := splitCookie(f.Cookie)
		if table(f.Table) == tableOutput && feature == featurePipeline && f.Priority == priorityStep {
			onward = f.Actions // of connections that are not inspected
		}
		return table(f.Table) == tableOutput && feature == featureEngine
	})
	for i := range c.Flows {
		f := &c.Flows[i]
		if _, feature := splitCookie(f.Cookie); table(f.Table) == tableClassifier && feature == featureEngine && f.Actions == gotoTable(tableAfterEngine) {
			f.Actions = drop // it comes too late
		}
	}
	if onward != "" {
		c.withoutEngine(onward)
	}
	return &c
}

// WithoutSignatureEngine gives the bundle as it is while the signature engine in a slot does not inspect: to what should go through it happens
// what its failure policy says.
func (b *Bundle) WithoutSignatureEngine(slot uint8) *Bundle {
	c := *b
	own := cookie(featureSignature, uint32(slot))
	c.Flows = slices.DeleteFunc(slices.Clone(b.Flows), func(f Flow) bool { return table(f.Table) == tablePrevent && f.Cookie == own })
	if len(c.Flows) == len(b.Flows) {
		return &c // there is no such engine
	}
	for i := range c.Flows {
		f := &c.Flows[i]
		if table(f.Table) == tableClassifier && f.Cookie == own && strings.Contains(f.Actions, gotoTable(tableAfterPrevent)) {
			f.Actions = drop // it comes too late
		}
	}
	c.withoutPrevent(slot, "the engine in slot "+strconv.Itoa(int(slot)))
	return &c
}

// ForSignatureEngine gives the bundle with its flows made for another process of the signature engine in a slot.
func (b *Bundle) ForSignatureEngine(slot, process uint8) *Bundle {
	c := *b
	c.Flows = slices.Clone(b.Flows)
	own, label := cookie(featureSignature, uint32(slot)), slotLabel(labelProcessShift, process)
	for i := range c.Flows {
		f := &c.Flows[i]
		if table(f.Table) == tablePrevent && f.Cookie == own {
			f.Match = processInLabel.ReplaceAllLiteralString(f.Match, label)
			f.Actions = processInLabel.ReplaceAllLiteralString(f.Actions, label)
			continue
		}
		if m := preventInRegister.FindStringSubmatch(f.Actions); m != nil {
			if value, err := strconv.ParseUint(m[1], 0, 16); err == nil && uint8(value>>fieldPreventSlot.lo) == slot {
				f.Actions = processInRegister.ReplaceAllLiteralString(f.Actions, load(fieldPreventProcess, uint32(process)))
			}
		}
	}
	return &c
}

// ForEngine gives the bundle with its flows made for another process of the engine of policies.
func (b *Bundle) ForEngine(slot uint8) *Bundle {
	c := *b
	c.Flows = slices.Clone(b.Flows)
	for i := range c.Flows {
		f := &c.Flows[i]
		switch table(f.Table) {
		case tableOutput:
			f.Match = slotInLabel.ReplaceAllLiteralString(f.Match, slotLabel(labelSlotShift, slot))
			f.Actions = slotInLabel.ReplaceAllLiteralString(f.Actions, slotLabel(labelSlotShift, slot))
		case tableConntrackState, tableAskClient:
			f.Actions = slotInRegister.ReplaceAllLiteralString(f.Actions, load(fieldEngineSlot, uint32(slot)))
		default:
		}
	}
	return &c
}
