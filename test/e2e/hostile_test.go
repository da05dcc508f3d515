package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/callgate/callgate/demo/endpoint"
)

// hostile is a request written byte by byte, and all that comes of it.
//
// In the request, {auth} is alice's Authorization line and {token} her token;
// lines end in \r\n as written. An ordinary request follows it on the same
// connection, so that whatever is read as the beginning of another request
// shows.
//
// want is one line: each answer's status, with Callgate's reason where it gave
// one; "closed" where Envoy closed the connection before the ordinary request
// was answered; and after "->" what reached the function.
type hostile struct{ name, request, want string }

const ordinary = "GET /crm/customers/c-2 HTTP/1.1\r\nHost: x\r\n{auth}Connection: close\r\n\r\n"

// get is an allowed call with more header lines.
func get(lines string) string { return on("GET", "/crm/customers/c-1", lines, "") }

// at is an allowed call at another target.
func at(target string) string { return on("GET", target, "", "") }

func on(method, target, lines, body string) string {
	return method + " " + target + " HTTP/1.1\r\nHost: x\r\n{auth}" + lines + "\r\n" + body
}

const selectOne = `{"query":"select 1"}`

// post is an allowed call with a body, framed by lines.
func post(lines, body string) string {
	return on("POST", "/crm/sql", "Content-Type: application/json\r\n"+lines, body)
}

func length(n int) string { return fmt.Sprintf("Content-Length: %d\r\n", n) }

func chunked(body string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body) }

const smuggled = "DELETE /crm/reports/q3 HTTP/1.1\r\nHost: x\r\n{auth}\r\n"

// Envoy waits a second before it closes a connection on which it refused a
// request, so what it must refuse is sent at once, and nothing of it may arrive.
func TestHostileHTTP1Refused(t *testing.T) {
	before := shared.REST.Arrived()
	results := make([]chan []answer, len(hostiles))
	for i, h := range hostiles {
		if closes(h.want) {
			results[i] = make(chan []answer, 1)
			go func() { results[i] <- shared.exchange(t, shared.filled(h.request+ordinary)) }()
		}
	}
	var ids []string
	for i, h := range hostiles {
		if results[i] == nil {
			continue
		}
		answers := <-results[i]
		t.Run(h.name, func(t *testing.T) {
			if got := describe(answers, nil, true); got != h.want {
				t.Errorf("\n got %s\nwant %s", got, h.want)
			}
		})
		ids = append(ids, checkArrived(t, answers, nil)...)
	}
	if n := shared.REST.Arrived() - before; n != 0 {
		t.Errorf("%d requests reached the function: %s", n, describe(nil, arrivals(before), false))
	}
	checkRows(t, ids)
}

func closes(want string) bool { return strings.HasSuffix(want, "closed") }

func TestHostileHTTP1(t *testing.T) {
	var ids []string
	for _, h := range hostiles {
		if closes(h.want) {
			continue
		}
		t.Run(h.name, func(t *testing.T) {
			before := shared.REST.Arrived()
			answers := shared.exchange(t, shared.filled(h.request+ordinary))
			arrived := arrivals(before)
			ids = append(ids, checkArrived(t, answers, arrived)...)
			n := len(arrived)
			served := n > 0 && arrived[n-1].Target == "/customers/c-2" && len(answers) > 0
			if served {
				answers, arrived = answers[:len(answers)-1], arrived[:n-1]
			}
			if got := describe(answers, arrived, !served); got != h.want {
				t.Errorf("\n got %s\nwant %s", got, h.want)
			}
		})
	}
	checkRows(t, ids)
}

// filled puts alice's token where a case has a placeholder.
func (w *world) filled(s string) string {
	return strings.NewReplacer("{auth}", "Authorization: Bearer "+w.alice+"\r\n", "{token}", w.alice).Replace(s)
}

