package replay

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// magics begin files of packets, as their first four bytes read in network order.
var magics = map[uint32]string{
	0xa1b2c3d4: "pcap", 0xd4c3b2a1: "pcap", 0xa1b23c4d: "pcap", 0x4d3cb2a1: "pcap", 0xa1b2cd34: "pcap", 0x34cdb2a1: "pcap",
	0x0a0d0d0a: "pcapng",
}

// magicOf tells what kind of capture a file is.
func magicOf(in io.Reader) (string, error) {
	var magic [4]byte
	if _, err := io.ReadFull(in, magic[:]); err != nil {
		return "", errors.New("is no packet capture: it is empty")
	}
	if kind := magics[binary.BigEndian.Uint32(magic[:])]; kind != "" {
		return kind, nil
	}
	if magic[0] == 0x1f && magic[1] == 0x8b {
		return "", errors.New("is compressed; unpack it with gunzip first")
	}
	return "", errors.New("is no packet capture in the format pcap or pcapng; convert it, for example with editcap -F pcap")
}

// checkCapture refuses what is no capture.
func checkCapture(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // read-only
	_, err = magicOf(file)
	return err
}

// packetReader is a capture's, of either kind.
type packetReader interface {
	ZeroCopyReadPacketData() (data []byte, ci gopacket.CaptureInfo, err error)
	LinkType() layers.LinkType
}

// openCapture opens a capture to read its packets.
func openCapture(path string) (packetReader, io.Closer, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	r, err := newReader(file)
	if err == nil {
		err = checkLink(r.LinkType())
	}
	if err != nil {
		_ = file.Close()
		return nil, nil, err
	}
	return r, file, nil
}

// empty tells that a capture has no packet. Of one that cannot be read here, the engine is to say what is wrong.
func empty(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close() //nolint:errcheck // read-only
	r, err := newReader(file)
	if err != nil {
		return false
	}
	_, _, err = r.ZeroCopyReadPacketData()
	return errors.Is(err, io.EOF)
}

// newReader reads a file of either kind.
func newReader(file *os.File) (packetReader, error) {
	kind, err := magicOf(file)
	if err != nil {
		return nil, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	in := bufio.NewReaderSize(file, 1<<20)
	if kind == "pcap" {
		return pcapgo.NewReader(in)
	}
	return pcapgo.NewNgReader(in, pcapgo.DefaultNgReaderOptions)
}

// linkHeader is where the header of a link type has the type of what follows, and where that begins. etherType is -1 where there is
// no such field: then it is IP.
type linkHeader struct{ etherType, length int }

// linkHeaders are those of the link types that are read. 12 and 14 are raw IP as some systems number it.
var linkHeaders = map[layers.LinkType]linkHeader{
	layers.LinkTypeEthernet:  {12, 14},
	layers.LinkTypeLinuxSLL:  {14, 16},
	layers.LinkTypeLinuxSLL2: {0, 20},
	layers.LinkTypeNull:      {-1, 4},
	layers.LinkTypeLoop:      {-1, 4},
	layers.LinkTypeRaw:       {-1, 0},
	layers.LinkTypeIPv4:      {-1, 0},
	layers.LinkTypeIPv6:      {-1, 0},
	12:                       {-1, 0},
	14:                       {-1, 0},
}

// checkLink refuses link types that are not read.
func checkLink(t layers.LinkType) error {
	if _, ok := linkHeaders[t]; !ok {
		return fmt.Errorf("has packets of link type %d (%s), and policies are judged on Ethernet, Linux cooked, loopback and raw IP only; "+
			"capture on an interface of one of these kinds", t, strings.TrimSpace(t.String()))
	}
	return nil
}

// ipPacket gives the IP packet in a frame, with its VLAN tags taken off, and its EtherType; nil when there is none.
func ipPacket(t layers.LinkType, frame []byte) ([]byte, layers.EthernetType) {
	h := linkHeaders[t]
	if len(frame) < h.length {
		return nil, 0
	}
	rest := frame[h.length:]
	if h.etherType >= 0 {
		kind := layers.EthernetType(binary.BigEndian.Uint16(frame[h.etherType:]))
		for kind == layers.EthernetTypeDot1Q || kind == layers.EthernetTypeQinQ {
			if len(rest) < 4 {
				return nil, 0
			}
			kind, rest = layers.EthernetType(binary.BigEndian.Uint16(rest[2:])), rest[4:]
		}
		if kind != layers.EthernetTypeIPv4 && kind != layers.EthernetTypeIPv6 {
			return nil, 0
		}
	}
	if len(rest) == 0 {
		return nil, 0
	}
	switch rest[0] >> 4 {
	case 4:
		return rest, layers.EthernetTypeIPv4
	case 6:
		return rest, layers.EthernetTypeIPv6
	}
	return nil, 0
}

// Check refuses a file that is no capture.
func Check(path string) error {
	err := checkCapture(path)
	if pathErr := (*os.PathError)(nil); err == nil || errors.As(err, &pathErr) {
		return err
	}
	return fmt.Errorf("%s: %w", path, err)
}
