package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// defaultDatabase is every session's until it says otherwise.
	defaultDatabase = "default"
	// appendSize is how much of an INSERT's data is handed over at once; the
	// engine queues up to sixteen of these.
	appendSize = 256 << 10
)

// front answers ClickHouse's HTTP interface.
type front struct {
	pool  *pool
	guard guard
	// version and timezone are the engine's, name what clients show.
	version, timezone, name string
	tmp                     string // for results that are held back
	log                     *slog.Logger
	running                 atomic.Int64 // requests
}

// idle waits until no request runs, or says false once ctx ends.
func (f *front) idle(ctx context.Context) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for f.running.Load() > 0 {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.running.Add(1)
	defer f.running.Add(-1)
	switch r.URL.Path {
	case "/ping":
		w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
		io.WriteString(w, "Ok.\n")
		return
	case "/", "":
	default:
		w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, "There is no such page. Queries go to /, and /ping answers «Ok.»\n")
		return
	}
	begun := time.Now()
	h := w.Header()
	h.Set("X-ClickHouse-Server-Display-Name", f.name)
	h.Set("X-ClickHouse-Timezone", f.timezone)
	if err := f.serve(w, r); err != nil {
		e := asException(err)
		f.log.Debug("query refused or failed", "query_id", h.Get("X-ClickHouse-Query-Id"), "code", e.code, "took", time.Since(begun))
		writeException(w, e, f.version)
		return
	}
	f.log.Debug("query", "query_id", h.Get("X-ClickHouse-Query-Id"), "took", time.Since(begun))
}

// serve answers a request, or returns an error if nothing of an answer is out.
func (f *front) serve(w http.ResponseWriter, r *http.Request) error {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return refuse(codeBadArguments, "The URL's parameters can't be read: %v", err)
	}
	if err := f.guard.admit(r, values); err != nil {
		return err
	}
	req, err := parseRequest(values, r.Header)
	if err != nil {
		return err
	}
	if req.id == "" {
		req.id = rand.Text()
	}
	w.Header().Set("X-ClickHouse-Query-Id", req.id)
	switch r.Method {
	case http.MethodPost, http.MethodPut:
	case http.MethodGet, http.MethodHead:
		if req.query == "" {
			w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
			io.WriteString(w, "Ok.\n")
			return nil
		}
	default:
		w.Header().Set("Allow", "GET, HEAD, POST, PUT")
		return refuse(codeNotImplemented, "The method %s is not known here: use GET or POST", r.Method)
	}
	if strings.HasPrefix(strings.ToLower(r.Header.Get("Content-Type")), "multipart/") {
		return refuse(codeNotImplemented, "The embedded engine takes no external tables (multipart bodies): put the data into a table first")
	}
	body, err := decodeBody(patient{r.Body, http.NewResponseController(w)}, r.Header.Get("Content-Encoding"), req.decompress)
	if err != nil {
		return err
	}
	defer body.Close()
	in, err := readInput(req.query, body)
	if err != nil {
		return err
	}
	if in.data == nil {
		// A decoder may stop before the body's end; only past it does the
		// server notice a client that goes away.
		io.CopyN(io.Discard, r.Body, 1)
	}
	if req.protocol && in.sql == handshakeQuery {
		return f.handshake(w, req)
	}
	l, err := f.pool.borrow(r.Context())
	if err != nil {
		return err
	}
	defer l.giveBack()
	readonly := r.Method == http.MethodGet || r.Method == http.MethodHead
	if err := f.prepare(l, req, in, readonly); err != nil {
		return err
	}
	stop := l.watch(r.Context())
	defer stop()
	if in.data != nil {
		return f.insert(w, l, req, in)
	}
	return f.query(w, r, l, req, in)
}

// allowed are the statements of the control class that may run: those whose
// effect ends with the request or is checked by the engine's own grants.
var allowed = []string{"SET", "USE", "SYSTEM", "KILL", "ATTACH", "DETACH"}

