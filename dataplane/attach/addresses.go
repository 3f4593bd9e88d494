package attach

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// address is one of an interface's addresses.
type address struct {
	// Prefix is for the reader; Raw is what is played back.
	Prefix netip.Prefix `json:"prefix"`
	Raw    message      `json:"raw"`
}

const addressHeader = unix.SizeofIfAddrmsg

// Offsets in struct ifaddrmsg.
const (
	addressFamily = 0
	addressLength = 1
	addressIndex  = 4
)

// addressesOf reads the addresses of an interface in the calling thread's namespace, in the kernel's order.
func addressesOf(index int) ([]address, error) {
	all, err := dump(unix.RTM_GETADDR, unix.RTM_NEWADDR, nl.NewIfAddrmsg(unix.AF_UNSPEC))
	if err != nil {
		return nil, fmt.Errorf("cannot list addresses: %w", err)
	}
	var found []address
	for _, m := range all {
		if len(m) < addressHeader || get32(m[addressIndex:]) != int32(index) {
			continue
		}
		prefix, err := m.addressPrefix()
		if err != nil {
			return nil, fmt.Errorf("cannot read an address: %w", err)
		}
		found = append(found, address{Prefix: prefix, Raw: m})
	}
	return found, nil
}

func (m message) addressPrefix() (netip.Prefix, error) {
	header, attrs, err := m.split(addressHeader)
	if err != nil {
		return netip.Prefix{}, err
	}
	value := find(attrs, unix.IFA_LOCAL) // absent for most IPv6 addresses
	if value == nil {
		value = find(attrs, unix.IFA_ADDRESS)
	}
	addr, ok := netip.AddrFromSlice(value)
	if !ok {
		return netip.Prefix{}, fmt.Errorf("an address of %d bytes", len(value))
	}
	return netip.PrefixFrom(addr, int(header[addressLength])), nil
}

// setAddresses gives an interface exactly the wanted addresses of one family: adds the missing, in order, and takes away the
// others, such as a link-local address that the kernel made by itself and that was not there before. Addresses that are there
// are left as they are.
func setAddresses(index int, wanted []address, family byte) error {
	present, err := addressesOf(index)
	if err != nil {
		return err
	}
	has := func(list []address, prefix netip.Prefix) bool {
		for _, a := range list {
			if a.Prefix == prefix {
				return true
			}
		}
		return false
	}
	if family == unix.AF_INET6 { // the kernel lists the newest first
		wanted = slices.Clone(wanted)
		slices.Reverse(wanted)
	}
	for _, a := range wanted {
		if a.Raw[addressFamily] != family || has(present, a.Prefix) {
			continue
		}
		err := send(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, a.Raw.onInterface(index))
		// The kernel makes a link-local address by itself, at the moment at which the interface has a carrier.
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("cannot add the address %s: %w", a.Prefix, err)
		}
	}
	for _, a := range present {
		if a.Raw[addressFamily] != family || has(wanted, a.Prefix) {
			continue
		}
		err := send(unix.RTM_DELADDR, 0, a.Raw)
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("cannot take away the address %s: %w", a.Prefix, err)
		}
	}
	return nil
}

func (m message) onInterface(index int) message {
	header, rest := append(message{}, m[:addressHeader]...), m[addressHeader:]
	put32(header[addressIndex:], int32(index))
	return append(header, rest...)
}

// awaitAddresses waits until the kernel has finished with new IPv6 addresses. It does so in a work queue, even when it does
// not look for duplicates; until then nobody can bind to them, and routes that prefer them as source are refused.
func awaitAddresses(index int, patience time.Duration) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		present, err := addressesOf(index)
		if err != nil {
			return err
		}
		tentative := false
		for _, a := range present {
			tentative = tentative || a.Raw.addressFlags()&unix.IFA_F_TENTATIVE != 0
		}
		if !tentative || time.Now().After(deadline) {
			return nil
		}
	}
}

func (m message) addressFlags() uint32 {
	_, attrs, err := m.split(addressHeader)
	if err != nil {
		return 0
	}
	if v := find(attrs, unix.IFA_FLAGS); len(v) == 4 {
		return binary.NativeEndian.Uint32(v)
	}
	return uint32(m[2])
}
