package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
	"github.com/meerkat-dev/meerkat/dataplane/sidecar"
)

// sidecarServer takes the reports of engines in Pods. Whoever sends one shows a token that the API server knows as one of a Pod, made for
// this and nothing else; it speaks for that Pod alone.
type sidecarServer struct {
	agent *Agent
	busy  chan struct{} // bounds requests at a time

	mu     sync.Mutex
	tokens map[[sha256.Size]byte]verifiedToken
	asks   float64 // how many tokens may be asked about now
	asked  time.Time

	names sidecarNames
}

// verifiedToken is what the API server has said of a token.
type verifiedToken struct {
	pod   types.NamespacedName
	uid   types.UID
	until time.Time
}

const (
	sidecarRequests = 32
	// tokenFor is how long a token is taken for what it was: that of a Pod which is gone names nobody any more.
	tokenFor = 5 * time.Minute
	// The API server is asked about so many tokens at once, and so many a second in the long run.
	askBurst, askRate = 50, 10
	mostTokens        = 8192
)

func newSidecarServer(a *Agent) *sidecarServer {
	return &sidecarServer{agent: a, busy: make(chan struct{}, sidecarRequests), tokens: map[[sha256.Size]byte]verifiedToken{}, names: sidecarNames{agent: a}}
}

// refusal is an answer other than that all is well.
type refusal struct {
	status int
	why    string
}

func (r *refusal) Error() string { return r.why }

func (s *sidecarServer) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	default:
		http.Error(answer, "too many reports at a time", http.StatusServiceUnavailable)
		return
	}
	err := s.take(answer, request)
	if refused, ok := errors.AsType[*refusal](err); ok {
		http.Error(answer, refused.why, refused.status)
	} else if err != nil {
		http.Error(answer, err.Error(), http.StatusServiceUnavailable)
	}
}

func (s *sidecarServer) take(answer http.ResponseWriter, request *http.Request) error {
	name, ok := strings.CutPrefix(request.URL.Path, sidecar.ReportPath)
	if !ok || name == "" || len(name) > 253 || strings.Contains(name, "/") || request.Method != http.MethodPost {
		return &refusal{http.StatusNotFound, "reports come by POST to " + sidecar.ReportPath + "<inspection>"}
	}
	if !s.agent.heard.Load() {
		return &refusal{http.StatusServiceUnavailable, "the agent has just started"}
	}
	if err := s.local(request); err != nil {
		return err
	}
	who, err := s.authenticate(request)
	if err != nil {
		return err
	}
	pod, inspection, err := s.subject(request.Context(), who, name)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(http.MaxBytesReader(answer, request.Body, sidecar.MaxBody))
	if err != nil {
		return &refusal{http.StatusRequestEntityTooLarge, err.Error()}
	}
	report, err := sidecar.DecodeReport(body)
	if err != nil {
		return &refusal{http.StatusBadRequest, err.Error()}
	}
	taken := s.agent.sidecars.take(sidecarKey{pod.UID, name}, report, time.Now())
	s.tell(request.Context(), pod, inspection, report, taken)
	return nil
}

// local refuses whoever is not on this node: their tokens need not be asked about.
func (s *sidecarServer) local(request *http.Request) error {
	from, err := netip.ParseAddrPort(request.RemoteAddr)
	if err != nil {
		return &refusal{http.StatusForbidden, "your address makes no sense"}
	}
	own, err := localAddresses(s.agent.cfg.Netns)
	if err != nil {
		return err
	}
	if slices.Contains(own, from.Addr().Unmap()) { // some networks hide Pods behind their node
		return nil
	}
	var pods corev1.PodList
	if err := s.agent.cluster.cache.List(request.Context(), &pods); err != nil {
		return err
	}
	for i := range pods.Items {
		if slices.Contains(addressesOf(&pods.Items[i]), from.Addr().Unmap()) {
			return nil
		}
	}
	// The kubelet tells a Pod's address only once its first containers run: a sidecar is there before.
	if told := s.agent.sandboxes.present(func(types.UID) bool { return true }); len(told) > 0 {
		for _, one := range told {
			if slices.Contains(one.Addresses, from.Addr().Unmap()) {
				return nil
			}
		}
	}
	return &refusal{http.StatusForbidden, "this address is no Pod's of this node, as far as is known yet"}
}

