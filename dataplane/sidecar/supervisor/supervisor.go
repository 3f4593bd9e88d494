package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/engine"
	"github.com/meerkat-dev/meerkat/dataplane/sidecar"
)

// Supervisor is one sidecar's. Make it with New and let it Run once.
type Supervisor struct {
	cfg      Config
	reporter *reporter
	agent    netip.AddrPort

	// The loop's own.
	engine  *engine.Engine
	network network
	version string    // of the volume, as it was last read in whole
	file    *ruleFile // what the volume held then
	failed  string    // why that is not loaded
	retry   time.Time
	begun   bool
	counted time.Time

	loaded atomic.Pointer[ruleFile]
}

// New checks the configuration, and touches nothing.
func New(cfg Config) (*Supervisor, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Supervisor{cfg: cfg, reporter: newReporter(cfg), agent: netip.AddrPortFrom(cfg.Host, cfg.Port)}, nil
}

// ReadyFile is the file in a sidecar's directory that is there once the Pod's own containers may start.
func ReadyFile(runDir string) string { return filepath.Join(runDir, "ready") }

// Run inspects until ctx ends, and then a moment longer. It returns no error but that its directory cannot be written: whatever else is
// wrong is reported, and tried again.
func (s *Supervisor) Run(ctx context.Context) error {
	if err := os.Remove(ReadyFile(s.cfg.RunDir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { s.reporter.run(background) })
	defer func() { stop(); running.Wait() }()

	bound := time.Now().Add(s.cfg.Bound)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	fast := time.NewTicker(lookEvery / 10) // while the Pod waits
	defer fast.Stop()
	for ctx.Err() == nil {
		s.look(ctx)
		if err := s.begin(bound); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-fast.C:
			if s.begun {
				fast.Stop()
			}
		}
	}
	s.end(stop, &running)
	return nil
}

// begin lets the Pod's containers start, once the engine inspects, or it is too late to wait, or no use.
func (s *Supervisor) begin(bound time.Time) error {
	state := s.state()
	if s.begun || !state.Inspecting && state.Reason != sidecar.ReasonNoRight && time.Now().Before(bound) {
		return nil
	}
	if !state.Inspecting {
		s.cfg.Log.Info("The Pod starts uninspected", "reason", state.Reason, "message", state.Message)
	}
	s.begun = true
	return os.WriteFile(ReadyFile(s.cfg.RunDir), nil, 0o600)
}

func (s *Supervisor) state() sidecar.Report {
	s.reporter.mu.Lock()
	defer s.reporter.mu.Unlock()
	return s.reporter.state
}

// look brings engine and rules in line with the interfaces and the volume, and notes how that went.
func (s *Supervisor) look(ctx context.Context) {
	if !mayInspect() {
		s.report(sidecar.ReasonNoRight, "the container has no capability NET_RAW: the container runtime does not give it by default, and the namespace's "+
			"pod security level does not let it be asked for; give the namespace the label pod-security.kubernetes.io/enforce=privileged, and delete the Pod so that it is created anew")
		return
	}
	now, err := look()
	if err != nil {
		s.report(sidecar.ReasonNotInspecting, err.Error())
		return
	}
	if err := s.follow(ctx, now); err != nil {
		s.report(sidecar.ReasonNotInspecting, err.Error())
		return
	}
	s.load(ctx, now)
	s.count(ctx)
	health := s.engine.Health()
	switch {
	case !health.Healthy:
		s.report(sidecar.ReasonNotInspecting, health.Reason)
	case s.failed != "":
		s.report(sidecar.ReasonRulesRefused, s.failed)
	case s.loaded.Load().content() == "":
		s.report(sidecar.ReasonNoRules, sidecar.ErrNone.Error())
	default:
		s.report("", "")
	}
}

// report notes what is wrong; nothing where the engine inspects by the newest rules.
func (s *Supervisor) report(reason, message string) {
	loaded := s.loaded.Load()
	healthy := s.engine != nil && s.engine.Health().Healthy && reason != sidecar.ReasonNoRight
	version := ""
	if s.engine != nil {
		version = s.engine.Status().Version
	}
	s.reporter.set(func(r *sidecar.Report) {
		r.Inspecting, r.Content, r.RuleSets = healthy && loaded.content() != "", loaded.content(), loaded.ruleSets()
		r.Reason, r.Message, r.Version = reason, sidecar.Clean(message), version
	})
}

// mayInspect tells whether this process has what Suricata needs.
func mayInspect() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return true // then let it try
	}
	return data[0].Effective&(1<<unix.CAP_NET_RAW) != 0
}

// follow has an engine run over the interfaces that there are.
func (s *Supervisor) follow(ctx context.Context, now network) error {
	if s.engine != nil && s.network.sameLinks(now) {
		return nil
	}
	if s.engine == nil && time.Now().Before(s.retry) {
		return errors.New(s.failed)
	}
	if s.engine != nil {
		s.cfg.Log.Info("The Pod has other interfaces", "before", s.network.links, "now", now.links)
		if err := s.engine.Stop(ctx); err != nil {
			return err
		}
		s.engine, s.version = nil, ""
		s.loaded.Store(nil)
	}
	e, err := s.start(ctx, now)
	if err != nil {
		s.failed, s.retry = err.Error(), time.Now().Add(retryEvery)
		return err
	}
	s.engine, s.network, s.failed, s.retry = e, now, "", time.Time{}
	return nil
}

