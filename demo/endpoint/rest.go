package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// REST is a JSON service. Its credential is «authorization: Bearer <key>».
//
//	GET    /customers/{id}      customers.get
//	GET    /customers?query=    customers.search
//	POST   /refunds             refunds.create    {"customer","amount","currency","reason"} → 201
//	POST   /sql                 sql.run           {"query"} → {"columns","rows"}
//	GET    /reports/{name}      reports.get       CSV
//	DELETE /reports/{name}      reports.delete    204
//	GET    /slow?ms=            slow.get          answers after ms milliseconds, one minute at most
//	GET    /events?count=&ms=   events.stream     count events, ms milliseconds apart
type REST struct {
	web
	books *books

	mu      sync.Mutex
	reports map[string]string // guarded by mu
}

// NewREST begins to listen; Run serves.
func NewREST(c Config) (*REST, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	b, err := openBooks()
	if err != nil {
		return nil, err
	}
	p, err := newPlace(c.Listener)
	if err != nil {
		return nil, err
	}
	s := &REST{books: b, reports: maps.Clone(reports)}
	s.web.place, s.web.tls, s.web.log = p, c.TLS, c.Log
	s.web.key = newKey("authorization", "Bearer "+c.Credential)
	mux := http.NewServeMux()
	for pattern, f := range map[string]struct {
		name  string
		serve http.HandlerFunc
	}{
		"GET /customers/{id}":    {"customers.get", s.customer},
		"GET /customers":         {"customers.search", s.customers},
		"POST /refunds":          {"refunds.create", s.refund},
		"POST /sql":              {"sql.run", s.sql},
		"GET /reports/{name}":    {"reports.get", s.report},
		"DELETE /reports/{name}": {"reports.delete", s.deleteReport},
		"GET /slow":              {"slow.get", s.slow},
		"GET /events":            {"events.stream", s.events},
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			s.ran(f.name)
			f.serve(w, r)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		problem(w, http.StatusNotFound, "there is no such function here")
	})
	s.web.handler = mux
	return s, nil
}

// URL of the service, without a path.
func (s *REST) URL() string { return s.base() }

var reports = map[string]string{
	"quarter":  "customer,email,card,total\r\nc-1,ada@example.com,4242 4242 4242 4242,148.90\r\nc-2,ben@example.org,5555-5555-5555-4444,80.50\r\n",
	"outdated": "customer,total\r\nc-1,12.00\r\n",
}

func (s *REST) customer(w http.ResponseWriter, r *http.Request) {
	c, err := s.books.customer(r.Context(), r.PathValue("id"))
	if err != nil {
		bookProblem(w, err)
		return
	}
	answer(w, http.StatusOK, c)
}

func (s *REST) customers(w http.ResponseWriter, r *http.Request) {
	found, err := s.books.search(r.Context(), r.URL.Query().Get("query"))
	if err != nil {
		bookProblem(w, err)
		return
	}
	answer(w, http.StatusOK, map[string]any{"customers": found})
}

func (s *REST) refund(w http.ResponseWriter, r *http.Request) {
	var asked Refund
	if !read(w, r, &asked) {
		return
	}
	made, err := s.books.refund(r.Context(), asked)
	if err != nil {
		bookProblem(w, err)
		return
	}
	w.Header().Set("Location", "/refunds/"+made.ID)
	answer(w, http.StatusCreated, made)
}

func (s *REST) sql(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Query string `json:"query"`
	}
	if !read(w, r, &asked) {
		return
	}
	rows, err := s.books.run(r.Context(), asked.Query)
	if err != nil {
		bookProblem(w, err)
		return
	}
	answer(w, http.StatusOK, rows)
}

func (s *REST) report(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	text, ok := s.reports[r.PathValue("name")]
	s.mu.Unlock()
	if !ok {
		problem(w, http.StatusNotFound, "there is no such report")
		return
	}
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.Write([]byte(text))
}

func (s *REST) deleteReport(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	s.mu.Lock()
	_, ok := s.reports[name]
	delete(s.reports, name)
	s.mu.Unlock()
	if !ok {
		problem(w, http.StatusNotFound, "there is no such report")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *REST) slow(w http.ResponseWriter, r *http.Request) {
	ms, err := number(r, "ms", 100, 60_000)
	if err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	if pause(r, ms) {
		answer(w, http.StatusOK, map[string]int{"waited_ms": ms})
	}
}

// events streams; every second event has a card number that is flushed in two
// halves, so that no single read of a proxy shows it whole.
func (s *REST) events(w http.ResponseWriter, r *http.Request) {
	count, err := number(r, "count", 4, 1_000_000)
	if err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	ms, err := number(r, "ms", 20, 60_000)
	if err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	for i := 1; i <= count; i++ {
		first, second := fmt.Sprintf("id: %d\nevent: order\ndata: {\"order\":%d,\"total\":19.00", i, i), "}\n\n"
		if i%2 == 0 {
			first, second = first+`,"card":"4242 4242`, ` 4242 4242"`+second
		}
		for _, part := range []string{first, second} {
			if _, err := w.Write([]byte(part)); err != nil {
				return
			}
			if err := out.Flush(); err != nil {
				return
			}
		}
		if i < count && !pause(r, ms) {
			return
		}
	}
}

// pause waits; false: the request ended meanwhile.
func pause(r *http.Request, ms int) bool {
	wait := time.NewTimer(time.Duration(ms) * time.Millisecond)
	defer wait.Stop()
	select {
	case <-wait.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// number is a parameter of the query between 0 and most.
func number(r *http.Request, name string, otherwise, most int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > most {
		return 0, fmt.Errorf("%s must be a number from 0 to %d", name, most)
	}
	return n, nil
}

// read decodes a JSON body; false: it answered what is wrong with it.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		problem(w, http.StatusBadRequest, "the body is not the JSON object that this function takes: "+err.Error())
		return false
	}
	return true
}

func bookProblem(w http.ResponseWriter, err error) {
	status := http.StatusBadRequest
	if errors.Is(err, errNoCustomer) {
		status = http.StatusNotFound
	}
	problem(w, status, err.Error())
}