// prepare judges the statement and brings the session into the state that the
// request asks for.
func (f *front) prepare(l *lease, req request, in input, readonly bool) error {
	if in.st.file != "" {
		return refuse(codeNotImplemented, "%s is for command-line clients: the engine reads and writes no files for its users", in.st.file)
	}
	if in.st.late {
		return refuse(codeSyntax, "Put the SETTINGS clause before FORMAT")
	}
	if strings.HasPrefix(strings.TrimSpace(in.sql), "??") {
		return refuse(codeSyntax, "Not a statement")
	}
	sql := in.sql
	if in.data != nil {
		sql += " FORMAT " + in.st.format
	}
	statements, of, err := l.s.analyse(sql)
	if err != nil {
		return err
	}
	if statements > 1 {
		return refuse(codeSyntax, "Multi-statements are not allowed: send one statement a request")
	}
	if req.session && keepsState(in.sql) {
		l.dirty = true
		return refuse(codeNotImplemented, "The embedded engine keeps no sessions between requests: send settings and the database with each request")
	}
	if of == control {
		// Whatever it does to the session ends here.
		l.dirty = true
		if !slices.Contains(allowed, in.st.first) && !backupForm.MatchString(in.sql) {
			return refuse(codeNotImplemented, "The embedded engine does not run this statement: it would reach outside its own data")
		}
	}
	if readonly && of != readOnly && of != unknown {
		return refuse(codeReadonly, "Cannot execute query in readonly mode: GET only reads, use POST")
	}
	database := req.database
	if database == "" {
		database = defaultDatabase
	}
	if l.database != database {
		if _, _, err := l.s.whole("USE "+identifier(database), "Null", nil); err != nil {
			l.dirty = true
			return err
		}
		l.database = database
	}
	if len(req.settings) > 0 {
		l.dirty = true
	}
	if _, _, err := l.s.whole(set(append(req.settings, param{"log_comment", l.marker})), "Null", nil); err != nil {
		l.dirty = true
		return err
	}
	return nil
}

// insert streams the body's data into the engine, and answers once they are
// committed.
func (f *front) insert(w http.ResponseWriter, l *lease, req request, in input) error {
	begun := time.Now()
	sink, err := l.s.insert(in.sql, in.st.format, req.params)
	if err != nil {
		l.dirty = true
		return err
	}
	defer sink.close()
	buf := make([]byte, appendSize)
	for {
		n, err := readSome(in.data, buf)
		if n > 0 {
			if err := sink.append(buf[:n]); err != nil {
				l.dirty = true
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			// Not committed: closing the sink gives it up.
			l.dirty = true
			return unreadable(err)
		}
	}
	all, err := sink.done()
	if err != nil {
		l.dirty = true
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=UTF-8")
	h.Set("Content-Length", "0")
	h.Set("X-ClickHouse-Summary", all.summary(time.Since(begun).Nanoseconds()))
	w.WriteHeader(http.StatusOK)
	return nil
}

// readSome fills the buffer as far as the body goes on, so that what is handed
// over is not one network packet each.
func readSome(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var k int
		k, err = r.Read(buf[n:])
		n += k
	}
	return n, err
}

// query runs any other statement.
func (f *front) query(w http.ResponseWriter, r *http.Request, l *lease, req request, in input) error {
	format := in.st.format
	if format == "" {
		format = req.format
	}
	if format == "" {
		format = "TabSeparated"
	}
	answer, err := newReply(w, req, r.Header.Get("Accept-Encoding"), format, f.tmp)
	if err != nil {
		return err
	}
	defer answer.close()
	if err := f.send(answer, l, in.sql, format, req.params); err != nil {
		l.dirty = true
		if r.Context().Err() != nil && !answer.started {
			err = refuse(codeCancelled, "Query was cancelled: its client went away or the engine is stopping")
		}
		answer.fail(asException(err), f.version)
	}
	return nil
}

// send runs a statement and passes its result on.
func (f *front) send(answer *reply, l *lease, sql, format string, params []param) error {
	join := newJoiner(format)
	if join.join == together {
		return f.sendWhole(answer, l, sql, format, params)
	}
	result, err := l.s.query(sql, format, params)
	if isNotStreamed(err) {
		return f.sendWhole(answer, l, sql, format, params)
	}
	if err != nil {
		return err
	}
	defer result.close()
	for {
		chunk, err := result.next()
		if isNoStatement(err) {
			return refuse(codeSyntax, "Not a statement")
		}
		if err != nil {
			return err
		}
		if chunk == nil {
			return answer.finish(result.progress())
		}
		if chunk = join.next(chunk); len(chunk) == 0 {
			continue
		}
		if err := answer.chunk(chunk, result.progress()); err != nil {
			return fmt.Errorf("send the result: %w", err)
		}
	}
}

// sendWhole runs a statement and passes its result on when all of it is there:
// for statements that the engine does not stream, and formats that have an end.
// The result counts as the query's memory, which is bounded.
func (f *front) sendWhole(answer *reply, l *lease, sql, format string, params []param) error {
	out, all, err := l.s.whole(sql, format, params)
	if err != nil {
		return err
	}
	if len(out) > 0 {
		if err := answer.chunk(out, all); err != nil {
			return fmt.Errorf("send the result: %w", err)
		}
	}
	return answer.finish(all)
}
