package call

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// MetadataNamespace is the only dynamic-metadata namespace that Envoy's
// ext_authz filter writes, and MetadataKey is ours inside it.
const (
	MetadataNamespace = "envoy.filters.http.ext_authz"
	MetadataKey       = "callgate"
)

// Headers that Callgate sets, and strips when a caller sends them.
const (
	HeaderPrefix   = "x-callgate-"
	HeaderCallID   = "x-callgate-call-id"
	HeaderApproval = "x-callgate-approval"
	HeaderReason   = "x-callgate-reason"
)

// HeaderBreakGlass is a caller's own word: the reason to pass without approval,
// where a rule lets it. It never reaches the function. It does not start with
// [HeaderPrefix], since Envoys strip what does.
const HeaderBreakGlass = "callgate-break-glass"

// Metadata is what the later steps of a call need to know. It travels in
// Envoy's dynamic metadata from ext_authz to ext_proc and the access log, so
// that the three may be three replicas. The access log ships all metadata:
// nothing secret may stand here.
type Metadata struct {
	CallID     ID       `json:"call_id"`
	Outcome    Outcome  `json:"outcome"`
	Connection string   `json:"connection,omitempty"`
	Protocol   Protocol `json:"protocol,omitempty"`
	Function   string   `json:"function,omitempty"`
	RPCID      string   `json:"rpc_id,omitempty"` // JSON, as the caller sent it
	Mask       Mask     `json:"mask,omitzero"`
	// Caller is who called, where the response may list functions, of which those
	// that it may not call are taken out, or holds calls of tools, which are
	// judged as the caller's.
	Caller *Identity `json:"caller,omitempty"`
	// Policy is the version that decided, where Caller is set, and Carried what
	// more rules look at of the caller, encrypted.
	Policy  string `json:"policy,omitempty"`
	Carried string `json:"carried,omitempty"`
	// MaxResponse bounds a response that is held back to be masked, in bytes.
	MaxResponse int64 `json:"max_response,omitempty"`
	// Aliases are names that fields have in the response, and what the fields
	// are called: a mask of a field is one of its aliases, too.
	Aliases map[string][]string `json:"aliases,omitempty"`
	// Response says how the response is read to be masked.
	Response ResponseSettings `json:"response,omitzero"`
	// Record says how the response is recorded.
	Record RecordSettings `json:"record,omitzero"`
	// Elicits is set where an MCP session begins whose client can show its person
	// a page (elicitation in URL mode).
	Elicits bool `json:"elicits,omitempty"`
	// Request is set where the request is masked.
	Request *RequestMask `json:"request,omitempty"`
	// Batch is set where the request is a batch: CallID is then that of its
	// first call, Outcome that of the request, and what stands for a single
	// call (Function, RPCID, Mask) is told for each.
	Batch *Batch `json:"batch,omitempty"`
}

// HashOf is the SHA-256, in hex, by which what travels in a call's metadata knows a
// body or path.
func HashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// RequestMask is what must be hidden of a request on its way to the function. The
// body that was judged and the one that the function gets, which is recorded, are
// known by their [HashOf]; so is the path with its query. Without them body
// or path stay as they are.
type RequestMask struct {
	Mask       Mask   `json:"mask"`
	Judged     string `json:"judged,omitempty"`
	Sent       string `json:"sent,omitempty"`
	JudgedPath string `json:"judged_path,omitempty"`
	SentPath   string `json:"sent_path,omitempty"`
	// Stream says that the body is messages that were not judged, each of which
	// is masked as it passes.
	Stream bool `json:"stream,omitempty"`
}

// Batch is what the later steps must know of a request that holds several calls.
type Batch struct {
	Calls []BatchCall `json:"calls"`
	Masks []Mask      `json:"masks,omitempty"` // that calls refer to
	// Edit says that some calls are denied, so that their parts must be taken
	// out of the body. The body that was judged is known by its SHA-256, in hex.
	Edit   bool   `json:"edit,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
}

// BatchCall is one call of a batch, in the order of the request.
type BatchCall struct {
	CallID   ID     `json:"call_id"`
	Function string `json:"function,omitempty"`
	RPCID    string `json:"rpc_id,omitempty"` // JSON, as the caller sent it
	Mask     int    `json:"mask,omitempty"`   // in Masks, counted from 1; 0: none
	// Start and End are where it stands in the body, in bytes.
	Start int `json:"start"`
	End   int `json:"end"`
	// Denied is set where it is denied, and is what its caller is told.
	Denied *Decision `json:"denied,omitempty"`
}

// Each returns the metadata of the batch's calls that are allowed, each as if it
// had come alone.
func (m Metadata) Each() []Metadata {
	var out []Metadata
	for _, c := range m.Batch.Calls {
		if c.Denied != nil {
			continue
		}
		one := m
		one.Batch, one.CallID, one.Function, one.RPCID, one.Mask = nil, c.CallID, c.Function, c.RPCID, Mask{}
		if c.Mask > 0 && c.Mask <= len(m.Batch.Masks) {
			one.Mask = m.Batch.Masks[c.Mask-1]
		}
		out = append(out, one)
	}
	return out
}

// ResponseSettings is how a response is read to be masked.
type ResponseSettings struct {
	// LookBehind is how much of a stream is searched together, in bytes.
	LookBehind int64 `json:"look_behind,omitempty"`
	// Binary says what becomes of a response that can't be masked.
	Binary string `json:"binary,omitempty"` // deny, pass
	// Texts are paths in events that hold pieces of longer texts.
	Texts []string `json:"texts,omitempty"`
	// Private says that what callers get differs by who they are, so that no
	// cache may give to one what another got.
	Private bool `json:"private,omitempty"`
}

// What becomes of a response that can't be masked.
const (
	BinaryDeny = "deny"
	BinaryPass = "pass"
)

// RecordSettings is how much of a response is kept, and how surely.
type RecordSettings struct {
	MaxBody  int64    `json:"max_body,omitempty"` // bytes kept whole
	Response string   `json:"response,omitempty"` // durable, async, off
	Headers  []string `json:"headers,omitempty"`  // lower case
	// Originals are the age public keys of those who may open what was masked.
	Originals []string `json:"originals,omitempty"`
	// Unrecorded lets calls through that can't be recorded in time, to be
	// recorded later; the default denies them.
	Unrecorded bool `json:"unrecorded,omitempty"`
	// KeepBodies and KeepCalls are how many seconds content and row are
	// kept; 0 means for ever.
	KeepBodies int64 `json:"keep_bodies,omitempty"`
	KeepCalls  int64 `json:"keep_calls,omitempty"`
}

// Retain is until when a record made at that time is kept.
func (s RecordSettings) Retain(at time.Time) Retain {
	var r Retain
	if s.KeepBodies > 0 {
		r.Bodies = at.Add(time.Duration(s.KeepBodies) * time.Second).UTC()
	}
	if s.KeepCalls > 0 {
		r.Row = at.Add(time.Duration(s.KeepCalls) * time.Second).UTC()
		if s.KeepBodies == 0 || r.Row.Before(r.Bodies) {
			r.Bodies = r.Row
		}
	}
	return r
}

// The ways to record a response.
const (
	RecordDurable = "durable"
	RecordAsync   = "async"
	RecordOff     = "off"
)

// ParseID reads a call id as Metadata and the headers carry it.
func ParseID(s string) (ID, error) {
	id, err := uuid.Parse(s)
	if err != nil {
		return ID{}, fmt.Errorf("call id %q: %w", s, err)
	}
	return id, nil
}
