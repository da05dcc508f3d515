package call

import (
	"fmt"

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
	// MaxResponse bounds a response that is held back to be masked, in bytes.
	MaxResponse int64 `json:"max_response,omitempty"`
	// Record says how the response is recorded.
	Record RecordSettings `json:"record,omitzero"`
}

// RecordSettings is how much of a response is kept, and how surely.
type RecordSettings struct {
	MaxBody  int64    `json:"max_body,omitempty"` // bytes kept whole
	Response string   `json:"response,omitempty"` // durable, async, off
	Headers  []string `json:"headers,omitempty"`  // lower case
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
