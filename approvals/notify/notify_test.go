package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/approvals/sqlite"
	"github.com/callgate/callgate/approvals/storetest"
	"github.com/callgate/callgate/call"
)

// refund is what the holds of these tests are about.
var refund = approvals.Hold{Connection: "crm", Rule: "big-refunds"}

var discard = slog.New(slog.DiscardHandler)

type nobody struct{}

func (nobody) Record(context.Context, call.Event) error { return nil }

// service is the approval service over a store, for what approvers are shown.
func service(store approvals.Store) *approvals.Service {
	return approvals.New(approvals.Config{Store: store, Recorder: nobody{}, Log: discard, Metrics: approvals.NewMetrics(prometheus.NewRegistry())})
}

// ask keeps a hold for these targets.
func ask(t testing.TB, store approvals.Store, id string, targets []string, change ...func(*approvals.Hold)) approvals.Hold {
	t.Helper()
	h := storetest.NewHold(t, id, time.Now())
	h.Targets = targets
	h.Request.ContentEncoding, h.Request.Path = "", "/refunds?token=[hidden]"
	h.ArgsJSON = json.RawMessage(`{"amount":150,"password":"s3cr3t-arg"}`)
	h.Request.Body = []byte(h.ArgsJSON)
	for _, f := range change {
		f(&h)
	}
	c, err := store.Ask(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	return c.Hold
}

func decide(t testing.TB, store approvals.Store, id, by string, approve bool, comment string) {
	t.Helper()
	if _, err := store.Decide(t.Context(), id, approvals.Verdict{Approve: approve, By: storetest.Person(by), Comment: comment, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
}

func use(t testing.TB, store approvals.Store, h approvals.Hold) {
	t.Helper()
	if _, err := store.Use(t.Context(), h.ID, approvals.Use{Call: h.CallID, Binding: h.Binding, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
}

func link(id string, _ time.Time) string { return "https://gate.example/a/" + id + "?e=1&s=x" }

func notifier(store approvals.Store, targets ...Target) (*Notifier, *Metrics) {
	m := NewMetrics(prometheus.NewRegistry())
	return New(Config{Targets: targets, Outbox: store, Link: link, Log: discard, Metrics: m}), m
}

// run runs a notifier until the test, or the returned function, ends it.
func run(t testing.TB, n *Notifier, store approvals.Store) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx, service(store)) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// receiver is a webhook's receiver that checks signatures with the standard's own
// library.
type receiver struct {
	*httptest.Server
	keys []*standardwebhooks.Webhook
	got  chan event
	raw  chan string

	mu     sync.Mutex
	status []int // to answer with before 204
	after  string
}

func newReceiver(t testing.TB, secrets ...string) *receiver {
	t.Helper()
	r := &receiver{got: make(chan event, 1000), raw: make(chan string, 1000)}
	for _, s := range secrets {
		k, err := standardwebhooks.NewWebhook(s)
		if err != nil {
			t.Fatal(err)
		}
		r.keys = append(r.keys, k)
	}
	r.Server = httptest.NewTLSServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	for _, k := range r.keys {
		if err == nil {
			err = k.Verify(body, req.Header)
		}
	}
	var e event
	if err == nil {
		err = json.Unmarshal(body, &e)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.status) > 0 {
		w.Header().Set("retry-after", r.after)
		w.WriteHeader(r.status[0])
		r.status = r.status[1:]
		return
	}
	w.WriteHeader(http.StatusNoContent)
	e.Data.ID = req.Header.Get("webhook-id")
	r.raw <- string(body)
	r.got <- e
}

func text(s string) func() (string, error) { return func() (string, error) { return s, nil } }

const (
	newSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	oldSecret = "whsec_b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQtb2xkLW9sZC0="
)

func (r *receiver) target(name string, secrets ...string) Target {
	h := &Webhook{URL: r.URL + "/hook", Client: r.Client()}
	h.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, s := range secrets {
		h.Secrets = append(h.Secrets, text(s))
	}
	return Target{Name: name, Sender: h, Request: true}
}

// A webhook tells each step in order, signed by both secrets while one is replaced,
// and never what looks like a credential.
func TestWebhook(t *testing.T) {
	store := storetest.NewMemory()
	r := newReceiver(t, newSecret, oldSecret)
	n, m := notifier(store, r.target("hook", newSecret, oldSecret))
	run(t, n, store)
	h := ask(t, store, "apr_1", n.Targets(refund))
	first := <-r.got
	decide(t, store, h.ID, "ann", true, "fine")
	use(t, store, h)
	n.Stepped(h, approvals.Step{})
	second, third := <-r.got, <-r.got
	if first.Type != "approval.asked" || second.Type != "approval.approved" || third.Type != "approval.used" {
		t.Errorf("told %s, %s, %s", first.Type, second.Type, third.Type)
	}
	if first.Data.ID != "apr_1_1" || first.Data.Approval != "apr_1" || first.Data.CallID != h.CallID.String() || first.Data.Caller != "agent-7 through bot" ||
		first.Data.Function != "refunds.create" || first.Data.Link != link("apr_1", time.Time{}) || !slices.Equal(first.Data.Asked, []string{"group leads", "https://idp|ann"}) {
		t.Errorf("told %+v", first.Data)
	}
	if second.Data.By != "https://idp|ann" || second.Data.Comment != "fine" {
		t.Errorf("told %+v", second.Data)
	}
	req := first.Data.Request
	if req == nil || req.Body != `{"amount":150,"password":"[hidden]"}` || req.Length != 38 || req.SHA256 != "" {
		t.Errorf("request %+v", req)
	}
	for range 3 {
		if raw := <-r.raw; strings.Contains(raw, "s3cr3t") {
			t.Errorf("a secret in %s", raw)
		}
	}
	waitFor(t, func() bool {
		got, err := store.Get(t.Context(), h.ID)
		return err == nil && got.Marked(approvals.StepNotified, "hook") && testutil.ToFloat64(m.sent.WithLabelValues("hook", sent)) == 3
	})
}

// waitFor waits for something that happens in the background.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("it does not come to be")
}

// What a receiver sends back never makes the message go elsewhere, and the error
// tells nothing of the URL, which may be a secret.
func TestWebhookAnswers(t *testing.T) {
	var elsewhere int
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	for status, want := range map[int]string{200: "", 204: "", 299: "", 301: "redirects", 302: "redirects", 307: "redirects", 308: "redirects", 400: "400 Bad Request", 410: "410 Gone", 500: "500", 503: "503"} {
		s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("location", other.URL)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, strings.Repeat("x", 1<<20))
		}))
		c, err := Client("")
		if err != nil {
			t.Fatal(err)
		}
		c.Transport = s.Client().Transport
		h := &Webhook{URL: s.URL + "/s3cr3t", Client: c, Secrets: []func() (string, error){text(newSecret)}}
		err = h.Send(t.Context(), Message{ID: "x_1", Step: approvals.StepAsked})
		if (want == "") != (err == nil) || want != "" && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cr3t")) {
			t.Errorf("%d: %v", status, err)
		}
		s.Close()
		if err := h.Send(t.Context(), Message{ID: "x_1"}); err == nil || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("nobody there: %v", err)
		}
	}
	if elsewhere > 0 {
		t.Errorf("%d messages went elsewhere", elsewhere)
	}
	big := &Webhook{URL: other.URL, Client: other.Client(), Secrets: []func() (string, error){text(newSecret)}}
	if err := big.Send(t.Context(), Message{Text: strings.Repeat("x", maxPayload)}); err == nil || elsewhere > 0 {
		t.Errorf("a payload without bound was sent: %v", err)
	}
}

