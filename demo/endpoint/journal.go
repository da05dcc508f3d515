package endpoint

import (
	"bytes"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	keptRequests = 64
	keptBody     = 64 << 10 // bytes of each
)

// Request is one that reached an endpoint.
type Request struct {
	Refused bool // for its credential
	Method  string
	Target  string // path and query; for gRPC "/package.Service/Method"
	Proto   string
	Host    string
	Header  http.Header // for gRPC its metadata
	Trailer http.Header
	// Body, up to 64 KiB. For gRPC the message as protobuf's JSON.
	Body []byte
}

// Journal counts what reached an endpoint and keeps the last requests.
// Its methods may be called at any time.
type Journal struct {
	arrived, refused atomic.Int64
	served           sync.Map // function → *atomic.Int64; as many as there are functions

	mu     sync.Mutex
	recent []Request // a ring of keptRequests
	head   int       // where the next one goes, once the ring is full
}

// Arrived counts every request, whatever became of it.
func (j *Journal) Arrived() int64 { return j.arrived.Load() }

// Refused counts those without the right credential.
func (j *Journal) Refused() int64 { return j.refused.Load() }

// Served counts the runs of a function: "refunds.create" of the REST service,
// "tools/call issue_refund" or "tools/list" of the MCP server,
// "callgate.demo.orders.v1.Orders/GetOrder" of the gRPC service.
func (j *Journal) Served(function string) int64 {
	n, ok := j.served.Load(function)
	if !ok {
		return 0
	}
	return n.(*atomic.Int64).Load()
}

// Last is the latest request; false: there was none yet.
func (j *Journal) Last() (Request, bool) {
	all := j.Requests()
	if len(all) == 0 {
		return Request{}, false
	}
	return all[len(all)-1], true
}

// Requests are the last 64, oldest first.
func (j *Journal) Requests() []Request {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append(slices.Clone(j.recent[j.head:]), j.recent[:j.head]...)
}

// note keeps a request. It copies what it keeps.
func (j *Journal) note(r Request) {
	r.Header, r.Trailer = r.Header.Clone(), r.Trailer.Clone()
	r.Body = bytes.Clone(r.Body[:min(len(r.Body), keptBody)])
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.recent) < keptRequests {
		j.recent = append(j.recent, r)
	} else {
		j.recent[j.head] = r
		j.head = (j.head + 1) % keptRequests
	}
	// Counted last: whoever sees the count finds the request.
	j.arrived.Add(1)
	if r.Refused {
		j.refused.Add(1)
	}
}

func (j *Journal) ran(function string) {
	n, ok := j.served.Load(function)
	if !ok {
		n, _ = j.served.LoadOrStore(function, new(atomic.Int64))
	}
	n.(*atomic.Int64).Add(1)
}
