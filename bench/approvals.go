package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/callgate/callgate/approvals/postgres/local"
	"github.com/callgate/callgate/demo"
)

const (
	// releases are decided one after the other, with as many calls held beside.
	releases = 300
	beside   = 500
	// heldAtOnce is how many calls of about 1 KB are held for their memory.
	heldAtOnce = 10_000
	// deciders decide at the same time when all of them are released.
	deciders = 8
	// holders is how many calls may be on their way to be held.
	holders = 64
)

// benchApprovals measures how soon a held call goes on after a decision, at the
// replica where it waits and at another through PostgreSQL, what a held call
// costs, and how quickly many are released.
func benchApprovals(ctx context.Context) ([]row, error) {
	rig, err := newRig(ctx)
	if err != nil {
		return nil, err
	}
	defer rig.close()
	one, err := rig.startHolding(ctx, "one", "", "extauthz,console")
	if err != nil {
		return nil, err
	}
	h, err := rig.holdings(one, one)
	if err != nil {
		return nil, err
	}
	defer h.close()
	rows, err := h.releaseTimes(ctx, "release")
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, rig.tail())
	}
	// A replica that has done nothing yet, so that all that it has in the end is for
	// the calls that it holds.
	fresh, err := rig.startHolding(ctx, "fresh", "", "extauthz,console")
	if err != nil {
		return nil, err
	}
	holds, err := rig.holdings(fresh, fresh)
	if err != nil {
		return nil, err
	}
	defer holds.close()
	many, err := holds.many(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, rig.tail())
	}
	rows = append(rows, many...)

	db, err := local.Temporary(ctx, nil, func(line string) { fmt.Fprintln(os.Stderr, line) })
	if err != nil {
		return nil, err
	}
	defer db.Close()
	waits, err := rig.startHolding(ctx, "waits", db.URL("postgres"), "extauthz,console")
	if err != nil {
		return nil, err
	}
	desk, err := rig.startHolding(ctx, "desk", db.URL("postgres"), "console")
	if err != nil {
		return nil, err
	}
	across, err := rig.holdings(waits, desk)
	if err != nil {
		return nil, err
	}
	defer across.close()
	more, err := across.releaseTimes(ctx, "release_pg")
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, rig.tail())
	}
	return append(rows, more...), nil
}

// replica is one Callgate under measurement.
type replica struct {
	*process
	grpc, console, metrics string
}

// startHolding starts a replica whose only rule holds.
func (r *rig) startHolding(ctx context.Context, name, database, roles string) (out replica, err error) {
	if out.grpc, err = demo.FreeAddr(); err != nil {
		return out, err
	}
	if out.console, err = demo.FreeAddr(); err != nil {
		return out, err
	}
	if out.metrics, err = demo.FreeAddr(); err != nil {
		return out, err
	}
	store, env := "approvals: {max_open: 20000}\n", []string{"BENCH_CREDENTIAL=k"}
	if database != "" {
		u, err := url.Parse(database)
		if err != nil {
			return out, err
		}
		password, _ := u.User.Password()
		env = append(env, "BENCH_PG="+password)
		store = fmt.Sprintf("approvals: {max_open: 20000, postgres: {url: %q, password: {env: BENCH_PG}, tls: \"off\"}}\n", "postgres://"+u.User.Username()+"@"+u.Host+u.Path)
	}
	text := fmt.Sprintf(`
node: %s
state_dir: %s
listen: {grpc: %q, xds: "127.0.0.1:0", console: %q, metrics: %q}
log: {level: warn}
identity:
  issuers: [{url: %q, audiences: [callgate], algorithms: [RS256]}]
%sconnections:
  - name: crm
    protocol: http
    match: {path: /crm}
    upstream: {url: "http://127.0.0.1:9"}
    functions: [{name: refunds.create, method: POST, path: /refunds}]
    credential: {env: BENCH_CREDENTIAL}
rules:
  - {name: held, functions: [refunds.create], action: hold, hold: {approvers: {groups: [leads]}, timeout: 1h}}
`, name, filepath.Join(r.dir, "state-"+name), out.grpc, out.console, out.metrics, r.issuer.url, store)
	file := filepath.Join(r.dir, name+".yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return out, fmt.Errorf("write configuration: %w", err)
	}
	out.process, err = r.launch(ctx, out.console, env, filepath.Join(r.dir, "callgate"), "serve", "-c", file, "--roles", roles)
	return out, err
}

