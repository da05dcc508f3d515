package clickhouse

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/callgate/callgate/call"
)

// Row is one row of calls. The tags name the columns; the migrations say what
// they mean.
type Row struct {
	CallID    uuid.UUID `ch:"call_id" json:"call_id"`
	Time      time.Time `ch:"time" json:"time"`
	DecidedAt time.Time `ch:"decided_at" json:"decided_at"`

	Issuer        string     `ch:"issuer" json:"issuer"`
	Subject       string     `ch:"subject" json:"subject"`
	Kind          string     `ch:"kind" json:"kind"`
	Groups        []string   `ch:"groups" json:"groups"`
	Acting        string     `ch:"acting" json:"acting"`
	ActorIssuers  []string   `ch:"actors.issuer" json:"actors.issuer"`
	ActorSubjects []string   `ch:"actors.subject" json:"actors.subject"`
	AuthMethod    string     `ch:"auth_method" json:"auth_method"`
	TokenID       string     `ch:"token_id" json:"token_id"`
	TokenExpires  *time.Time `ch:"token_expires" json:"token_expires"`
	Scope         []string   `ch:"scope" json:"scope"`

	Connection string `ch:"connection" json:"connection"`
	Protocol   string `ch:"protocol" json:"protocol"`
	Function   string `ch:"function" json:"function"`
	Args       string `ch:"args" json:"args"`
	Session    string `ch:"session" json:"session"`

	Decision      string   `ch:"decision" json:"decision"`
	Allowed       bool     `ch:"allowed" json:"allowed"`
	Rule          string   `ch:"rule" json:"rule"`
	Reason        string   `ch:"reason" json:"reason"`
	Message       string   `ch:"message" json:"message"`
	PolicyVersion string   `ch:"policy_version" json:"policy_version"`
	Shadow        []string `ch:"shadow" json:"shadow"`
	Relaxed       []string `ch:"relaxed" json:"relaxed"`

	ApprovalID       string     `ch:"approval_id" json:"approval_id"`
	ApprovalBy       []string   `ch:"approval_by" json:"approval_by"`
	ApprovalComment  string     `ch:"approval_comment" json:"approval_comment"`
	ApprovalAsked    *time.Time `ch:"approval_asked" json:"approval_asked"`
	ApprovalEnded    *time.Time `ch:"approval_ended" json:"approval_ended"`
	ApprovalExpires  *time.Time `ch:"approval_expires" json:"approval_expires"`
	ApprovalAttempts uint32     `ch:"approval_attempts" json:"approval_attempts"`

	Method               string            `ch:"method" json:"method"`
	Scheme               string            `ch:"scheme" json:"scheme"`
	Authority            string            `ch:"authority" json:"authority"`
	Path                 string            `ch:"path" json:"path"`
	RequestHeaders       map[string]string `ch:"request_headers" json:"request_headers"`
	RequestType          string            `ch:"request_type" json:"request_type"`
	RequestEncoding      string            `ch:"request_encoding" json:"request_encoding"`
	RequestBody          string            `ch:"request_body" json:"request_body"`
	RequestBodyTail      string            `ch:"request_body_tail" json:"request_body_tail"`
	RequestBodyBytes     uint64            `ch:"request_body_bytes" json:"request_body_bytes"`
	RequestBodyTruncated bool              `ch:"request_body_truncated" json:"request_body_truncated"`
	RequestBodySum       string            `ch:"request_body_sum" json:"request_body_sha256"`
	RequestSalt          string            `ch:"request_salt" json:"request_salt"`
	RequestMaskedRules   []string          `ch:"request_masked.rule" json:"request_masked.rule"`
	RequestMaskedTypes   []string          `ch:"request_masked.type" json:"request_masked.type"`
	RequestMaskedPaths   []string          `ch:"request_masked.path" json:"request_masked.path"`
	RequestMaskedCounts  []uint32          `ch:"request_masked.count" json:"request_masked.count"`
	Source               string            `ch:"source" json:"source"`
	EnvoyNode            string            `ch:"envoy_node" json:"envoy_node"`
	TraceID              string            `ch:"trace_id" json:"trace_id"`
	RequestID            string            `ch:"request_id" json:"request_id"`
	RPCID                string            `ch:"rpc_id" json:"rpc_id"`

	BatchID    uuid.UUID `ch:"batch_id" json:"batch_id"`
	BatchIndex uint32    `ch:"batch_index" json:"batch_index"`
	BatchSize  uint32    `ch:"batch_size" json:"batch_size"`

	Answered LegState `ch:"answered" json:"answered"`
	Finished LegState `ch:"finished" json:"finished"`

	HTTPStatus *uint16 `ch:"http_status" json:"http_status"`
	RPCCode    *int64  `ch:"rpc_code" json:"rpc_code"`
	RPCMessage *string `ch:"rpc_message" json:"rpc_message"`
	ToolError  *bool   `ch:"tool_error" json:"tool_error"`

	ResponseHeaders       map[string]string `ch:"response_headers" json:"response_headers"`
	ResponseType          string            `ch:"response_type" json:"response_type"`
	ResponseEncoding      string            `ch:"response_encoding" json:"response_encoding"`
	ResponseBody          string            `ch:"response_body" json:"response_body"`
	ResponseBodyTail      string            `ch:"response_body_tail" json:"response_body_tail"`
	ResponseBodyBytes     *uint64           `ch:"response_body_bytes" json:"response_body_bytes"`
	ResponseBodyTruncated bool              `ch:"response_body_truncated" json:"response_body_truncated"`
	ResponseBodySum       string            `ch:"response_body_sum" json:"response_body_sha256"`
	ResponseSalt          string            `ch:"response_salt" json:"response_salt"`
	MaskedRules           []string          `ch:"masked.rule" json:"masked.rule"`
	MaskedTypes           []string          `ch:"masked.type" json:"masked.type"`
	MaskedPaths           []string          `ch:"masked.path" json:"masked.path"`
	MaskedCounts          []uint32          `ch:"masked.count" json:"masked.count"`
	ResponseShadow        []string          `ch:"response_shadow" json:"response_shadow"`
	StreamMaskedRules     []string          `ch:"request_stream_masked.rule" json:"request_stream_masked.rule"`
	StreamMaskedTypes     []string          `ch:"request_stream_masked.type" json:"request_stream_masked.type"`
	StreamMaskedPaths     []string          `ch:"request_stream_masked.path" json:"request_stream_masked.path"`
	StreamMaskedCounts    []uint32          `ch:"request_stream_masked.count" json:"request_stream_masked.count"`
	OriginalSealed        string            `ch:"original_sealed" json:"original_sealed"`
	OriginalCommitment    string            `ch:"original_commitment" json:"original_commitment"`
	Withheld              string            `ch:"withheld" json:"withheld"`
	Interrupted           bool              `ch:"interrupted" json:"interrupted"`

	AuthzMicros      uint64   `ch:"authz_us" json:"authz_us"`
	HoldMicros       uint64   `ch:"hold_us" json:"hold_us"`
	UpstreamMicros   *uint64  `ch:"upstream_us" json:"upstream_us"`
	TotalMicros      *uint64  `ch:"total_us" json:"total_us"`
	BytesIn          *uint64  `ch:"bytes_in" json:"bytes_in"`
	BytesOut         *uint64  `ch:"bytes_out" json:"bytes_out"`
	ResponseFlags    []string `ch:"response_flags" json:"response_flags"`
	ResponseDetails  string   `ch:"response_details" json:"response_details"`
	Upstream         string   `ch:"upstream" json:"upstream"`
	Cluster          string   `ch:"cluster" json:"cluster"`
	UpstreamAttempts uint32   `ch:"upstream_attempts" json:"upstream_attempts"`
	UpstreamError    string   `ch:"upstream_error" json:"upstream_error"`
	HTTPVersion      string   `ch:"http_version" json:"http_version"`
	TLSVersion       string   `ch:"tls_version" json:"tls_version"`

	Backlog     bool       `ch:"backlog" json:"backlog"`
	BodiesUntil time.Time  `ch:"bodies_until" json:"bodies_until"`
	RowUntil    time.Time  `ch:"row_until" json:"row_until"`
	Erased      *time.Time `ch:"erased" json:"erased"`

	Spool      string `ch:"spool" json:"spool"`
	SpoolIndex uint64 `ch:"spool_index" json:"spool_index"`

	Inserted time.Time `ch:"inserted" json:"inserted"` // set when it is sent
}

