package extauthz

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"unicode/utf8"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/proto"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extauthz/connection"
)

// The answer comes after the record, whichever it is.
func TestNoAnswerBeforeTheRecord(t *testing.T) {
	for _, action := range []call.Action{call.ActionAllow, call.ActionDeny} {
		t.Run(string(action), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.decide = func(context.Context, *call.Call) call.Ruling {
					return call.Ruling{Action: action, Reason: call.ReasonRule}
				}
				release := make(chan struct{})
				r.recorder.faulty(func(call.Event) error { <-release; return nil })
				var answered atomic.Bool
				go func() {
					if _, err := r.Check(context.Background(), request()); err != nil {
						t.Error(err)
					}
					answered.Store(true)
				}()
				synctest.Wait()
				if answered.Load() {
					t.Error("answered while the record was not on disk")
				}
				close(release)
				synctest.Wait()
				if !answered.Load() || len(r.recorder.all()) != 1 {
					t.Errorf("answered %v, %d events", answered.Load(), len(r.recorder.all()))
				}
			})
		})
	}
}

// A caller that hangs up leaves a row all the same.
func TestHangingUpDoesNotStopTheRecord(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	r.decide = func(context.Context, *call.Call) call.Ruling {
		cancel()
		return call.Ruling{Action: call.ActionAllow}
	}
	r.cfg.Recorder = recordFunc(func(ctx context.Context, e call.Event) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return r.recorder.Record(ctx, e)
	})
	if _, err := r.Check(ctx, request()); err != nil {
		t.Fatal(err)
	}
	if n := len(r.recorder.all()); n != 1 {
		t.Errorf("%d events", n)
	}
}

type recordFunc func(context.Context, call.Event) error

func (f recordFunc) Record(ctx context.Context, e call.Event) error { return f(ctx, e) }

func TestUnrecordedCallsAreDenied(t *testing.T) {
	r := newRig(t)
	r.recorder.faulty(func(call.Event) error { return errDisk })
	for name, change := range map[string]func(){
		"allowed": func() {},
		"held": func() {
			r.decide = func(context.Context, *call.Call) call.Ruling { return call.Ruling{Action: call.ActionHold} }
			r.hold = func(context.Context, *call.Call, call.Ruling) call.Decision {
				return call.Decision{Outcome: call.HoldAllow, Reason: call.ReasonApproved}
			}
		},
		"denied": func() {
			r.decide = func(context.Context, *call.Call) call.Ruling { return call.Ruling{Reason: call.ReasonRule} }
		},
		"unknown connection, where others may go unrecorded": func() { r.conns["crm"].Record.Unrecorded = true; delete(r.conns, "crm"); r.activate(t) },
	} {
		t.Run(name, func(t *testing.T) {
			change()
			r.check(t, request()).denied(t, 503, call.ReasonAuditUnavailable)
		})
	}
	if len(r.backlog.events) != 0 {
		t.Errorf("%d denials wait to be recorded", len(r.backlog.events))
	}
}

// A connection may choose to be available rather than recorded at once. Its
// events are marked, and where no more can wait, calls are denied.
func TestUnrecordedByChoice(t *testing.T) {
	r := newRig(t)
	r.conns["crm"].Record.Unrecorded = true
	r.activate(t)
	if a := r.check(t, request()); a.event == nil || a.event.Late || !a.meta.Record.Unrecorded {
		t.Errorf("a call that was recorded is marked: %+v, %+v", a.event, a.meta)
	}
	r.recorder.faulty(func(call.Event) error { return errDisk })
	a := r.check(t, request())
	if a.GetOkResponse() == nil || a.event != nil {
		t.Fatalf("%v", a.CheckResponse)
	}
	r.check(t, request(to("tool", "/mcp"))).denied(t, 503, call.ReasonAuditUnavailable) // its connection chose nothing
	r.decide = func(context.Context, *call.Call) call.Ruling { return call.Ruling{Reason: call.ReasonRule} }
	no := r.check(t, request())
	no.denied(t, 403, call.ReasonRule)
	all := r.backlog.events
	if len(all) != 2 || all[0].CallID != a.meta.CallID || !all[0].Decided.Late || all[0].Decided.Decision.Outcome != call.Allow ||
		all[1].CallID != no.meta.CallID || !all[1].Decided.Late {
		t.Errorf("%+v", all)
	}
	r.backlog.full = true
	r.check(t, request()).denied(t, 503, call.ReasonAuditUnavailable)
	if n := testutil.ToFloat64(r.cfg.Metrics.unrecorded); n != 4 {
		t.Errorf("%v unrecorded decisions are counted", n)
	}
}

