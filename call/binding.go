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
// Left out are the parts of the body that [Call.Loose] names.
//
// Each field is hashed with its length before it, so that no two different
// calls can be laid out as the same bytes.
func (c *Call) Binding(policyVersion string) [32]byte {
	h := sha256.New()
	if len(c.Loose) == 0 {
		field(h, "callgate/binding/v1")
	} else {
		field(h, "callgate/binding/v1/loose")
	}
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
	at := 0
	for _, s := range c.Loose {
		count(h, s.Start-at)
		h.Write(c.Request.Body[at:s.Start])
		at = s.End
	}
	count(h, len(c.Request.Body)-at)
	h.Write(c.Request.Body[at:])
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
