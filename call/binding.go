package call

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

// Binding is the SHA-256 over everything that an approval is bound to: who
// calls and for whom, the connection, the function, the exact request bytes
// and the policy version. A change of any of them is another binding.
//
// Each field is hashed with its length before it, so that no two different
// calls can be laid out as the same bytes.
func (c *Call) Binding(policyVersion string) [32]byte {
	h := sha256.New()
	field(h, "callgate/binding/v1")
	field(h, c.Identity.Issuer)
	field(h, c.Identity.Subject)
	count(h, len(c.Identity.Actors))
	for _, a := range c.Identity.Actors {
		field(h, a.Issuer)
		field(h, a.Subject)
	}
	field(h, c.Connection)
	field(h, c.Function)
	field(h, c.Request.Method)
	field(h, c.Request.Authority)
	field(h, c.Request.Path)
	field(h, c.Request.Headers.Get("content-type"))
	field(h, c.Request.Headers.Get("content-encoding"))
	count(h, len(c.Request.Body))
	h.Write(c.Request.Body)
	field(h, policyVersion)
	return [32]byte(h.Sum(nil))
}

func field(h hash.Hash, s string) {
	count(h, len(s))
	h.Write([]byte(s))
}

func count(h hash.Hash, n int) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	h.Write(b[:])
}