// The tests' panics quote a secret, as real ones may quote the request.
func TestPanicsAreContained(t *testing.T) {
	boom := func() { panic("at " + plantedToken + plantedCredential) }
	for name, change := range map[string]func(*rig){
		"identity": func(r *rig) {
			r.identify = func(context.Context, call.Headers) (call.Identity, error) { boom(); return call.Identity{}, nil }
		},
		"policy": func(r *rig) {
			r.decide = func(context.Context, *call.Call) call.Ruling { boom(); return call.Ruling{} }
		},
		"approvals": func(r *rig) {
			r.decide = func(context.Context, *call.Call) call.Ruling { return call.Ruling{Action: call.ActionHold} }
			r.hold = func(context.Context, *call.Call, call.Ruling) call.Decision { boom(); return call.Decision{} }
		},
		"recorder, once": func(r *rig) {
			var once sync.Once
			r.recorder.faulty(func(call.Event) error { once.Do(boom); return nil })
		},
		"nil ruling's approvals": func(r *rig) {
			r.decide = func(context.Context, *call.Call) call.Ruling { return call.Ruling{Action: call.ActionHold} }
			r.cfg.Approvals = nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			change(r)
			a := r.check(t, request())
			a.denied(t, 500, call.ReasonInternal)
			if a.event == nil || a.event.Connection != "crm" {
				t.Errorf("event %+v", a.event)
			}
			if s := r.log.String(); !strings.Contains(s, "panic") || strings.Contains(s, plantedToken) || strings.Contains(s, plantedCredential) {
				t.Errorf("log: %s", s)
			}
		})
	}
}

// Where even the denial can't be made, an error is the answer: Envoy denies.
func TestRecorderThatAlwaysPanics(t *testing.T) {
	r := newRig(t)
	r.recorder.faulty(func(call.Event) error { panic(plantedToken) })
	resp, err := r.Check(t.Context(), request())
	if err == nil || resp != nil {
		t.Fatalf("%v, %v", resp, err)
	}
	if strings.Contains(err.Error()+r.log.String(), plantedToken) {
		t.Error("the panic's text is quoted")
	}
}

// One call sees one policy from beginning to end.
func TestActivateSwapsAsAWhole(t *testing.T) {
	r := newRig(t)
	actives := make([]Active, 2)
	for i := range actives {
		v := fmt.Sprintf("v%d", i)
		c := *r.conns["crm"]
		c.Credential, c.MaxResponse = secret{name: "authorization", value: v}, int64(i+1)
		set, err := connection.NewSet([]*connection.Connection{&c})
		if err != nil {
			t.Fatal(err)
		}
		actives[i] = Active{Version: v, Connections: set, Policy: policy(func(context.Context, *call.Call) call.Ruling {
			return call.Ruling{Action: call.ActionAllow, Rule: v, Mask: call.Mask{Rules: []call.MaskRule{{Name: v}}}}
		})}
	}
	r.Activate(Versions{Stable: actives[0]})
	var callers, swapper sync.WaitGroup
	stop := make(chan struct{})
	swapper.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				r.Activate(Versions{Stable: actives[i%2]})
			}
		}
	})
	var mu sync.Mutex
	said := map[call.ID]string{}
	for range 8 {
		callers.Go(func() {
			for range 100 {
				resp, err := r.Check(context.Background(), request())
				if err != nil {
					t.Error(err)
					return
				}
				m := metadata(t, resp)
				v := set(t, resp.GetOkResponse().GetHeaders())["authorization"]
				if want := fmt.Sprintf("v%d", m.MaxResponse-1); v != want || m.Mask.Rules[len(m.Mask.Rules)-1].Name != want {
					t.Errorf("credential of %s, settings of %s, mask %+v", v, want, m.Mask)
				}
				mu.Lock()
				said[m.CallID] = v
				mu.Unlock()
			}
		})
	}
	callers.Wait()
	close(stop)
	swapper.Wait()
	all := r.recorder.all()
	if len(all) != 800 {
		t.Errorf("%d events", len(all))
	}
	for _, e := range all {
		if d := e.Decided.Decision; said[e.CallID] != d.PolicyVersion || d.Rule != d.PolicyVersion {
			t.Fatalf("answered under %s, recorded under %s, decided by %s", said[e.CallID], d.PolicyVersion, d.Rule)
		}
	}
}

