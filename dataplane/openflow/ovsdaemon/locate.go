package ovsdaemon

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meerkat-dev/meerkat/dataplane/openflow"
)

// Where the switches of a node are.
const (
	// OwnDir is where the Open vSwitch lives that Meerkat runs on nodes that have none.
	OwnDir = "/run/meerkat/ovs"
	// NodeDir is where the Open vSwitch lives that a node runs by itself.
	NodeDir = "/run/openvswitch"
)

// Datapath says which of Open vSwitch's datapaths is wanted.
type Datapath string

const (
	// DatapathAuto is the kernel's where the node's kernel has it, and else the one in userspace.
	DatapathAuto Datapath = "auto"
	// DatapathKernel needs the kernel module.
	DatapathKernel Datapath = "kernel"
	// DatapathUserspace needs no kernel module; packets pass through ovs-vswitchd itself.
	DatapathUserspace Datapath = "userspace"
)

// ParseDatapath reads "auto", "kernel" or "userspace".
func ParseDatapath(text string) (Datapath, error) {
	all := []Datapath{DatapathAuto, DatapathKernel, DatapathUserspace}
	if d := Datapath(strings.ToLower(text)); slices.Contains(all, d) {
		return d, nil
	}
	return "", fmt.Errorf("the datapath %q is none of auto, kernel and userspace", text)
}

// Place says where to look for a node's Open vSwitch. Empty directories stand for OwnDir and NodeDir.
type Place struct {
	OwnDir, NodeDir string
	Datapath        Datapath
}

func (p Place) own() string  { return cmp.Or(p.OwnDir, OwnDir) }
func (p Place) node() string { return cmp.Or(p.NodeDir, NodeDir) }

// ErrNoSwitch is wrapped by Locate's error when no Open vSwitch answers: one may come up yet.
var ErrNoSwitch = errors.New("no Open vSwitch answers")

// Location is a running Open vSwitch, as openflow.OVS takes it.
type Location struct {
	// RunDir is the directory of its sockets.
	RunDir string
	// DatapathType is openflow.DatapathKernel or openflow.DatapathUserspace.
	DatapathType string
	// Version is what the database says of it ("3.5.0"); "" when nobody has told it.
	Version string
}

// Locate finds the Open vSwitch in which a node's bridge belongs. Ours is taken where it runs, and else the node's own. That changes
// when the node's own comes up, and ours, which must not use the kernel's datapath beside it, ends: whoever uses what is found here
// asks again when commands fail, and moves the bridge when the answer is another one. The error wraps ErrNoSwitch when none answers.
func Locate(ctx context.Context, p Place) (Location, error) {
	var found []error
	for _, dir := range []string{p.own(), p.node()} {
		v, err := ask(ctx, dir)
		if err != nil {
			found = append(found, err)
			continue
		}
		datapath, err := v.datapath(p.Datapath)
		if err != nil {
			return Location{}, fmt.Errorf("the Open vSwitch in %s: %w", dir, err)
		}
		return Location{RunDir: dir, DatapathType: datapath, Version: v.version}, nil
	}
	return Location{}, fmt.Errorf("%w: %w", ErrNoSwitch, errors.Join(found...))
}

// vswitch is what a running Open vSwitch says of itself.
type vswitch struct {
	version   string
	datapaths []string
}

func (v vswitch) datapath(wanted Datapath) (string, error) {
	kernel := slices.Contains(v.datapaths, openflow.DatapathKernel)
	switch {
	case wanted == DatapathUserspace, wanted != DatapathKernel && !kernel:
		return openflow.DatapathUserspace, nil
	case !kernel:
		return "", errors.New("it has no kernel datapath: the node's kernel lacks the module openvswitch, or it could not be loaded; " +
			"load it (modprobe openvswitch), or choose the datapath in userspace")
	default:
		return openflow.DatapathKernel, nil
	}
}

// askTimeout bounds each question to a switch.
const askTimeout = 2 * time.Second

// ask asks both daemons of a directory: the database by its protocol, and ovs-vswitchd by a connection to where it takes commands.
func ask(ctx context.Context, dir string) (vswitch, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	v, err := askDatabase(ctx, filepath.Join(dir, "db.sock"))
	if err != nil {
		return vswitch{}, fmt.Errorf("in %s, the database does not answer: %w", dir, err)
	}
	pid, err := os.ReadFile(filepath.Join(dir, switchProgram+".pid"))
	if err != nil {
		return vswitch{}, fmt.Errorf("in %s, ovs-vswitchd does not run: %w", dir, err)
	}
	number, err := strconv.ParseUint(strings.TrimSpace(string(pid)), 10, 32)
	if err != nil {
		return vswitch{}, fmt.Errorf("in %s, the pid file of ovs-vswitchd makes no sense: %w", dir, err)
	}
	control := filepath.Join(dir, fmt.Sprintf("%s.%d.ctl", switchProgram, number))
	if err := dial(ctx, control); err != nil {
		return vswitch{}, fmt.Errorf("in %s, ovs-vswitchd does not answer: %w", dir, err)
	}
	return v, nil
}

// maxDatabaseAnswer bounds what the database may answer, in bytes: it has a few hundred.
const maxDatabaseAnswer = 64 << 10

// askDatabase reads what ovs-vswitchd has written about itself (RFC 7047).
func askDatabase(ctx context.Context, socket string) (vswitch, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return vswitch{}, err
	}
	defer conn.Close() //nolint:errcheck // nothing is left to lose
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	const question = `{"method":"transact","id":0,"params":["Open_vSwitch",{"op":"select","table":"Open_vSwitch","where":[],` +
		`"columns":["datapath_types","ovs_version"]}]}`
	if _, err := io.WriteString(conn, question); err != nil {
		return vswitch{}, err
	}
	var answer struct {
		Result []struct {
			Rows []struct {
				DatapathTypes ovsdbStrings `json:"datapath_types"`
				Version       ovsdbStrings `json:"ovs_version"`
			} `json:"rows"`
		} `json:"result"`
	}
	if err := json.NewDecoder(bufio.NewReader(io.LimitReader(conn, maxDatabaseAnswer))).Decode(&answer); err != nil {
		return vswitch{}, err
	}
	if len(answer.Result) == 0 || len(answer.Result[0].Rows) == 0 {
		return vswitch{}, errors.New("it is empty still")
	}
	row := answer.Result[0].Rows[0]
	if len(row.DatapathTypes) == 0 {
		return vswitch{}, errors.New("ovs-vswitchd has not come up yet")
	}
	return vswitch{version: strings.Join(row.Version, ""), datapaths: row.DatapathTypes}, nil
}

// ovsdbStrings is a set of strings: ["set", ["a", "b"]], or "a" when there is one.
type ovsdbStrings []string

// UnmarshalJSON refuses anything but strings.
func (s *ovsdbStrings) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*s = ovsdbStrings{one}
		return nil
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(text, &parts); err != nil || len(parts) != 2 {
		return fmt.Errorf("%.60s is no set", text)
	}
	return json.Unmarshal(parts[1], (*[]string)(s))
}