func TestWebhookKey(t *testing.T) {
	for secret, ok := range map[string]bool{newSecret: true, strings.TrimPrefix(newSecret, "whsec_"): true, "": false, "whsec_": false, "whsec_c2hvcnQ=": false, "hunter2": false,
		"whsec_" + strings.Repeat("QUFB", 22): false} {
		if _, err := WebhookKey(secret); ok != (err == nil) || err != nil && secret != "" && strings.Contains(err.Error(), strings.TrimPrefix(secret, "whsec_")) && len(secret) > 8 {
			t.Errorf("%q: %v", secret, err)
		}
	}
}

// flaky is a sender that fails at random, and keeps what arrived.
type flaky struct {
	mu       sync.Mutex
	rand     *rand.Rand
	bad      float64
	arrived  []string
	attempts int
}

func (f *flaky) Send(ctx context.Context, m Message) error {
	time.Sleep(50 * time.Millisecond)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.attempts++
	if f.rand.Float64() < f.bad {
		return errors.New("flaky")
	}
	f.arrived = append(f.arrived, m.ID)
	if f.rand.Float64() < f.bad/2 {
		return errors.New("it arrived, and the answer was lost")
	}
	return nil
}

func (f *flaky) seen() (arrived []string, attempts int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.arrived), f.attempts
}

