package plan

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"strings"
)

// digest hashes a sequence of values in such a way that no two different sequences read alike.
type digest struct {
	hash.Hash
	scratch []byte
}

func newDigest() *digest {
	return &digest{Hash: sha256.New()}
}

func (d *digest) text(s string) {
	d.number(uint64(len(s)))
	d.scratch = append(d.scratch[:0], s...)
	d.Write(d.scratch)
}

func (d *digest) texts(list []string) {
	d.number(uint64(len(list)))
	for _, s := range list {
		d.text(s)
	}
}

func (d *digest) number(n uint64) {
	d.scratch = binary.BigEndian.AppendUint64(d.scratch[:0], n)
	d.Write(d.scratch)
}

func (d *digest) flag(b bool) {
	if b {
		d.number(1)
		return
	}
	d.number(0)
}

// key is a name for what was hashed: the direction, for the reader, and 64 bits of the hash.
func (d *digest) key(direction Direction) string {
	return strings.ToLower(string(direction)) + "-" + hex.EncodeToString(d.Sum(nil)[:8])
}

// epoch is 32 bits of the hash, never 0: that is what a connection carries that nobody has judged.
func (d *digest) epoch() uint32 {
	return max(binary.BigEndian.Uint32(d.Sum(nil)), 1)
}