// MarshalJSON writes the row as [Rows.Values] renders one: an object by column,
// strings that are not UTF-8 as hex with "0x" before it. Hashes are hex, empty
// where there is none, and the arguments are JSON of their own.
func (r Row) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	v := reflect.ValueOf(r)
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("json")
		value := plain(v.Field(i))
		switch s, _ := v.Field(i).Interface().(string); {
		case name == "request_body_sha256":
			value = hexOf(r.RequestBodySHA256())
		case name == "response_body_sha256":
			value = hexOf(r.ResponseBodySHA256())
		case strings.HasSuffix(name, "_sha256"), strings.HasSuffix(name, "_salt"), strings.HasPrefix(name, "original_"):
			value = hexOf(s)
		case name == "args" && json.Valid([]byte(s)):
			value = json.RawMessage(s)
		}
		data, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("write column %s: %w", name, err)
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(strconv.AppendQuote(out, name), ':'), data...)
	}
	return append(out, '}'), nil
}

// hexOf writes a hash, or nothing for none.
func hexOf(s string) string {
	if strings.Trim(s, "\x00") == "" {
		return ""
	}
	return hex.EncodeToString([]byte(s))
}

// RequestBodySHA256 is the SHA-256 of the whole request body; zeros where it is
// not known any more.
func (r *Row) RequestBodySHA256() string {
	return whole(r.RequestBodySum, r.RequestBody, r.RequestBodyBytes)
}

