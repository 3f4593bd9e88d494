package attach

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What ethtool(8) asks of the kernel by SIOCETHTOOL, as linux/ethtool.h defines it. The package safchain/ethtool does the same, but
// keeps addresses of variables as plain numbers: when the stack grows meanwhile, the kernel writes where the stack was, and every
// feature of the interface seems to be missing or off (its pull request 139; no release has it yet).
const (
	ethtoolStringSetInfo = 0x37 // ETHTOOL_GSSET_INFO
	ethtoolStrings       = 0x1b // ETHTOOL_GSTRINGS
	ethtoolGetFeatures   = 0x3a // ETHTOOL_GFEATURES
	ethtoolSetFeatures   = 0x3b // ETHTOOL_SFEATURES

	stringSetFeatures = 4  // ETH_SS_FEATURES
	featureNameLength = 32 // ETH_GSTRING_LEN
)

// feature is what the kernel says of one feature of an interface.
type feature struct {
	name                            string
	available, active, neverChanged bool
}

// ethtool asks about interfaces in the namespace of the thread that opened it.
type ethtool struct{ fd int }

func openEthtool() (*ethtool, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening a socket: %w", err)
	}
	return &ethtool{fd}, nil
}

func (e *ethtool) close() { _ = unix.Close(e.fd) }

// ask hands a request to the kernel, which writes its answer over it.
func (e *ethtool) ask(name string, request []byte) error {
	ifr := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer // and not a number: it must follow what it points to
		_    [16]byte       // ifreq is 40 bytes
	}{data: unsafe.Pointer(&request[0])}
	if copy(ifr.name[:unix.IFNAMSIZ-1], name) < len(name) {
		return fmt.Errorf("%q is too long for an interface's name", name)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(e.fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifr))); errno != 0 {
		return errno
	}
	return nil
}

// names lists the features' names by their numbers; those that have no name are "".
func (e *ethtool) names(name string) ([]string, error) {
	info := binary.NativeEndian.AppendUint64(words(ethtoolStringSetInfo, 0), 1<<stringSetFeatures)
	info = append(info, words(0)...)
	if err := e.ask(name, info); err != nil {
		return nil, fmt.Errorf("counting features: %w", err)
	}
	count := int(word(info, 4))
	if count == 0 {
		return nil, fmt.Errorf("the kernel knows no features of it")
	}
	const header = 12
	table := append(words(ethtoolStrings, stringSetFeatures, uint32(count)), make([]byte, count*featureNameLength)...)
	if err := e.ask(name, table); err != nil {
		return nil, fmt.Errorf("naming features: %w", err)
	}
	names := make([]string, count)
	for i := range names {
		entry := table[header+i*featureNameLength:][:featureNameLength]
		if end := bytes.IndexByte(entry, 0); end >= 0 {
			entry = entry[:end]
		}
		names[i] = string(entry)
	}
	return names, nil
}

// features lists an interface's features in the kernel's order.
func (e *ethtool) features(name string) ([]feature, error) {
	names, err := e.names(name)
	if err != nil {
		return nil, err
	}
	// A block of 32 features is four words: available, requested, active, never changed.
	const header, perBlock = 2, 4
	blocks := blocksOf(len(names))
	got := append(words(ethtoolGetFeatures, uint32(blocks)), make([]byte, 4*perBlock*blocks)...)
	if err := e.ask(name, got); err != nil {
		return nil, fmt.Errorf("reading features: %w", err)
	}
	var all []feature
	for i, n := range names {
		bit := func(field int) bool { return word(got, header+perBlock*(i/32)+field)>>(i%32)&1 == 1 }
		if n != "" {
			all = append(all, feature{name: n, available: bit(0), active: bit(2), neverChanged: bit(3)})
		}
	}
	return all, nil
}

// change switches features on or off. One that the interface does not have is an error, and nothing is changed.
func (e *ethtool) change(name string, wanted map[string]bool) error {
	names, err := e.names(name)
	if err != nil {
		return err
	}
	// A block of 32 features is two words: which to change, and to what.
	const header, perBlock = 2, 2
	blocks := blocksOf(len(names))
	request := make([]uint32, header+perBlock*blocks)
	request[0], request[1] = ethtoolSetFeatures, uint32(blocks)
	found := 0
	for i, n := range names {
		on, ok := wanted[n]
		if !ok {
			continue
		}
		found++
		block := request[header+perBlock*(i/32):]
		block[0] |= 1 << (i % 32)
		if on {
			block[1] |= 1 << (i % 32)
		}
	}
	if found < len(wanted) {
		return fmt.Errorf("%d of its %d features are known to the kernel", found, len(wanted))
	}
	return e.ask(name, words(request...))
}

func blocksOf(features int) int { return (features + 31) / 32 }

func words(w ...uint32) []byte {
	b := make([]byte, 0, 4*len(w))
	for _, one := range w {
		b = binary.NativeEndian.AppendUint32(b, one)
	}
	return b
}

func word(b []byte, i int) uint32 { return binary.NativeEndian.Uint32(b[4*i:]) }
