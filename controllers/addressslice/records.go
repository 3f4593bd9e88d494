package addressslice

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/plan"
)

// records are the slices of one selector, by name, as they were last written here or seen by the watch, whichever is newer.
type records map[string]*v1alpha1.AddressSlice

// sorted returns them by name.
func (r records) sorted() []*v1alpha1.AddressSlice {
	return slices.SortedFunc(maps.Values(r), byName)
}

// newer says whether version a of an object is newer than version b. Resource versions are numbers that grow.
func newer(a, b string) bool {
	x, errA := strconv.ParseUint(a, 10, 64)
	y, errB := strconv.ParseUint(b, 10, 64)
	if errA != nil || errB != nil {
		return a != b
	}
	return x > y
}

// seen takes in a slice that the watch tells of. What was written here is known, and touches nothing; anything else is the work of
// others, or of a manager before this one, and is looked at.
func (b *board) seen(slice *v1alpha1.AddressSlice, now time.Time) []string {
	key := plan.SliceKey(slice)
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.selectors[key]
	if s == nil {
		s = b.addSelector(key, slice.Selector)
		s.since = now
	}
	if known := s.records[slice.Name]; known != nil && !newer(slice.ResourceVersion, known.ResourceVersion) {
		return nil
	}
	s.records[slice.Name] = slice
	return b.touch([]string{key}, now)
}

// gone takes in that a slice was deleted. The watch may have missed how; then what is known does not count.
func (b *board) gone(slice *v1alpha1.AddressSlice, missed bool, now time.Time) []string {
	key := plan.SliceKey(slice)
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.selectors[key]
	if s == nil || s.records[slice.Name] == nil {
		return nil
	}
	if !missed && newer(s.records[slice.Name].ResourceVersion, slice.ResourceVersion) {
		return nil
	}
	delete(s.records, slice.Name)
	return b.touch([]string{key}, now)
}

// wrote notes what the API server answered to a write.
func (b *board) wrote(key string, slice *v1alpha1.AddressSlice) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.selectors[key]; s != nil {
		slice.ManagedFields = nil
		if known := s.records[slice.Name]; known == nil || !newer(known.ResourceVersion, slice.ResourceVersion) {
			s.records[slice.Name] = slice
		}
	}
}

// removed notes that a slice was deleted here, or turned out not to exist.
func (b *board) removed(key string, slice *v1alpha1.AddressSlice) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.selectors[key]; s != nil && s.records[slice.Name] != nil && s.records[slice.Name].UID == slice.UID {
		delete(s.records, slice.Name)
	}
}
