package attach

import (
	"fmt"
	"maps"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/meerkat-dev/meerkat/dataplane/attach/netspace"
)

// config is all that makes up a Pod's interface, as seen from the Pod.
type config struct {
	identity
	Up         bool      `json:"up"`
	Addresses  []address `json:"addresses"`
	Routes     []route   `json:"routes"`
	Neighbours []message `json:"neighbours"`
	Sysctls    sysctls   `json:"sysctls"`
}

// configOf reads the configuration of an interface in space.
func configOf(space *netspace.Space, link *netlink.LinkAttrs) (c config, err error) {
	c = config{identity: identityOf(link), Up: link.RawFlags&unix.IFF_UP != 0}
	err = space.Do(func() error {
		if c.Addresses, err = addressesOf(link.Index); err != nil {
			return err
		}
		if c.Routes, err = routesOf(link.Index, unix.AF_INET, unix.AF_INET6); err != nil {
			return err
		}
		if c.Neighbours, err = neighboursOf(link.Index); err != nil {
			return err
		}
		c.Sysctls, err = sysctlsOf(link.Name)
		return err
	})
	return c, err
}

// prefixes lists the addresses.
func (c config) prefixes() []netip.Prefix {
	list := make([]netip.Prefix, 0, len(c.Addresses))
	for _, a := range c.Addresses {
		list = append(list, a.Prefix)
	}
	return list
}

// reindex makes it the configuration of an interface with another index.
func (c *config) reindex(index int) {
	for i, r := range c.Routes {
		c.Routes[i] = r.reindexed(c.Index, index)
	}
	c.Index = index
}

// prepare gives an interface, which may still be down, what it can have in that state: settings and IPv4 addresses. Until
// complete, the kernel does not look for duplicates of IPv6 addresses: the Pod has had them all along.
func (c config) prepare(link *netlink.LinkAttrs) error {
	early := sysctls{}
	maps.Copy(early, c.Sysctls)
	early[fmt.Sprintf(acceptDAD, link.Name)] = "0"
	if err := early.apply(); err != nil {
		return err
	}
	return setAddresses(link.Index, c.Addresses, unix.AF_INET)
}

// tentativePatience bounds the wait for IPv6 addresses. It is only ever long where a Pod has switched the search for
// duplicates on for all its interfaces.
const tentativePatience = 1500 * time.Millisecond

// complete brings a prepared interface up and gives it the rest.
func (c config) complete(link *netlink.LinkAttrs) error {
	if c.Up {
		if err := setFlags(link.Index, unix.IFF_UP); err != nil {
			return fmt.Errorf("cannot bring %s up: %w", link.Name, err)
		}
	}
	if err := setAddresses(link.Index, c.Addresses, unix.AF_INET6); err != nil {
		return err
	}
	if c.Up { // an interface that is down has neither neighbours nor routes
		if err := setNeighbours(link.Index, c.Neighbours); err != nil {
			return err
		}
		// Routes over IPv4 do not wait for IPv6 addresses.
		if err := setRoutes(link.Index, c.Routes, c.Index, unix.AF_INET); err != nil {
			return err
		}
		if err := awaitAddresses(link.Index, tentativePatience); err != nil {
			return err
		}
		if err := setRoutes(link.Index, c.Routes, c.Index, unix.AF_INET6); err != nil {
			return err
		}
	}
	return c.Sysctls.apply()
}
