package audit

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/callgate/callgate/call"
)

// LeafVersion is the version of the encoding that this build writes. A release
// that adds a field to an event makes a new version, since a reader of the one
// before refuses fields it does not know; the field is omitted when empty, so
// that leaves from oldestLeaf on are read as they were written.
const (
	LeafVersion = 3
	oldestLeaf  = 2
)

// arrayOfTwo is the CBOR head that every leaf starts with.
const arrayOfTwo = 0x82

// ErrFutureLeaf says that an event was written by a newer version of
// Callgate. It must be kept until one that can read it comes.
var ErrFutureLeaf = errors.New("event was written by a newer version of callgate; upgrade this one")

// Codec turns events into leaves and back. It is safe for concurrent use.
//
// A leaf is the CBOR array [version, event] in core deterministic encoding
// (RFC 8949 §4.2.1): definite lengths, shortest integers, sorted keys. Keys
// are the small integers in the tags of call.Event. Strings are CBOR byte
// strings, because what callers send need not be UTF-8 and the record must be
// exact. Times are RFC 3339 with nanoseconds in UTC, null where there is none.
// Content (bodies, arguments, paths) is not in the leaf, which commits to it;
// see [Seal].
type Codec struct {
	enc cbor.UserBufferEncMode
	dec cbor.DecMode
}

// Bounds on what a leaf may nest and hold; far above any event of ours.
const (
	maxNesting  = 8
	maxElements = 1 << 17
)

// NewCodec returns a Codec.
func NewCodec() (*Codec, error) {
	opts := cbor.CoreDetEncOptions()
	opts.Time = cbor.TimeRFC3339NanoUTC
	opts.String = cbor.StringToByteString
	opts.BinaryMarshaler = cbor.BinaryMarshalerNone
	opts.TextMarshaler = cbor.TextMarshalerNone
	opts.TagsMd = cbor.TagsForbidden
	enc, err := opts.UserBufferEncMode()
	if err != nil {
		return nil, fmt.Errorf("set up CBOR encoding: %w", err)
	}
	dec, err := cbor.DecOptions{
		DupMapKey:          cbor.DupMapKeyEnforcedAPF,
		IndefLength:        cbor.IndefLengthForbidden,
		TagsMd:             cbor.TagsForbidden,
		ExtraReturnErrors:  cbor.ExtraDecErrorUnknownField,
		ByteStringToString: cbor.ByteStringToStringAllowed,
		ByteStringToTime:   cbor.ByteStringToTimeAllowed,
		BinaryUnmarshaler:  cbor.BinaryUnmarshalerNone,
		TextUnmarshaler:    cbor.TextUnmarshalerNone,
		FieldNameMatching:  cbor.FieldNameMatchingCaseSensitive,
		MaxNestedLevels:    maxNesting,
		MaxArrayElements:   maxElements,
		MaxMapPairs:        maxElements,
	}.DecMode()
	if err != nil {
		return nil, fmt.Errorf("set up CBOR decoding: %w", err)
	}
	return &Codec{enc: enc, dec: dec}, nil
}

// Encode appends the leaf of e to buf.
func (c *Codec) Encode(buf *bytes.Buffer, e *call.Event) error {
	return c.encode(buf, e, LeafVersion)
}

func (c *Codec) encode(buf *bytes.Buffer, e *call.Event, version byte) error {
	if err := payload(e); err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	if e.Decided != nil && !encodable(e.Decided.Identity.Expires) {
		// The issuer chose this time. RFC 3339 ends with the year 9999,
		// and so late a token never expires as far as we care.
		d, changed := *e.Decided, *e
		d.Identity.Expires = endOfTime
		changed.Decided = &d
		e = &changed
	}
	buf.Write([]byte{arrayOfTwo, version})
	if err := c.enc.MarshalToBuffer(e, buf); err != nil {
		return fmt.Errorf("encode %s event: %w", e.Kind, err)
	}
	return nil
}

var endOfTime = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

