package kubeproxy

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// object is what the API holds.
type object interface {
	runtime.Object
	metav1.Object
}

// API is as much of an API server as kube-proxy asks for: nodes, Services and EndpointSlices can be listed and watched; of anything else
// there is nothing. It is safe for use by several goroutines.
type API struct {
	mu      sync.Mutex
	version int
	sets    int
	kinds   map[string]*kind // by path
	changed chan struct{}    // closed at each change
}

// kind is a resource: what there is of it now, by namespace and name, and all that ever happened to it.
type kind struct {
	groupVersion, name string
	objects            map[string]object
	events             []event
}

type event struct {
	version int
	body    []byte
}

// NewAPI makes one that holds nothing.
func NewAPI() *API {
	a := &API{changed: make(chan struct{}), kinds: map[string]*kind{}}
	for path, k := range map[string]kind{
		pathNodes:    {groupVersion: "v1", name: "Node"},
		pathServices: {groupVersion: "v1", name: "Service"},
		pathSlices:   {groupVersion: "discovery.k8s.io/v1", name: "EndpointSlice"},
		"/apis/networking.k8s.io/v1/servicecidrs": {groupVersion: "networking.k8s.io/v1", name: "ServiceCIDR"},
	} {
		k.objects = map[string]object{}
		a.kinds[path] = &k
	}
	return a
}

const (
	pathNodes    = "/api/v1/nodes"
	pathServices = "/api/v1/services"
	pathSlices   = "/apis/discovery.k8s.io/v1/endpointslices"
)

// Set replaces all that the API holds. The number is for Proxy.Synced.
func (a *API) Set(nodes []corev1.Node, services []corev1.Service, slices []discoveryv1.EndpointSlice) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sets++
	service, mark := sentinel(a.sets)
	for path, all := range map[string][]object{
		pathNodes: objects(nodes), pathServices: append(objects(services), service), pathSlices: append(objects(slices), mark...),
	} {
		if err := a.replace(a.kinds[path], all); err != nil {
			return 0, err
		}
	}
	close(a.changed)
	a.changed = make(chan struct{})
	return a.sets, nil
}

// objects gives copies.
func objects[T any, P interface {
	*T
	object
}](all []T) []object {
	made := make([]object, 0, len(all))
	for i := range all {
		made = append(made, P(&all[i]).DeepCopyObject().(object))
	}
	return made
}

// replace makes events of the differences. The sentinel comes last, so that who has seen it has seen all.
func (a *API) replace(k *kind, all []object) error {
	wanted := map[string]bool{}
	for _, o := range all {
		wanted[o.GetNamespace()+"/"+o.GetName()] = true
	}
	for key, old := range k.objects {
		if !wanted[key] {
			delete(k.objects, key)
			if err := a.happen(k, "DELETED", old); err != nil {
				return err
			}
		}
	}
	for _, o := range all {
		key := o.GetNamespace() + "/" + o.GetName()
		old, there := k.objects[key]
		what := "ADDED"
		if there {
			o.SetResourceVersion(old.GetResourceVersion())
			o.GetObjectKind().SetGroupVersionKind(old.GetObjectKind().GroupVersionKind())
			if equality.Semantic.DeepEqual(old, o) {
				continue
			}
			what = "MODIFIED"
		}
		k.objects[key] = o
		if err := a.happen(k, what, o); err != nil {
			return err
		}
	}
	return nil
}

func (a *API) happen(k *kind, what string, o object) error {
	a.version++
	o.SetResourceVersion(strconv.Itoa(a.version))
	o.GetObjectKind().SetGroupVersionKind(gvk(k))
	body, err := json.Marshal(map[string]any{"type": what, "object": o})
	k.events = append(k.events, event{a.version, append(body, '\n')})
	return err
}

// ServeHTTP answers kube-proxy.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, name := r.URL.Path, ""
	if rest, found := strings.CutPrefix(path, pathNodes+"/"); found {
		path, name = pathNodes, rest
	}
	if field, found := strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name="); found {
		name = field
	}
	k := a.kinds[path]
	switch {
	case r.Method == http.MethodPost: // an Event
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		w.WriteHeader(http.StatusCreated)
		_, _ = io.Copy(w, r.Body)
	case k == nil || r.Method != http.MethodGet:
		http.NotFound(w, r)
	case r.URL.Query().Get("watch") != "":
		a.watch(w, r, k, name)
	case r.URL.Path != path:
		a.get(w, r, k, name)
	default:
		a.list(w, k, name)
	}
}

func (a *API) get(w http.ResponseWriter, r *http.Request, k *kind, name string) {
	a.mu.Lock()
	body, err := json.Marshal(k.objects["/"+name])
	found := k.objects["/"+name] != nil
	a.mu.Unlock()
	if !found || err != nil {
		http.NotFound(w, r)
		return
	}
	answer(w, body)
}

func (a *API) list(w http.ResponseWriter, k *kind, name string) {
	a.mu.Lock()
	body, err := json.Marshal(map[string]any{
		"apiVersion": k.groupVersion, "kind": k.name + "List",
		"metadata": map[string]string{"resourceVersion": strconv.Itoa(a.version)}, "items": k.named(name),
	})
	a.mu.Unlock()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, body)
}

// named gives all objects, or the one of a name.
func (k *kind) named(name string) []object {
	found := []object{}
	for _, o := range k.objects {
		if name == "" || o.GetName() == name {
			found = append(found, o)
		}
	}
	return found
}

func answer(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

// watch sends what happens after a version, or, when it is asked to, all objects first. It ends with the request.
func (a *API) watch(w http.ResponseWriter, r *http.Request, k *kind, name string) {
	w.Header().Set("Content-Type", "application/json")
	a.mu.Lock()
	since, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		since = a.version
		for _, o := range k.named(name) {
			body, err := json.Marshal(map[string]any{"type": "ADDED", "object": o})
			if err == nil {
				_, _ = w.Write(append(body, '\n'))
			}
		}
		_, _ = fmt.Fprintf(w, `{"type":"BOOKMARK","object":{"apiVersion":%q,"kind":%q,"metadata":{"resourceVersion":"%d","annotations":{%q:"true"}}}}`+"\n",
			k.groupVersion, k.name, a.version, metav1.InitialEventsAnnotationKey)
	}
	for {
		at, _ := slices.BinarySearchFunc(k.events, since+1, func(e event, v int) int { return e.version - v })
		news, changed := k.events[at:], a.changed
		a.mu.Unlock()
		for _, e := range news {
			since = e.version
			_, _ = w.Write(e.body)
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		}
		a.mu.Lock()
	}
}