// holdings holds calls at one replica and decides about them at another.
type holdings struct {
	at      replica
	desk    string
	caller  string
	decider string
	clients []authv3.AuthorizationClient
	conns   []*grpc.ClientConn
	http    *http.Client

	mu       sync.Mutex
	released map[string]chan time.Time // by number
	next     int
}

func (r *rig) holdings(at, desk replica) (*holdings, error) {
	h := &holdings{at: at, desk: "http://" + desk.console, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: deciders}}, released: map[string]chan time.Time{}}
	var err error
	if h.caller, err = r.issuer.token(0); err != nil {
		return nil, err
	}
	if h.decider, err = r.issuer.person("lead", "leads"); err != nil {
		return nil, err
	}
	for range connections {
		conn, err := grpc.NewClient(at.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		h.conns, h.clients = append(h.conns, conn), append(h.clients, authv3.NewAuthorizationClient(conn))
	}
	return h, nil
}

func (h *holdings) close() {
	for _, c := range h.conns {
		_ = c.Close()
	}
}

// hold starts n calls, each unlike the others, and returns when all are held.
func (h *holdings) hold(ctx context.Context, n int, fail func(error)) error {
	from := h.next
	h.next += n
	// What was released a moment ago is still counted.
	for {
		if held, err := h.waiting(ctx); err != nil || held == 0 {
			if err != nil {
				return err
			}
			break
		}
		pause(ctx, 5*time.Millisecond)
	}
	started := 0
	for i := from; i < from+n; i++ {
		number := strconv.Itoa(i)
		done := make(chan time.Time, 1)
		h.mu.Lock()
		h.released[number] = done
		h.mu.Unlock()
		req := check(h.caller, body())
		req.Attributes.Request.Http.Path += "?n=" + number
		for _, f := range req.Attributes.Request.Http.HeaderMap.Headers {
			if f.Key == ":path" {
				f.RawValue = append(f.RawValue, "?n="+number...)
			}
		}
		go func() {
			resp, err := h.clients[i%connections].Check(ctx, req)
			done <- time.Now()
			if err == nil && resp.GetStatus().GetCode() != int32(codes.OK) {
				err = fmt.Errorf("call %s: %s", number, resp.GetDeniedResponse().GetBody())
			}
			if err != nil && ctx.Err() == nil {
				fail(err)
			}
		}()
		if started++; started%holders == 0 {
			if err := h.await(ctx, started-holders); err != nil {
				return err
			}
		}
	}
	return h.await(ctx, started)
}

// await waits until so many calls are held.
func (h *holdings) await(ctx context.Context, n int) error {
	for bound := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		held, err := h.waiting(ctx)
		if err != nil || held >= n {
			return err
		}
		if time.Now().After(bound) {
			return fmt.Errorf("%d calls are held, not %d", held, n)
		}
	}
}

// waiting is how many calls the replica holds.
func (h *holdings) waiting(ctx context.Context) (int, error) {
	text, err := h.get(ctx, "http://"+h.at.metrics+"/metrics")
	if err != nil {
		return 0, err
	}
	_, after, ok := strings.Cut(string(text), "\ncallgate_approvals_waiting ")
	if !ok {
		return 0, errors.New("the replica does not say how many calls it holds")
	}
	value, _, _ := strings.Cut(after, "\n")
	held, err := strconv.ParseFloat(value, 64)
	return int(held), err
}

func (h *holdings) get(ctx context.Context, address string) ([]byte, error) {
	return h.do(ctx, http.MethodGet, address, "")
}

func (h *holdings) do(ctx context.Context, method, address, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("authorization", "Bearer "+h.decider)
	if body != "" {
		req.Header.Set("content-type", "application/json")
	}
	resp, err := h.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, address, resp.Status, bytes.TrimSpace(out))
	}
	return out, err
}

// open lists held calls, at most as many as the API shows, by number.
func (h *holdings) open(ctx context.Context) (map[string]string, error) {
	text, err := h.get(ctx, h.desk+"/api/v1/approvals?state=open")
	if err != nil {
		return nil, err
	}
	var list []struct{ ID, Path string }
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, a := range list {
		if _, number, ok := strings.Cut(a.Path, "?n="); ok {
			out[number] = a.ID
		}
	}
	return out, nil
}

