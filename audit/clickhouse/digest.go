package clickhouse

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/call"
)

// NewRow is the row of a call of which only the decided event is known.
func NewRow(decided *call.Event, spool string, index uint64) *Row {
	return newRow(decided, spool, index)
}

// Add puts an answered or finished event into the row.
func (r *Row) Add(leg *call.Event) { r.add(leg) }

// contentColumns are what an event commits to and does not hold.
var contentColumns = []string{"args", "path", "request_body", "request_body_tail", "request_body_sum", "request_salt",
	"rpc_message", "response_body", "response_body_tail", "response_body_sum", "response_salt", "original_sealed"}

// ownColumns are not told by any event, or by more than one.
var ownColumns = []string{"inserted", "erased", "answered", "finished", "http_status"}

var digestColumns = func() map[call.EventKind][]string {
	of := make(map[call.EventKind][]string)
	for leg, columns := range map[call.EventKind][]column{call.Answered: answeredColumns, call.Finished: finishedColumns} {
		for _, c := range columns {
			of[leg] = append(of[leg], c.name)
		}
	}
	rest := reflect.TypeFor[Row]()
	for i := range rest.NumField() {
		name := rest.Field(i).Tag.Get("ch")
		if !slices.Contains(of[call.Answered], name) && !slices.Contains(of[call.Finished], name) {
			of[call.Decided] = append(of[call.Decided], name)
		}
	}
	for leg := range of {
		of[leg] = slices.DeleteFunc(of[leg], func(name string) bool {
			return slices.Contains(contentColumns, name) || slices.Contains(ownColumns, name)
		})
	}
	return of
}()

// Digest is a hash over the columns that one leg of the call fills, without
// content. Two rows of which it is the same tell the same of that leg, but for
// the HTTP status, which two legs tell.
func (r *Row) Digest(leg call.EventKind) [16]byte { return digest(r, digestFields[leg]) }

// digestFields are the fields of a row for digestColumns.
var digestFields = func() map[call.EventKind][]int {
	of := make(map[call.EventKind][]int)
	for leg, columns := range digestColumns {
		of[leg] = fieldsOf(reflect.TypeFor[Row](), columns)
	}
	return of
}()

// fieldsOf are the places of the fields whose ch tags are among columns.
func fieldsOf(t reflect.Type, columns []string) []int {
	var list []int
	for i := range t.NumField() {
		if slices.Contains(columns, t.Field(i).Tag.Get("ch")) {
			list = append(list, i)
		}
	}
	return list
}

// Differ names the first column of a leg in which two rows differ, or "".
func (r *Row) Differ(other *Row, leg call.EventKind) string {
	for _, name := range digestColumns[leg] {
		field := fieldsOf(reflect.TypeFor[Row](), []string{name})
		if digest(r, field) != digest(other, field) {
			return name
		}
	}
	return ""
}

// RequestContent is the commitment that the row's request content leads to, and
// whether there is any.
func (r *Row) RequestContent() (sum [32]byte, there bool) {
	e := call.Event{Salt: salt(r.RequestSalt), Decided: &call.DecidedEvent{ArgsJSON: []byte(r.Args), Path: r.Path,
		Body: content(r.RequestBody, r.RequestBodyTail, r.RequestBodySHA256(), r.RequestBodyTruncated)}}
	return audit.Commitment(&e), r.Args != "" || r.Path != "" || r.RequestBody != "" || r.RequestBodyTail != "" || r.RequestSalt != noSalt
}

// ResponseContent is the same for the response.
func (r *Row) ResponseContent() (sum [32]byte, there bool) {
	e := call.Event{Salt: salt(r.ResponseSalt), Answered: &call.AnsweredEvent{
		Body: content(r.ResponseBody, r.ResponseBodyTail, r.ResponseBodySHA256(), r.ResponseBodyTruncated)}}
	message := ""
	if r.RPCMessage != nil {
		message = *r.RPCMessage
	}
	e.Answered.RPCStatus = &call.RPCStatus{Message: message}
	if r.OriginalCommitment != "" {
		e.Answered.Original = &call.Original{Sealed: []byte(r.OriginalSealed)}
	}
	return audit.Commitment(&e), message != "" || r.OriginalSealed != "" || r.ResponseBody != "" || r.ResponseBodyTail != "" || r.ResponseSalt != noSalt
}

func content(head, tail, sum string, truncated bool) call.Body {
	b := call.Body{Head: []byte(head), Tail: []byte(tail), Truncated: truncated}
	copy(b.SHA256[:], sum)
	return b
}

func salt(s string) (out [16]byte) {
	copy(out[:], s)
	return out
}

// digest hashes fields of the struct that v points to, all where the list is nil.
func digest(v any, fields []int) [16]byte {
	h := sha256.New()
	s := reflect.ValueOf(v).Elem()
	if fields == nil {
		for i := range s.NumField() {
			hashValue(h, s.Field(i))
		}
	}
	for _, i := range fields {
		hashValue(h, s.Field(i))
	}
	return [16]byte(h.Sum(nil))
}

// hashValue writes a value so that no two different ones are written the same
// way one after the other. Nil and empty lists are the same to ClickHouse.
func hashValue(h hash.Hash, v reflect.Value) {
	number := func(n uint64) {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], n)
		h.Write(b[:])
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			number(0)
			return
		}
		number(1)
		hashValue(h, v.Elem())
	case reflect.String:
		number(uint64(v.Len()))
		h.Write([]byte(v.String()))
	case reflect.Bool:
		if v.Bool() {
			number(1)
		} else {
			number(0)
		}
	case reflect.Int64:
		number(uint64(v.Int()))
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		number(v.Uint())
	case reflect.Slice:
		number(uint64(v.Len()))
		for i := range v.Len() {
			hashValue(h, v.Index(i))
		}
	case reflect.Array: // UUID
		for i := range v.Len() {
			h.Write([]byte{byte(v.Index(i).Uint())})
		}
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		number(uint64(len(keys)))
		for _, k := range keys {
			hashValue(h, k)
			hashValue(h, v.MapIndex(k))
		}
	default:
		// The rows have no other types; see TestDigestKnowsEveryType.
		number(uint64(v.Interface().(time.Time).UnixMicro()))
	}
}

// ColumnTime is t as a column of the trail holds it.
func ColumnTime(t time.Time) time.Time { return clamp(t) }

// GiveContent puts the row's content into the call's decided or answered event,
// which has none.
func (r *Row) GiveContent(e *call.Event) {
	switch {
	case e.Decided != nil:
		d := e.Decided
		e.Salt, d.ArgsJSON, d.Path = salt(r.RequestSalt), []byte(r.Args), r.Path
		d.Body.Head, d.Body.Tail = []byte(r.RequestBody), []byte(r.RequestBodyTail)
		copy(d.Body.SHA256[:], r.RequestBodySHA256())
	case e.Answered != nil:
		a := e.Answered
		e.Salt = salt(r.ResponseSalt)
		if a.RPCStatus != nil && r.RPCMessage != nil {
			a.RPCStatus.Message = *r.RPCMessage
		}
		a.Body.Head, a.Body.Tail = []byte(r.ResponseBody), []byte(r.ResponseBodyTail)
		if a.Original != nil {
			a.Original.Sealed = []byte(r.OriginalSealed)
		}
		copy(a.Body.SHA256[:], r.ResponseBodySHA256())
	}
}
