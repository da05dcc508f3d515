package audit

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/callgate/callgate/call"
)

// aside is what an event commits to and what is kept beside its leaf, so that
// it can be erased without a trace while the leaf still verifies.
type aside struct {
	Salt    [16]byte `cbor:"0,keyasint"`
	SHA256  [32]byte `cbor:"1,keyasint"`           // of the whole body
	Args    []byte   `cbor:"2,keyasint,omitempty"` // of a decided event
	Path    string   `cbor:"3,keyasint,omitempty"` // of a decided event
	Message string   `cbor:"4,keyasint,omitempty"` // of an answered event's RPC status
	Sealed  []byte   `cbor:"5,keyasint,omitempty"` // original of an answered event
}

// Seal returns e with a fresh salt and with the commitment to its content. An
// event without content is returned as it is.
func Seal(e call.Event) (call.Event, error) {
	if e.Decided == nil && e.Answered == nil {
		return e, nil
	}
	if _, err := rand.Read(e.Salt[:]); err != nil {
		return e, fmt.Errorf("make a salt: %w", err)
	}
	switch {
	case e.Decided != nil:
		d := *e.Decided
		d.Content = Commitment(&e)
		e.Decided = &d
	case e.Answered != nil:
		a := *e.Answered
		a.Content = Commitment(&e)
		e.Answered = &a
	}
	return e, nil
}

// Commitment is the SHA-256 over an event's salt and content, each field with
// its length before it. It is zero for an event that has none.
//
// A recorded part of a body that is not whole is committed to beside the hash
// of the whole, which it can't be checked against.
func Commitment(e *call.Event) [32]byte {
	var space [1 << 10]byte // enough for most, so that nothing is allocated
	p := commit(space[:0], []byte("callgate/content/v1"))
	p = commit(p, e.Salt[:])
	switch {
	case e.Decided != nil:
		p = commit(p, e.Decided.ArgsJSON)
		p = commit(p, []byte(e.Decided.Path))
		p = commitBody(p, &e.Decided.Body)
	case e.Answered != nil:
		message := ""
		if e.Answered.RPCStatus != nil {
			message = e.Answered.RPCStatus.Message
		}
		p = commit(p, []byte(message))
		p = commitBody(p, &e.Answered.Body)
		if o := e.Answered.Original; o != nil {
			p = commit(p, o.Sealed)
		}
	default:
		return [32]byte{}
	}
	return sha256.Sum256(p)
}

func commitBody(p []byte, b *call.Body) []byte {
	p = commit(p, b.SHA256[:])
	if b.Truncated {
		p = commit(p, b.Head)
		p = commit(p, b.Tail)
	}
	return p
}

func commit(p, field []byte) []byte {
	return append(binary.BigEndian.AppendUint64(p, uint64(len(field))), field...)
}

// ErrContent says that an event's content is not what it commits to.
var ErrContent = errors.New("the content is not what the event commits to")

// CheckContent tells whether the content of e is the one that was recorded.
func CheckContent(e *call.Event) error {
	var want [32]byte
	var b *call.Body
	switch {
	case e.Decided != nil:
		want, b = e.Decided.Content, &e.Decided.Body
	case e.Answered != nil:
		want, b = e.Answered.Content, &e.Answered.Body
	default:
		return nil
	}
	if Commitment(e) != want {
		return ErrContent
	}
	if b.Truncated || b.Length == 0 && len(b.Head) == 0 {
		return nil
	}
	if int64(len(b.Head)) != b.Length || sha256.Sum256(b.Head) != b.SHA256 {
		return ErrContent
	}
	return nil
}

// asideOut is aside as it is written: slices are encoded without reflection.
type asideOut struct {
	Salt    []byte `cbor:"0,keyasint"`
	SHA256  []byte `cbor:"1,keyasint"`
	Args    []byte `cbor:"2,keyasint,omitempty"`
	Path    string `cbor:"3,keyasint,omitempty"`
	Message string `cbor:"4,keyasint,omitempty"`
	Sealed  []byte `cbor:"5,keyasint,omitempty"`
}

// content is what goes beside the leaf of e; nil where there is nothing.
func content(e *call.Event) *asideOut {
	switch {
	case e.Decided != nil:
		d := e.Decided
		return &asideOut{Salt: e.Salt[:], SHA256: d.Body.SHA256[:], Args: d.ArgsJSON, Path: d.Path}
	case e.Answered != nil:
		a := &asideOut{Salt: e.Salt[:], SHA256: e.Answered.Body.SHA256[:]}
		if e.Answered.RPCStatus != nil {
			a.Message = e.Answered.RPCStatus.Message
		}
		if o := e.Answered.Original; o != nil {
			a.Sealed = o.Sealed
		}
		return a
	}
	return nil
}

// put gives e its content back.
func (a *aside) put(e *call.Event) {
	e.Salt = a.Salt
	switch {
	case e.Decided != nil:
		e.Decided.ArgsJSON, e.Decided.Path, e.Decided.Body.SHA256 = a.Args, a.Path, a.SHA256
	case e.Answered != nil:
		e.Answered.Body.SHA256 = a.SHA256
		if e.Answered.RPCStatus != nil {
			e.Answered.RPCStatus.Message = a.Message
		}
		if o := e.Answered.Original; o != nil {
			o.Sealed = a.Sealed
		}
	}
}
