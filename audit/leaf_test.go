package audit

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/callgate/callgate/call"
)

func codec(t testing.TB) *Codec {
	t.Helper()
	c, err := NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func encode(t testing.TB, e call.Event) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := codec(t).Encode(&buf, &e); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// events is one of each kind, with every field set to something.
func events() []call.Event {
	no := false
	at := time.Date(2026, 11, 23, 14, 3, 9, 123456789, time.UTC)
	id := call.ID{1, 2, 3, 15: 9}
	return []call.Event{
		{Kind: call.Decided, CallID: id, Time: at, Decided: &call.DecidedEvent{
			Identity: call.Identity{Issuer: "i", Subject: "s", Kind: call.Human, Groups: []string{"g"}, Actors: []call.Actor{{Issuer: "i", Subject: "a"}},
				Method: "oidc", TokenID: "j", Expires: at.Add(time.Hour), Scope: call.Scope{"c"}},
			Connection: "c", Protocol: call.MCP, Function: "tools/call f", Session: "s",
			Decision: call.Decision{Outcome: call.HoldAllow, Rule: "r", Reason: call.ReasonApproved, Message: "m", PolicyVersion: "p", Shadow: []string{"x"}, Relaxed: []string{"y: show"},
				Approval: &call.Approval{ID: "a", By: []string{"i|b"}, Comment: "ok", HeldFor: time.Second, AskedAt: at, EndedAt: at, Expires: at, Attempts: 2}},
			Method: "POST", Scheme: "https", Authority: "a", Headers: call.Headers{{Name: "x", Value: "\xfe"}},
			Body:   call.Body{Length: 3, Truncated: true, ContentType: "t", Encoding: "gzip"},
			Source: "10.0.0.1:1", TraceID: "t", RequestID: "r", RPCID: `"1"`, Started: at, Took: 5, Expect: []call.EventKind{call.Answered}, Late: true,
			Content: [32]byte{1}, Retain: call.Retain{Bodies: at, Row: at}, Batch: call.Place{ID: id, Index: 1, Size: 3}, Masked: []call.Masked{{Rule: "q", Type: "key", Path: "$.b", Count: 2}},
		}},
		{Kind: call.Answered, CallID: id, Time: at, Answered: &call.AnsweredEvent{
			Status: 200, RPCStatus: &call.RPCStatus{}, ToolError: &no, Headers: call.Headers{{Name: "a", Value: "b"}},
			Body: call.Body{Length: 1}, Masked: []call.Masked{{Rule: "r", Type: "card", Path: "$.a", Count: 1}}, Withheld: "w", Interrupted: true,
			Content: [32]byte{1}, Retain: call.Retain{Bodies: at, Row: at}, Original: &call.Original{Commitment: [32]byte{4}},
			Shadow: []string{"tool t: deny: r"}, RequestMasked: []call.Masked{{Rule: "q", Type: "key", Path: "b", Count: 1}},
		}},
		{Kind: call.Finished, CallID: id, Time: at, Finished: &call.FinishedEvent{
			Status: 503, Details: "d", Flags: []string{"UF"}, Upstream: "u", Cluster: "c", Attempts: 2, Started: at, Duration: time.Second,
			UpstreamTook: time.Millisecond, BytesIn: 1, BytesOut: 2, EnvoyNode: "n", HTTPVersion: "HTTP/2", TLSVersion: "TLSv1.3", UpstreamError: "e",
		}},
		{Kind: call.Held, CallID: id, Time: at, Approval: &call.ApprovalEvent{ID: "a", Step: "asked", By: "i|s", Comment: "c", Rule: "r", Expires: at, Binding: [32]byte{7}, Function: "f", InPlaceOf: "i|o", Stage: 1, Stages: 2, State: "open", Connection: "c", Number: 1}},
		{Kind: call.Changed, Time: at, Change: &call.ChangeEvent{What: "policy.activated", Version: "v", Detail: "d", Node: "n", By: "i|s", Calls: []call.ID{id}}},
		{Kind: call.Counted, Time: at, Counted: &call.CountedEvent{Node: "n", From: at, To: at.Add(time.Minute), Entries: 9, Decided: 6, Undecided: 3, Reached: 1, Calls: 8}},
	}
}

func TestLeafKeepsEverything(t *testing.T) {
	t.Parallel()
	c := codec(t)
	for _, e := range events() {
		got, err := c.Decode(encode(t, e))
		if err != nil {
			t.Fatalf("%s: %v", e.Kind, err)
		}
		if !reflect.DeepEqual(got, e) {
			t.Errorf("%s:\n got %+v\nwant %+v", e.Kind, got, e)
		}
	}
}

// The sample sets every field that an event has: a field that is added must
// be added there, and so cannot be left out of the encoding unseen.
func TestSampleIsComplete(t *testing.T) {
	t.Parallel()
	var look func(path string, v reflect.Value)
	look = func(path string, v reflect.Value) {
		if v.Type() == reflect.TypeFor[time.Time]() || v.Kind() != reflect.Struct {
			return
		}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.Tag.Get("cbor") == "-" || path == "call.Event" && f.Type.Kind() == reflect.Pointer && v.Field(i).IsNil() {
				continue
			}
			x := v.Field(i)
			if x.IsZero() && f.Name != "CallID" && f.Name != "Code" && f.Name != "Message" && f.Name != "Truncated" &&
				f.Name != "SHA256" && f.Name != "ContentType" && f.Name != "Encoding" {
				t.Errorf("%s.%s is not set", path, f.Name)
			}
			for x.Kind() == reflect.Pointer || x.Kind() == reflect.Slice && x.Len() > 0 {
				if x.Kind() == reflect.Slice {
					x = x.Index(0)
				} else {
					x = x.Elem()
				}
			}
			look(x.Type().String(), x)
		}
	}
	for _, e := range events() {
		look("call.Event", reflect.ValueOf(e))
	}
}