// ResponseBodySHA256 is that of the response body; zeros where it is not known.
func (r *Row) ResponseBodySHA256() string {
	if r.ResponseBodyBytes == nil {
		return noSum
	}
	return whole(r.ResponseBodySum, r.ResponseBody, *r.ResponseBodyBytes)
}

// whole is the SHA-256 of a whole body, of which the row has the hash where it
// has only parts of it.
func whole(sum, body string, length uint64) string {
	if sum == noSum && uint64(len(body)) == length {
		h := sha256.Sum256([]byte(body))
		return string(h[:])
	}
	return sum
}

// LegState says what a row knows of a leg.
type LegState = string

// The states of a leg.
const (
	LegNone    LegState = "none"    // it was not expected
	LegUnknown LegState = "unknown" // it was expected and not seen, or not yet
	LegSeen    LegState = "seen"
)

// newRow is the row of a call of which only the decision is known.
func newRow(e *call.Event, spool string, index uint64) *Row {
	d := e.Decided
	began := d.Started
	if began.IsZero() {
		began = e.Time
	}
	r := &Row{
		CallID: e.CallID, Time: clamp(began), DecidedAt: clamp(e.Time),
		Issuer: d.Identity.Issuer, Subject: d.Identity.Subject, Kind: string(d.Identity.Kind),
		Groups: d.Identity.Groups, Acting: d.Identity.Acting(), AuthMethod: d.Identity.Method,
		TokenID: d.Identity.TokenID, TokenExpires: moment(d.Identity.Expires), Scope: d.Identity.Scope,
		Connection: d.Connection, Protocol: string(d.Protocol), Function: d.Function,
		Args: string(d.ArgsJSON), Session: d.Session,
		Decision: string(d.Decision.Outcome), Allowed: d.Decision.Outcome.Allowed(), Rule: d.Decision.Rule,
		Reason: string(d.Decision.Reason), Message: d.Decision.Message,
		PolicyVersion: d.Decision.PolicyVersion, Shadow: d.Decision.Shadow, Relaxed: d.Decision.Relaxed,
		Method: d.Method, Scheme: d.Scheme, Authority: d.Authority, Path: d.Path,
		RequestHeaders: fields(d.Headers), RequestType: d.Body.ContentType, RequestEncoding: d.Body.Encoding,
		RequestBody: string(d.Body.Head), RequestBodyTail: string(d.Body.Tail), RequestBodyBytes: count(d.Body.Length),
		RequestBodyTruncated: d.Body.Truncated, RequestBodySum: sum(d.Body), RequestSalt: string(e.Salt[:]),
		Source: d.Source, TraceID: d.TraceID, RequestID: d.RequestID, RPCID: d.RPCID,
		BatchID: d.Batch.ID, BatchIndex: small(d.Batch.Index), BatchSize: small(d.Batch.Size),
		Answered: LegNone, Finished: LegNone, ResponseBodySum: noSum, ResponseSalt: noSalt,
		AuthzMicros: micros(d.Took),
		Backlog:     d.Late, BodiesUntil: until(d.Retain.Bodies), RowUntil: until(d.Retain.Row),
		Spool: spool, SpoolIndex: index,
	}
	r.RequestMaskedRules, r.RequestMaskedTypes, r.RequestMaskedPaths, r.RequestMaskedCounts = hidden(d.Masked)
	for _, a := range d.Identity.Actors {
		r.ActorIssuers = append(r.ActorIssuers, a.Issuer)
		r.ActorSubjects = append(r.ActorSubjects, a.Subject)
	}
	if a := d.Decision.Approval; a != nil {
		r.ApprovalID, r.ApprovalBy, r.ApprovalComment = a.ID, a.By, a.Comment
		r.ApprovalAsked, r.ApprovalEnded, r.ApprovalExpires = moment(a.AskedAt), moment(a.EndedAt), moment(a.Expires)
		r.ApprovalAttempts = small(a.Attempts)
		r.HoldMicros = micros(a.HeldFor)
	}
	for _, leg := range d.Expect {
		switch leg {
		case call.Answered:
			r.Answered = LegUnknown
		case call.Finished:
			r.Finished = LegUnknown
		}
	}
	return r
}

// noSum and noSalt fill columns where there is none.
var noSum, noSalt = string(make([]byte, 32)), string(make([]byte, 16))