func (f *flaky) told() []string {
	arrived, _ := f.seen()
	return arrived
}

// Whatever fails, each step of each hold arrives at least once, in order, also
// where three replicas send, one of which dies while it sends.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		f := &flaky{rand: rand.New(rand.NewPCG(1, 2)), bad: 0.5}
		var stops []func()
		for range 3 {
			n, _ := notifier(store, Target{Name: "hook", Sender: f})
			stops = append(stops, run(t, n, store))
		}
		var holds []approvals.Hold
		for i := range 20 {
			holds = append(holds, ask(t, store, fmt.Sprintf("apr_%d", i), []string{"hook"}))
		}
		time.Sleep(60 * time.Millisecond)
		stops[0]() // in the middle of sending
		for _, h := range holds {
			decide(t, store, h.ID, "ann", true, "")
			use(t, store, h)
		}
		store.Fail(errors.New("connection refused"))
		time.Sleep(30 * time.Second)
		store.Fail(nil)
		left := 1
		for range 72 { // for so many hours it is tried
			time.Sleep(time.Hour)
			var err error
			if left, err = store.Undelivered(t.Context(), "hook"); err != nil {
				t.Fatal(err)
			}
			if left == 0 {
				break
			}
		}
		for _, h := range holds {
			history, err := store.History(t.Context(), h.ID)
			if err != nil {
				t.Fatal(err)
			}
			var want, got []string
			for _, s := range history {
				if s.Name != approvals.StepNotified {
					want = append(want, fmt.Sprintf("%s_%d", h.ID, s.N))
				}
			}
			for _, id := range f.told() {
				if strings.HasPrefix(id, h.ID+"_") && !slices.Contains(got, id) { // again is well
					got = append(got, id)
				}
			}
			if len(want) != 3 || !slices.Equal(got, want) {
				t.Errorf("arrived %q, want %q", got, want)
			}
		}
		if left != 0 {
			t.Errorf("%d are left", left)
		}
		stops[1]()
		stops[2]()
	})
}

// A target that fails does not keep others waiting, and is left alone longer
// and longer, or as long as it wants.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		bad, good := &flaky{rand: rand.New(rand.NewPCG(1, 2)), bad: 1}, &flaky{rand: rand.New(rand.NewPCG(1, 2))}
		n, m := notifier(store, Target{Name: "bad", Sender: bad}, Target{Name: "good", Sender: good})
		stop := run(t, n, store)
		ask(t, store, "apr_1", []string{"bad", "good"}, func(h *approvals.Hold) { h.Expires = h.AskedAt.Add(1000 * time.Hour) })
		time.Sleep(time.Hour)
		if arrived := good.told(); len(arrived) != 1 {
			t.Errorf("arrived %q", arrived)
		}
		if _, attempts := bad.seen(); attempts < 10 || attempts > 20 {
			t.Errorf("%d attempts in an hour", attempts)
		}
		if got := testutil.ToFloat64(m.undelivered.WithLabelValues("bad")); got != 1 {
			t.Errorf("undelivered %v", got)
		}
		time.Sleep(giveUp + time.Hour)
		if got := testutil.ToFloat64(m.sent.WithLabelValues("bad", dropped)); got != 1 {
			t.Errorf("given up %v", got)
		}
		stop()
	})
	if got := wait(1, &refusal{status: 429, after: 7 * time.Minute}); got < 7*time.Minute {
		t.Errorf("waits %s", got)
	}
	for n := range 100 {
		if got := wait(n, errors.New("x")); got < 500*time.Millisecond || got > maxPause*2 {
			t.Errorf("attempt %d: %s", n, got)
		}
	}
}

