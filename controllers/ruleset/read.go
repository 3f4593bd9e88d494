package ruleset

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/controllers/fleet"
	"github.com/meerkat-dev/meerkat/controllers/ruleset/source"
	"github.com/meerkat-dev/meerkat/dataplane/signatures"
)

const (
	// configMapInterval and directoryInterval are how often these sources are looked at.
	configMapInterval, directoryInterval = time.Minute, 5 * time.Minute
	// retryFirst is how long the first try after a failure waits; each further one waits twice as long, up to retryMost.
	retryFirst, retryMost = time.Minute, 30 * time.Minute
)

// memory is what is remembered of a rule set from one look to the next.
type memory struct {
	// urls are what servers gave, by the source's name.
	urls map[string]*fetched
	// made is the last build, of the inputs by that name.
	inputs string
	made   *made
}

func newMemory() *memory { return &memory{urls: map[string]*fetched{}} }

// fetched is what a server gave, compressed as it came.
type fetched struct {
	address, bundle string
	download        *source.Download
	at              time.Time
	// generation is that of the spec at the last try; failures are those since the last success, and retry is when to try again.
	generation int64
	failures   int
	retry      time.Time
	err        error
}

// reading is what a look at a source found.
type reading struct {
	name string
	// sha256 is the hash of what it holds; empty when that is not known.
	sha256 string
	// content is what it holds; nil when it could not be read, or was not, since nothing says that it has changed.
	content *source.Content
	err     error
	at      time.Time
	// next is how long it is until it is to be looked at again; zero for never.
	next time.Duration
}

// read looks at all sources. What servers hold is fetched when it is due, or when all contents are needed, since the spec or another
// source has changed. It says whether that is so.
func (r *reconciler) read(ctx context.Context, s *set, m *memory, needed bool) (all []reading, changed bool) {
	changed = needed
	all = make([]reading, len(s.spec.Sources))
	for i := range s.spec.Sources {
		if s.spec.Sources[i].URL == nil {
			all[i] = r.readNear(ctx, s, &s.spec.Sources[i])
			changed = changed || all[i].sha256 != "" && all[i].sha256 != known(s, all[i].name).SHA256
		}
	}
	// Twice: what the first round finds may need what another source held.
	for range 2 {
		for i := range s.spec.Sources {
			if s.spec.Sources[i].URL != nil {
				all[i] = r.readURL(ctx, s, m, &s.spec.Sources[i], changed)
				changed = changed || all[i].sha256 != "" && all[i].sha256 != known(s, all[i].name).SHA256
			}
		}
	}
	return all, changed
}

// known is what the status says of a source.
func known(s *set, name string) *v1alpha1.RuleSourceStatus {
	for i := range s.status.Sources {
		if s.status.Sources[i].Name == name {
			return &s.status.Sources[i]
		}
	}
	return &v1alpha1.RuleSourceStatus{}
}

// readNear reads a source that is not on a server.
func (r *reconciler) readNear(ctx context.Context, s *set, from *v1alpha1.RuleSource) reading {
	read := reading{name: from.Name, at: r.Now()}
	switch {
	case from.ConfigMap != nil:
		read.next = configMapInterval
		read.content, read.err = r.configMap(ctx, s, from)
	case from.Directory != "":
		read.next = directoryInterval
		read.content, read.err = source.Directory(from.Name, from.Directory, r.Directory)
	default:
		read.content = source.Inline(from.Name, from.Inline)
	}
	if read.content != nil {
		read.sha256 = read.content.SHA256
	}
	return read
}

func (r *reconciler) configMap(ctx context.Context, s *set, from *v1alpha1.RuleSource) (*source.Content, error) {
	m := &corev1.ConfigMap{}
	at := client.ObjectKey{Namespace: cmp.Or(s.Namespace, r.Namespace), Name: from.ConfigMap.Name}
	err := r.live.Get(ctx, at, m)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("there is no ConfigMap %s: create it, or correct the name", at)
	}
	if err != nil {
		return nil, fmt.Errorf("the ConfigMap %s cannot be read: %w", at, err)
	}
	return source.ConfigMap(from.Name, m)
}