// A leaf is hashed, signed and kept for years: its bytes may never change
// under one version.
func TestLeafBytesAreFixed(t *testing.T) {
	t.Parallel()
	e := events()[4]
	const want = "8203a400476368616e67656401500000000000000000000000000000000002581e" +
		"323032362d31312d32335431343a30333a30392e3132333435363738395a08a6" +
		"0050706f6c6963792e616374697661746564014176024164" +
		"03416e0443697c7305815001020300000000000000000000000009"
	if got := hex.EncodeToString(encode(t, e)); got != want {
		t.Errorf("leaf is\n%s, was\n%s", got, want)
	}
	old, err := hex.DecodeString("8202" + want[4:])
	if err != nil {
		t.Fatal(err)
	}
	if got, err := codec(t).Decode(old); err != nil || !reflect.DeepEqual(got, e) {
		t.Errorf("a leaf of version 2 reads as %+v, %v", got, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	c := codec(t)
	good := encode(t, events()[4])
	edit := func(at int, b ...byte) []byte {
		x := bytes.Clone(good)
		copy(x[at:], b)
		return x
	}
	for name, leaf := range map[string][]byte{
		"nothing":            nil,
		"cut short":          good[:len(good)-1],
		"trailing bytes":     append(bytes.Clone(good), 0),
		"other array":        edit(0, 0x83),
		"version 0":          edit(1, 0),
		"not a number":       edit(1, 0x41),
		"unknown field":      append([]byte{0x82, LeafVersion, 0xa5}, append(bytes.Clone(good[3:]), 0x18, 0x63, 0x00)...),
		"another kind":       bytes.Replace(good, []byte("changed"), []byte("decided"), 1),
		"unknown kind":       bytes.Replace(good, []byte("changed"), []byte("chanted"), 1),
		"keys not in order":  {0x82, LeafVersion, 0xa2, 1, 0x40, 0, 0x40},
		"indefinite lengths": {0x82, LeafVersion, 0xbf, 0xff},
	} {
		if _, err := c.Decode(leaf); err == nil || errors.Is(err, ErrFutureLeaf) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Decode(edit(1, LeafVersion+1)); !errors.Is(err, ErrFutureLeaf) || !strings.Contains(err.Error(), "upgrade") {
		t.Errorf("a newer version: %v", err)
	}
}

func TestEncodeRefusesWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	for _, e := range []call.Event{
		{}, {Kind: call.Decided}, {Kind: "other", Change: &call.ChangeEvent{}},
		{Kind: call.Changed, Change: &call.ChangeEvent{}, Decided: &call.DecidedEvent{}},
	} {
		if err := codec(t).Encode(new(bytes.Buffer), &e); err == nil {
			t.Errorf("encoded %+v", e)
		}
	}
}

// An issuer may give any expiry; it must not make the call unrecordable.
func TestExpiryBeyondCalendars(t *testing.T) {
	t.Parallel()
	e := events()[0]
	e.Decided.Identity.Expires = time.Unix(1<<40, 0)
	got, err := codec(t).Decode(encode(t, e))
	if err != nil || got.Decided.Identity.Expires.Year() != 9999 {
		t.Errorf("%v, %v", got.Decided, err)
	}
	if e.Decided.Identity.Expires.Year() == 9999 {
		t.Error("the caller's event was changed")
	}
}

func FuzzDecode(f *testing.F) {
	c := codec(f)
	for _, e := range events() {
		f.Add(encode(f, e))
	}
	f.Fuzz(func(t *testing.T, leaf []byte) {
		e, err := c.Decode(leaf)
		if err != nil {
			return
		}
		if again := encode(t, e); !bytes.Equal(again, leaf) {
			t.Errorf("%x is read as %x", leaf, again)
		}
	})
}

func FuzzSplit(f *testing.F) {
	f.Add(append(preamble(nil, 3, 5, 2), "leafasideHDtail"...))
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := split(p)
		if err == nil && r.Size() > len(p) {
			t.Error("parts longer than the whole")
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	c, e := codec(b), decided(b, nil)
	var buf bytes.Buffer
	b.ReportAllocs()
	for b.Loop() {
		buf.Reset()
		if err := c.Encode(&buf, &e); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(buf.Len()), "bytes")
}