// Who is told of what.
func TestTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory()
		all, mine, people, gone := &flaky{rand: rand.New(rand.NewPCG(1, 2))}, &flaky{rand: rand.New(rand.NewPCG(1, 2))}, &flaky{rand: rand.New(rand.NewPCG(1, 2))}, &flaky{rand: rand.New(rand.NewPCG(1, 2))}
		n, _ := notifier(store,
			Target{Name: "all", Sender: all},
			Target{Name: "mine", Sender: mine, Connections: []string{"cr*"}, Rules: []string{"big-*"}, Steps: []approvals.StepName{approvals.StepRefused, approvals.StepBrokeGlass}},
			Target{Name: "people", Sender: people, People: true},
			Target{Name: "gone", Sender: gone, Connections: []string{"erp"}})
		if got := n.Targets(refund); !slices.Equal(got, []string{"all", "mine", "people"}) {
			t.Errorf("for %q", got)
		}
		// Asked and refused before anybody could be told.
		ask(t, store, "apr_1", n.Targets(refund))
		decide(t, store, "apr_1", "ann", false, "no")
		h := storetest.NewHold(t, "apr_2", time.Now())
		h.Targets, h.State, h.BreakGlass = n.Targets(refund), approvals.BrokeGlass, "the database is on fire"
		if _, err := store.Break(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		stop := run(t, n, store)
		time.Sleep(time.Minute)
		stop()
		for name, c := range map[string]struct{ got, want []string }{
			"all": {all.told(), []string{"apr_1_1", "apr_1_2", "apr_2_1"}}, "mine": {mine.told(), []string{"apr_1_2", "apr_2_1"}},
			"people": {people.told(), []string{"apr_1_2", "apr_2_1"}}, "gone": {gone.told(), nil},
		} {
			slices.Sort(c.got)
			if !slices.Equal(c.got, c.want) {
				t.Errorf("%s was told %q, want %q", name, c.got, c.want)
			}
		}
		if h, err := store.Get(t.Context(), "apr_2"); err != nil || !h.Marked(approvals.StepNotified, "all") {
			t.Errorf("an alert is not on record: %v", err)
		}
	})
}

// What waits survives the process, on the store of one machine.
func TestRestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "approvals.db")
	open := func() *sqlite.Store {
		s, err := sqlite.Open(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	store := open()
	r := newReceiver(t, newSecret)
	r.status = []int{503, 503}
	n, m := notifier(store, r.target("hook", newSecret))
	stop := run(t, n, store)
	h := ask(t, store, "apr_1", []string{"hook"})
	waitFor(t, func() bool { return testutil.ToFloat64(m.sent.WithLabelValues("hook", failed)) > 0 })
	stop()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	store = open()
	defer store.Close()
	decide(t, store, h.ID, "ann", true, "")
	n, _ = notifier(store, r.target("hook", newSecret))
	stop = run(t, n, store)
	if first, second := <-r.got, <-r.got; first.Type != "approval.asked" || second.Type != "approval.approved" || first.Data.State != approvals.Approved {
		t.Errorf("told %s (%s), %s", first.Type, first.Data.State, second.Type)
	}
	stop()
}

// The log of failures tells no secret.
func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		store := storetest.NewMemory()
		n, _ := notifier(store, Target{Name: "slack", Sender: &Slack{URL: text("https://hooks.invalid/services/s3cr3t"), Client: &http.Client{Transport: refusing{}}}})
		n.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
		stop := run(t, n, store)
		ask(t, store, "apr_1", []string{"slack"})
		time.Sleep(time.Minute)
		stop()
		if got := log.String(); !strings.Contains(got, "can't be reached") || strings.Contains(got, "s3cr3t") {
			t.Errorf("log: %s", got)
		}
	})
}

type refusing struct{}

func (refusing) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("connection refused")
}