// readURL fetches a source when it is due.
func (r *reconciler) readURL(ctx context.Context, s *set, m *memory, from *v1alpha1.RuleSource, needed bool) reading {
	u, was, now := from.URL, known(s, from.Name), r.Now()
	f := m.urls[from.Name]
	if f == nil || f.address != u.Address || f.bundle != u.CABundle {
		f = &fetched{address: u.Address, bundle: u.CABundle}
		m.urls[from.Name] = f
	}
	if f.due(u, was, s.object.GetGeneration(), needed, now) {
		download, err := r.Fetcher.Fetch(ctx, u, f.download)
		f.generation = s.object.GetGeneration()
		if f.err = err; err != nil {
			f.failures++
			f.retry = now.Add(min(retryFirst<<min(f.failures-1, 10), retryMost))
		} else {
			f.download, f.at, f.failures, f.retry = download, now, 0, time.Time{}
		}
	}
	read := reading{name: from.Name, err: f.err, at: f.at}
	if f.download != nil {
		files, err := source.Unpack(from.Name, u.Address, f.download.Data)
		if err != nil {
			read.err = err
		} else {
			read.sha256, read.content = f.download.SHA256, &source.Content{Files: files, SHA256: f.download.SHA256}
		}
	}
	switch {
	case f.err != nil:
		read.next = max(f.retry.Sub(now), time.Second)
	case u.RefreshInterval != nil && f.download != nil:
		read.next = max(f.at.Add(u.RefreshInterval.Duration).Sub(now), time.Second)
	case u.RefreshInterval != nil && was.Fetched != nil:
		read.next = max(was.Fetched.Add(u.RefreshInterval.Duration).Sub(now), time.Second)
	}
	return read
}

// due tells whether a file is to be fetched now: it never was, its time has come, or the spec has changed. After a manager's start it
// is not, unless it is needed: what the revision was made of is stored.
func (f *fetched) due(u *v1alpha1.RuleURL, was *v1alpha1.RuleSourceStatus, generation int64, needed bool, now time.Time) bool {
	switch {
	case f.err != nil && f.generation == generation:
		return !now.Before(f.retry)
	case f.download == nil && (needed || was.SHA256 == "" || was.Error != ""):
		return true
	case f.download != nil && f.generation != generation:
		return true
	case u.RefreshInterval == nil:
		return false
	case f.download != nil:
		return !now.Before(f.at.Add(u.RefreshInterval.Duration))
	}
	return was.Fetched == nil || !now.Before(was.Fetched.Add(u.RefreshInterval.Duration))
}

// sourceStatuses are what is told of the sources. counts are the rules in each, when they make the revision; nil leaves what was.
func sourceStatuses(s *set, all []reading, counts map[string]int) []v1alpha1.RuleSourceStatus {
	var told []v1alpha1.RuleSourceStatus
	for i := range all {
		one := *known(s, all[i].name).DeepCopy()
		one.Name, one.Error = all[i].name, ""
		if all[i].err != nil {
			one.Error = fleet.Cut(all[i].err.Error(), maxSourceError)
		}
		if counts != nil && all[i].sha256 != "" {
			one.Rules = int32(counts[all[i].name])
			if one.SHA256 != all[i].sha256 {
				one.SHA256, one.Fetched = all[i].sha256, stamp(all[i].at)
			}
		}
		// Of what is read all the time, only changes are told.
		if from := s.spec.Sources[i]; from.URL != nil && one.SHA256 == all[i].sha256 && !all[i].at.IsZero() {
			one.Fetched = stamp(all[i].at)
		}
		told = append(told, one)
	}
	return told
}

// filesOf are all files, in the order of the sources; false when not all contents are there.
func filesOf(all []reading) ([]signatures.File, bool) {
	var files []signatures.File
	for i := range all {
		if all[i].content == nil {
			return nil, false
		}
		files = append(files, all[i].content.Files...)
	}
	return files, true
}

// inputsOf names what a revision is made of.
func inputsOf(s *set, all []reading) string {
	parts := []string{fmt.Sprint(s.object.GetUID(), s.object.GetGeneration())}
	for i := range all {
		parts = append(parts, all[i].name, all[i].sha256)
	}
	return strings.Join(parts, " ")
}

func stamp(t time.Time) *metav1.Time {
	at := metav1.NewTime(t.Truncate(time.Second))
	return &at
}
