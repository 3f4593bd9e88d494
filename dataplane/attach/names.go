package attach

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
)

// Prefixes of an edge's interfaces in the node's namespace. Eight hex digits follow: the beginning of the SHA-256 of the
// Pod's UID.
const (
	// PodPortPrefix is for the bridge's port towards the Pod.
	PodPortPrefix = "mkp"
	// UplinkPortPrefix is for the bridge's port towards the rest of the world: the Pod's original interface.
	UplinkPortPrefix = "mku"
	// sparePrefix is for the Pod's new interface while it is not in the Pod: just before Interpose and just after Release.
	sparePrefix = "mkn"
)

const digits = 8

func hash(uid string) []byte {
	sum := sha256.Sum256([]byte(uid))
	return sum[:]
}

func suffix(uid string) string { return hex.EncodeToString(hash(uid))[:digits] }

// PodPort is the name of the bridge's port towards the Pod with this UID.
func PodPort(uid string) string { return PodPortPrefix + suffix(uid) }

// UplinkPort is the name of the bridge's port away from the Pod with this UID.
func UplinkPort(uid string) string { return UplinkPortPrefix + suffix(uid) }

func sparePort(uid string) string { return sparePrefix + suffix(uid) }

// uplinkMAC is the address that the Pod's original interface has while it is a bridge port: locally administered, and never
// the Pod's, so that the node takes no frame that is meant for the Pod as its own.
func uplinkMAC(uid string) net.HardwareAddr {
	return append(net.HardwareAddr{0x0a, 0x6d}, hash(uid)[:4]...)
}