// FuzzCheck asks with whatever bytes there are: nothing is let through that was
// not recorded before as let through, nothing panics, and every answer can be sent.
func FuzzCheck(f *testing.F) {
	const rpc = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":{"q":"x"}}}`
	for _, req := range []*authv3.CheckRequest{
		request(), request(to("tool", "/mcp"), body(rpc)), request(to("rpc", "/rpc"), body(rpc)), request(to("nope", "/?token=x;y")),
		request(drop("content-length"), add("x-callgate-x", "\xff"), add("content-type", "\xff\xfe")),
		{},
	} {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	r := newRig(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		var req authv3.CheckRequest
		if proto.Unmarshal(data, &req) == nil {
			r.safe(t, &req)
		}
	})
}

// FuzzCheckFields reaches further in than FuzzCheck, with requests that are well formed
// as messages.
func FuzzCheckFields(f *testing.F) {
	const rpc = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":{"q":"x"}}}`
	f.Add("crm", "POST", "/crm/refunds?a=%ff&\u00e9=1", "content-type", []byte("application/json"), []byte(refundBody))
	f.Add("tool", "POST", "/mcp", "mcp-session-id", []byte("\xff"), []byte(rpc))
	f.Add("tool", "GET", "/mcp", "accept", []byte("text/event-stream"), []byte(nil))
	f.Add("rpc", "POST", "/rpc", "x-callgate-x", []byte("\xfe"), []byte("{\"jsonrpc\":\"2.0\",\"id\":\"\xff\",\"method\":\"a\xff\"}"))
	f.Add("nope", "POST", "/a.B/C", "content-type", []byte("application/grpc"), []byte("\x00\x00\x00\x00\x00"))
	r := newRig(f)
	f.Fuzz(func(t *testing.T, conn, method, path, name string, value, content []byte) {
		valid := func(s string) string { return strings.ToValidUTF8(s, "?") } // gRPC refuses others
		r.safe(t, request(to(valid(conn), valid(path)), body(string(content)), add(valid(name), string(value)), func(req *authv3.CheckRequest) {
			httpOf(req).Method = valid(method)
		}))
	})
}

// safe asks, and checks what must be true of any answer.
func (r *rig) safe(t *testing.T, req *authv3.CheckRequest) {
	t.Helper()
	// A new recorder, so that memory stays bounded and the event is this call's.
	own := &recorder{}
	r.cfg.Recorder = own
	resp, err := r.Check(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(r.log.String(), "panic") {
		t.Fatal(r.log.String())
	}
	if _, err := proto.Marshal(resp); err != nil {
		t.Fatalf("an answer that can't be sent: %v", err)
	}
	m := metadata(t, resp)
	all := own.all()
	if len(all) != 1 || all[0].CallID != m.CallID || all[0].Decided.Decision.Outcome != m.Outcome {
		t.Fatalf("answered %s, recorded %+v", m.Outcome, all)
	}
	e := all[0].Decided
	for name, s := range map[string]string{"function": e.Function, "session": e.Session, "path": e.Path, "rpc id": e.RPCID,
		"args": string(e.ArgsJSON), "message": e.Decision.Message, "method": e.Method} {
		if !utf8.ValidString(s) {
			t.Errorf("%s is recorded as %q, which is not UTF-8", name, s)
		}
	}
	if allowed := resp.GetStatus().GetCode() == 0; allowed != m.Outcome.Allowed() || allowed != (resp.GetOkResponse() != nil) {
		t.Fatalf("status %v of %s", resp.Status, m.Outcome)
	}
}