func (s *Supervisor) start(ctx context.Context, now network) (*engine.Engine, error) {
	if len(now.names) == 0 {
		return nil, errors.New("the Pod has no interface that is up")
	}
	dir := filepath.Join(s.cfg.RunDir, "engine")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	e, err := engine.New(engine.Config{
		Kind: engine.Detect, A: now.names[0], Dir: dir, LockDir: filepath.Join(s.cfg.RunDir, "lock"), Binary: s.cfg.Binary,
		InPod:  &engine.InPod{More: now.names[1:]},
		Memory: s.cfg.Memory, Slot: 1, KillWithParent: true, OnRecord: s.onRecord,
	}, s.cfg.Log.WithName("engine"))
	if err != nil {
		return nil, err
	}
	return e, e.Start(ctx)
}

// load has the engine load what the volume holds, if that is another than before. The last good rules stay when it cannot.
func (s *Supervisor) load(ctx context.Context, now network) {
	version := volumeVersion(s.cfg.RulesDir)
	fresh := version != s.version || !s.network.sameHome(now)
	if !fresh && (s.failed == "" || time.Now().Before(s.retry)) {
		return
	}
	s.network.home = now.home
	if fresh || s.file == nil {
		file, err := readRules(s.cfg.RulesDir)
		if err != nil {
			s.failed, s.retry, s.file = err.Error(), time.Now().Add(lookEvery), nil // the rest is on its way
			return
		}
		s.file, s.version = file, version
	}
	rules, err := s.file.forEngine(now.home, s.agent)
	if err == nil {
		_, err = s.engine.Load(ctx, rules)
	}
	if err != nil {
		s.failed, s.retry = err.Error(), time.Now().Add(retryEvery)
		s.cfg.Log.Error(err, "The rules are not loaded; those before stay", "content", s.file.content())
		return
	}
	s.failed = ""
	s.loaded.Store(s.file)
	s.cfg.Log.Info("Rules loaded", "content", s.file.content(), "ruleSets", s.file.ruleSets())
}

// count asks the engine now and then what it did not look at.
func (s *Supervisor) count(ctx context.Context) {
	if time.Since(s.counted) < countEvery {
		return
	}
	s.counted = time.Now()
	counters, err := s.engine.Counters(ctx)
	if err != nil {
		return // its health tells more
	}
	capture, _ := counters["capture"].(map[string]any)
	dropped, _ := capture["kernel_drops"].(float64)
	s.reporter.set(func(r *sidecar.Report) { r.Dropped = uint64(dropped) })
	s.cfg.Log.V(1).Info("Counters", "capture", capture, "decoder", counters["decoder"], "tcp", counters["tcp"])
}

// record is the part of the engine's that is read.
type record struct {
	EventType string     `json:"event_type"`
	SrcIP     netip.Addr `json:"src_ip"`
	SrcPort   uint16     `json:"src_port"`
	DestIP    netip.Addr `json:"dest_ip"`
	DestPort  uint16     `json:"dest_port"`
	Alert     struct {
		GID uint64 `json:"gid"`
		SID uint64 `json:"signature_id"`
	} `json:"alert"`
}

// onRecord queues an alert. What is about the reports themselves would never end.
func (s *Supervisor) onRecord(line []byte) {
	var r record
	if json.Unmarshal(line, &r) != nil || r.EventType != "alert" {
		return
	}
	if netip.AddrPortFrom(r.SrcIP.Unmap(), r.SrcPort) == s.agent || netip.AddrPortFrom(r.DestIP.Unmap(), r.DestPort) == s.agent {
		return
	}
	a := waitingAlert{record: append(json.RawMessage{}, line...)}
	if loaded := s.loaded.Load(); loaded != nil && loaded.manifest != nil {
		for _, i := range loaded.owners[number{max(r.Alert.GID, 1), r.Alert.SID}] {
			a.ruleSets = append(a.ruleSets, loaded.manifest.RuleSets[i])
		}
	}
	s.reporter.add(a)
}

// end ends in order: the engine sees the last packets, and the agent hears of them.
func (s *Supervisor) end(stop func(), running *sync.WaitGroup) {
	time.Sleep(linger)
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	stop()
	running.Wait()
	if s.engine != nil {
		if err := s.engine.Stop(ctx); err != nil {
			s.cfg.Log.Error(err, "The engine does not end")
		}
	}
	s.reporter.set(func(r *sidecar.Report) { r.Ending, r.Inspecting = true, false })
	for more := true; more && ctx.Err() == nil; {
		var err error
		if more, err = s.reporter.send(ctx); err != nil {
			s.cfg.Log.Error(err, "The agent of the node was not told of the end")
			return
		}
	}
}