// authenticate tells whose Pod a request is from.
func (s *sidecarServer) authenticate(request *http.Request) (verifiedToken, error) {
	token, ok := strings.CutPrefix(request.Header.Get("Authorization"), "Bearer ")
	if !ok || token == "" || len(token) > 16<<10 {
		return verifiedToken{}, &refusal{http.StatusUnauthorized, "a report needs the token of its Pod"}
	}
	key, now := sha256.Sum256([]byte(token)), time.Now()
	s.mu.Lock()
	have, known := s.tokens[key]
	if known && now.Before(have.until) {
		s.mu.Unlock()
		if have.uid == "" {
			return have, &refusal{http.StatusUnauthorized, "the token is not that of a Pod"}
		}
		return have, nil
	}
	s.asks = min(askBurst, s.asks+now.Sub(s.asked).Seconds()*askRate)
	s.asked = now
	if s.asks < 1 {
		s.mu.Unlock()
		return have, &refusal{http.StatusServiceUnavailable, "too many tokens are asked about at present"}
	}
	s.asks--
	s.mu.Unlock()
	have, err := s.review(request.Context(), token)
	if err != nil {
		return have, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tokens) >= mostTokens {
		s.tokens = map[[sha256.Size]byte]verifiedToken{}
	}
	have.until = now.Add(tokenFor)
	s.tokens[key] = have
	if have.uid == "" {
		return have, &refusal{http.StatusUnauthorized, "the token is not that of a Pod"}
	}
	return have, nil
}

// What the API server says of a Pod's token.
const (
	extraPodName    = "authentication.kubernetes.io/pod-name"
	extraPodUID     = "authentication.kubernetes.io/pod-uid"
	serviceAccounts = "system:serviceaccount:"
)

// review asks the API server about a token. One that is not a Pod's gives an empty uid.
func (s *sidecarServer) review(ctx context.Context, token string) (verifiedToken, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{sidecar.Audience}}}
	if err := s.agent.cluster.client.Create(ctx, review); err != nil {
		return verifiedToken{}, fmt.Errorf("the API server cannot be asked about the token: %w", err)
	}
	account, ok := strings.CutPrefix(review.Status.User.Username, serviceAccounts)
	namespace, _, _ := strings.Cut(account, ":")
	name, uid := review.Status.User.Extra[extraPodName], review.Status.User.Extra[extraPodUID]
	if !ok || !review.Status.Authenticated || !slices.Contains(review.Status.Audiences, sidecar.Audience) || len(name) != 1 || len(uid) != 1 {
		return verifiedToken{}, nil
	}
	return verifiedToken{pod: types.NamespacedName{Namespace: namespace, Name: name[0]}, uid: types.UID(uid[0])}, nil
}

// subject gives the Pod and the inspection that a report is about. The inspection must want a sidecar in that very Pod.
func (s *sidecarServer) subject(ctx context.Context, who verifiedToken, name string) (*corev1.Pod, *v1alpha1.TrafficInspection, error) {
	pod, inspection := &corev1.Pod{}, &v1alpha1.TrafficInspection{}
	err := s.agent.cluster.cache.Get(ctx, who.pod, pod)
	if apierrors.IsNotFound(err) || err == nil && pod.UID != who.uid {
		return nil, nil, &refusal{http.StatusServiceUnavailable, fmt.Sprintf("the Pod %s is not known on this node yet", who.pod)}
	}
	if err != nil {
		return nil, nil, err
	}
	err = s.agent.cluster.cache.Get(ctx, client.ObjectKey{Namespace: who.pod.Namespace, Name: name}, inspection)
	if err == nil && wantsSidecar(inspection, pod) {
		return pod, inspection, nil
	}
	if err == nil || apierrors.IsNotFound(err) {
		return nil, nil, &refusal{http.StatusNotFound, fmt.Sprintf("no TrafficInspection %s wants a sidecar in the Pod %s", name, who.pod)}
	}
	return nil, nil, err
}

// wantsSidecar tells whether an inspection selects a Pod for a sidecar.
func wantsSidecar(i *v1alpha1.TrafficInspection, pod *corev1.Pod) bool {
	selector, err := metav1.LabelSelectorAsSelector(&i.Spec.PodSelector)
	return i.Spec.Placement == v1alpha1.PlacementSidecar && err == nil && i.Namespace == pod.Namespace && !pod.Spec.HostNetwork &&
		selector.Matches(labels.Set(pod.Labels))
}