func (h *holdings) approve(ctx context.Context, id string) error {
	_, err := h.do(ctx, http.MethodPost, h.desk+"/api/v1/approvals/"+id+"/approve", `{"comment":""}`)
	return err
}

// releaseTimes measures from an approver's request until the held call's answer:
// the decision's own commit and record are in it.
func (h *holdings) releaseTimes(ctx context.Context, name string) ([]row, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := h.hold(ctx, beside, cancel); err != nil {
		return nil, err
	}
	var p50s, p99s []float64
	for range rounds {
		var took []time.Duration
		for len(took) < releases/rounds {
			open, err := h.open(ctx)
			if err != nil {
				return nil, err
			}
			for number, id := range open {
				h.mu.Lock()
				done := h.released[number]
				h.mu.Unlock()
				began := time.Now()
				if err := h.approve(ctx, id); err != nil {
					return nil, err
				}
				select {
				case at := <-done:
					took = append(took, at.Sub(began))
				case <-ctx.Done():
					return nil, context.Cause(ctx)
				case <-time.After(time.Minute):
					return nil, fmt.Errorf("call %s was approved and not released", number)
				}
				if len(took) == releases/rounds {
					break
				}
			}
		}
		p50s, p99s = append(p50s, milliseconds(quantile(took, 0.5))), append(p99s, milliseconds(quantile(took, 0.99)))
	}
	return []row{newRow(name+"_p50_ms", "ms", "", p50s), newRow(name+"_p99_ms", "ms", "", p99s)}, h.drain(ctx)
}

// drain releases what is held.
func (h *holdings) drain(ctx context.Context) error {
	for {
		open, err := h.open(ctx)
		if err != nil || len(open) == 0 {
			return err
		}
		ids := make(chan string, len(open))
		for _, id := range open {
			ids <- id
		}
		close(ids)
		var wg sync.WaitGroup
		errs := make(chan error, deciders)
		for range deciders {
			wg.Go(func() {
				for id := range ids {
					if err := h.approve(ctx, id); err != nil {
						errs <- err
						return
					}
				}
			})
		}
		wg.Wait()
		select {
		case err := <-errs:
			return err
		default:
		}
	}
}

// many measures what many held calls cost, and how quickly they are released.
func (h *holdings) many(ctx context.Context) ([]row, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	before, err := resident(h.at.pid())
	if err != nil {
		return nil, err
	}
	if err := h.hold(ctx, heldAtOnce, cancel); err != nil {
		return nil, err
	}
	if err := h.goOn(ctx); err != nil {
		return nil, err
	}
	after, err := resident(h.at.pid())
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := h.drain(ctx); err != nil {
		return nil, errors.Join(err, context.Cause(ctx))
	}
	for number := h.next - heldAtOnce; number < h.next; number++ {
		select {
		case <-h.released[strconv.Itoa(number)]:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(time.Minute):
			return nil, fmt.Errorf("call %d was approved and not released", number)
		}
	}
	took := time.Since(began)
	return []row{
		newRow("hold_bytes", "bytes", "", []float64{float64(after-before) / heldAtOnce}),
		newRow("release_per_second", "calls/s", "", []float64{heldAtOnce / took.Seconds()}),
	}, nil
}

// goOn has the replica decide other calls for a while, as it would beside those
// that it holds: what asking for approvals left behind is collected then.
func (h *holdings) goOn(ctx context.Context) error {
	other := check(h.caller, body())
	other.Attributes.Request.Http.Path = "/crm/none"
	until := time.Now().Add(8 * time.Second)
	errs := make(chan error, deciders)
	for w := range deciders {
		go func() {
			for time.Now().Before(until) {
				if _, err := h.clients[w%connections].Check(ctx, other); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	var err error
	for range deciders {
		err = errors.Join(err, <-errs)
	}
	return err
}

// resident is a process's memory in bytes (proc(5), statm, field 2, in pages).
func resident(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, fmt.Errorf("read memory: %w", err)
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0, fmt.Errorf("read memory of process %d: unexpected format", pid)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

func quantile(took []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(took))
	return sorted[int(float64(len(sorted)-1)*q)]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