func encodable(t time.Time) bool { return !t.After(endOfTime) && t.Year() >= 0 }

// Decode reads a leaf. It refuses whatever [Codec.Encode] of the leaf's version
// would not have written, so that each event has one leaf. The event's bodies have no bytes.
func (c *Codec) Decode(leaf []byte) (call.Event, error) {
	e, err := c.read(leaf)
	if err != nil {
		return call.Event{}, err
	}
	again := bytes.NewBuffer(make([]byte, 0, len(leaf)))
	if err := c.encode(again, &e, leaf[1]); err != nil {
		return call.Event{}, fmt.Errorf("read event: %w", err)
	}
	if !bytes.Equal(again.Bytes(), leaf) {
		return call.Event{}, errors.New("read event: not in canonical form")
	}
	return e, nil
}

// EncodeContent returns what is kept beside the leaf of e, but for the recorded
// parts of its body; nil where there is nothing.
func (c *Codec) EncodeContent(e *call.Event) ([]byte, error) {
	var buf bytes.Buffer
	err := c.appendContent(&buf, e)
	return buf.Bytes(), err
}

// appendContent appends what EncodeContent returns to buf.
func (c *Codec) appendContent(buf *bytes.Buffer, e *call.Event) error {
	a := content(e)
	if a == nil {
		return nil
	}
	if err := c.enc.MarshalToBuffer(a, buf); err != nil {
		return fmt.Errorf("encode content of %s event: %w", e.Kind, err)
	}
	return nil
}

// DecodeContent gives e, as [Codec.Decode] returned it, the content that was
// kept beside its leaf. Nothing at all means that the content was erased.
func (c *Codec) DecodeContent(e *call.Event, encoded []byte) error {
	if len(encoded) == 0 {
		return nil
	}
	var a aside
	if err := c.dec.Unmarshal(encoded, &a); err != nil {
		return fmt.Errorf("read content of %s event: %w", e.Kind, err)
	}
	a.put(e)
	return nil
}

func (c *Codec) read(leaf []byte) (call.Event, error) {
	var e call.Event
	if len(leaf) < 3 || leaf[0] != arrayOfTwo {
		return e, errors.New("read event: not a leaf")
	}
	switch v := leaf[1]; {
	case v >= oldestLeaf && v <= LeafVersion:
	case v > LeafVersion && v <= 0x1b: // a CBOR unsigned integer
		return e, fmt.Errorf("read event of encoding %d: %w", v, ErrFutureLeaf)
	default:
		return e, fmt.Errorf("read event: not a leaf version: %#x", v)
	}
	if err := c.dec.Unmarshal(leaf[2:], &e); err != nil {
		return call.Event{}, fmt.Errorf("read event: %w", err)
	}
	if err := payload(&e); err != nil {
		return call.Event{}, fmt.Errorf("read event: %w", err)
	}
	return e, nil
}

// payload checks that exactly the payload that the kind names is set.
func payload(e *call.Event) error {
	set := 0
	for _, present := range []bool{e.Decided != nil, e.Answered != nil, e.Finished != nil, e.Approval != nil, e.Change != nil, e.Counted != nil} {
		if present {
			set++
		}
	}
	var right bool
	switch e.Kind {
	case call.Decided:
		right = e.Decided != nil
	case call.Answered:
		right = e.Answered != nil
	case call.Finished:
		right = e.Finished != nil
	case call.Held, call.Approved:
		right = e.Approval != nil
	case call.Changed:
		right = e.Change != nil
	case call.Counted:
		right = e.Counted != nil
	default:
		return fmt.Errorf("unknown kind of event %q", e.Kind)
	}
	if !right || set != 1 {
		return fmt.Errorf("%s event with %d payloads, or not its own", e.Kind, set)
	}
	return nil
}

// bodyOf is the body that an event has, or nil.
func bodyOf(e *call.Event) *call.Body {
	switch {
	case e.Decided != nil:
		return &e.Decided.Body
	case e.Answered != nil:
		return &e.Answered.Body
	}
	return nil
}