// sum is the hash of a body that can't be had from what is recorded of it.
func sum(b call.Body) string {
	if b.Truncated {
		return string(b.SHA256[:])
	}
	return noSum
}

// forever is the last time that a DateTime holds.
var forever = time.Unix(math.MaxUint32, 0).UTC()

// until is when retention deletes something.
func until(t time.Time) time.Time {
	if t.IsZero() || t.After(forever) {
		return forever
	}
	// A second of it must be over.
	return t.UTC().Truncate(time.Second).Add(time.Second)
}

// add puts a leg into the row.
func (r *Row) add(e *call.Event) {
	switch {
	case e.Answered != nil:
		r.answer(e)
	case e.Finished != nil:
		r.finish(e.Finished)
	}
}

func (r *Row) answer(e *call.Event) {
	a := e.Answered
	r.Answered = LegSeen
	if r.HTTPStatus == nil { // else it is what Envoy sent in the end
		r.HTTPStatus = status(a.Status)
	}
	if a.RPCStatus != nil {
		r.RPCCode, r.RPCMessage = &a.RPCStatus.Code, &a.RPCStatus.Message
	}
	r.ToolError = a.ToolError
	r.ResponseHeaders = fields(a.Headers)
	r.ResponseType, r.ResponseEncoding = a.Body.ContentType, a.Body.Encoding
	r.ResponseBody, r.ResponseBodyTail = string(a.Body.Head), string(a.Body.Tail)
	length := count(a.Body.Length)
	r.ResponseBodyBytes, r.ResponseBodyTruncated = &length, a.Body.Truncated
	r.ResponseBodySum, r.ResponseSalt = sum(a.Body), string(e.Salt[:])
	r.MaskedRules, r.MaskedTypes, r.MaskedPaths, r.MaskedCounts = hidden(a.Masked)
	r.StreamMaskedRules, r.StreamMaskedTypes, r.StreamMaskedPaths, r.StreamMaskedCounts = hidden(a.RequestMasked)
	if o := a.Original; o != nil {
		r.OriginalSealed, r.OriginalCommitment = string(o.Sealed), string(o.Commitment[:])
	}
	r.Withheld, r.Interrupted, r.ResponseShadow = a.Withheld, a.Interrupted, a.Shadow
}

// hidden is what was masked, as nested columns have it.
func hidden(list []call.Masked) (rules, types, paths []string, counts []uint32) {
	for _, m := range list {
		rules, types, paths, counts = append(rules, m.Rule), append(types, m.Type), append(paths, m.Path), append(counts, small(m.Count))
	}
	return rules, types, paths, counts
}

func (r *Row) finish(f *call.FinishedEvent) {
	r.Finished = LegSeen
	if s := status(f.Status); s != nil {
		r.HTTPStatus = s
	}
	upstream, total, in, out := micros(f.UpstreamTook), micros(f.Duration), count(f.BytesIn), count(f.BytesOut)
	r.UpstreamMicros, r.TotalMicros, r.BytesIn, r.BytesOut = &upstream, &total, &in, &out
	r.ResponseFlags, r.ResponseDetails = f.Flags, f.Details
	r.Upstream, r.Cluster, r.UpstreamAttempts, r.UpstreamError = f.Upstream, f.Cluster, small(f.Attempts), f.UpstreamError
	r.HTTPVersion, r.TLSVersion, r.EnvoyNode = f.HTTPVersion, f.TLSVersion, f.EnvoyNode
}

// The times that ClickHouse's Date, which partitions are made of, can hold.
var (
	firstTime = time.Unix(0, 0).UTC()
	lastTime  = time.Date(2149, 6, 6, 0, 0, 0, 0, time.UTC)
)

// clamp brings t into what a column can hold. The leaf keeps the exact time.
func clamp(t time.Time) time.Time {
	switch t = t.UTC().Truncate(time.Microsecond); {
	case t.Before(firstTime):
		return firstTime
	case t.After(lastTime):
		return lastTime
	}
	return t
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = clamp(t)
	return &t
}

func day(t time.Time) string { return clamp(t).Format(time.DateOnly) }

func micros(d time.Duration) uint64 { return count(d.Microseconds()) }

func count(n int64) uint64 { return uint64(max(n, 0)) }

func small(n int) uint32 { return uint32(min(max(n, 0), math.MaxInt32)) }

func status(n int) *uint16 {
	if n <= 0 || n > math.MaxUint16 {
		return nil
	}
	s := uint16(n)
	return &s
}

func fields(headers call.Headers) map[string]string {
	m := make(map[string]string, len(headers))
	for _, h := range headers {
		if before, ok := m[h.Name]; ok {
			m[h.Name] = before + ", " + h.Value
		} else {
			m[h.Name] = h.Value
		}
	}
	return m
}