// exchange sends bytes and reads responses until Envoy closes the connection.
func (w *world) exchange(t *testing.T, request string) []answer {
	t.Helper()
	conn, err := net.Dial("tcp", w.Addrs.Envoy)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Error(err)
		return nil
	}
	// Envoy may close before it read all.
	go io.WriteString(conn, request)
	var out []answer
	for in := bufio.NewReader(conn); ; {
		if _, err := in.Peek(1); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Envoy neither answers nor closes, after %d answers", len(out))
			}
			return out
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Error(err)
			return out
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
			return out
		}
		out = append(out, answer{resp.StatusCode, resp.Header, string(body)})
	}
}

// arrivals are the requests that reached the function since it had so many.
func arrivals(before int64) []endpoint.Request {
	all := shared.REST.Requests()
	return slices.Clone(all[max(0, len(all)-int(shared.REST.Arrived()-before)):])
}

// describe tells what came of a request in one line, as hostile.want does.
func describe(answers []answer, arrived []endpoint.Request, closed bool) string {
	var words []string
	for _, a := range answers {
		word := fmt.Sprint(a.status)
		if a.reason() != "" {
			word += " " + a.reason()
		}
		words = append(words, word)
	}
	out := strings.Join(words, ", ")
	if closed {
		out += " closed"
	}
	for i, r := range arrived {
		if i == 0 {
			out += " ->"
		}
		out += fmt.Sprintf(" %s %s", r.Method, r.Target)
	}
	return strings.TrimSpace(out)
}

// checkArrived checks what holds for every request that reaches a function,
// whatever was tried, and returns the call ids that callers were told.
func checkArrived(t *testing.T, answers []answer, arrived []endpoint.Request) []string {
	t.Helper()
	var ids []string
	for _, a := range answers {
		if a.id() != "" {
			ids = append(ids, a.id())
		}
	}
	for _, r := range arrived {
		if r.Refused {
			t.Errorf("%s %s came without the function's credential", r.Method, r.Target)
		}
		if v := r.Header.Values("x-callgate-call-id"); len(v) != 1 || !slices.Contains(ids, v[0]) {
			t.Errorf("%s %s is call %v, callers were told %v", r.Method, r.Target, v, ids)
		}
		if v := r.Header.Values("authorization"); len(v) != 1 {
			t.Errorf("%s %s has %d authorizations", r.Method, r.Target, len(v))
		}
		for name, values := range r.Trailer {
			// A name without a value was announced, and never came.
			if len(values) > 0 {
				t.Errorf("%s %s has a trailer %s: %q", r.Method, r.Target, name, values)
			}
		}
		for name, values := range r.Header {
			n := strings.ToLower(name)
			switch {
			case strings.HasPrefix(n, "x-envoy-") && n != "x-envoy-external-address",
				strings.HasPrefix(n, "x-callgate-") && n != "x-callgate-call-id",
				strings.Contains(n, "_"), n == "cookie", n == "proxy-authorization", n == "x-forwarded-client-cert",
				n == "upgrade", n == "http2-settings", n == "te" && values[0] != "trailers":
				t.Errorf("%s %s has %s: %q", r.Method, r.Target, name, values)
			}
			for _, v := range values {
				if strings.ContainsAny(v, "\r\n\x00") {
					t.Errorf("%s %s has %s: %q", r.Method, r.Target, name, v)
				}
				if strings.Contains(v, shared.alice) {
					t.Errorf("%s %s has the caller's token in %s", r.Method, r.Target, name)
				}
			}
		}
		if bytes.Contains(r.Body, []byte(shared.alice)) {
			t.Errorf("%s %s has the caller's token in its body", r.Method, r.Target)
		}
	}
	return ids
}

// checkRows waits until each call has exactly one row.
func checkRows(t *testing.T, ids []string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		rows := shared.query(t, "SELECT call_id, count() AS n FROM calls WHERE call_id IN ('"+strings.Join(ids, "','")+"') GROUP BY call_id")
		for _, r := range rows {
			if fmt.Sprint(r["n"]) != "1" {
				t.Fatalf("call %v has %v rows", r["call_id"], r["n"])
			}
		}
		if len(rows) == len(ids) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d rows of %d calls", len(rows), len(ids))
		}
	}
}
