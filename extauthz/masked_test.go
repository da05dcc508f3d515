package extauthz

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/callgate/callgate/call"
)

// blanks hides the text "ü".
type blanks struct{ err error }

func (b blanks) Mask(_ context.Context, _ call.Mask, c *call.Call, _ []string) (string, []byte, []call.Masked, error) {
	return strings.ReplaceAll(c.Request.Path, "%C3%BC", "-"), bytes.ReplaceAll(c.Request.Body, []byte("ü"), []byte("[redacted]")), []call.Masked{{Rule: "own", Type: "key", Path: "note", Count: 1}}, b.err
}

// Rules and people judge what the caller sent; the record and the function have
// what is left of it, or the call is denied.
func TestRequestMasked(t *testing.T) {
	r := newRig(t)
	judged := ""
	r.decide = func(_ context.Context, c *call.Call) call.Ruling {
		judged = string(c.Request.Body)
		return call.Ruling{Action: call.ActionAllow, Rule: "yes"}
	}
	r.conns["crm"].RequestMask = call.Mask{Rules: []call.MaskRule{{Name: "own", Keys: []string{"note"}}}}
	r.activate(t)
	hashOf := func(s string) string { sum := sha256.Sum256([]byte(s)); return hex.EncodeToString(sum[:]) }

	r.cfg.Requests = blanks{}
	a := r.check(t, request(editable))
	sent := strings.Replace(refundBody, "ü", "[redacted]", 1)
	if m := a.meta.Request; a.GetOkResponse() == nil || m == nil || m.Judged != hashOf(refundBody) || m.Sent != hashOf(sent) || len(m.Mask.Rules) != 1 || m.Mask.Rules[0].Name != "own" {
		t.Fatalf("%+v", a.meta)
	}
	if judged != refundBody || string(a.event.Body.Head) != sent || strings.Contains(string(a.event.ArgsJSON), "ü") || !strings.Contains(string(a.event.ArgsJSON), "redacted") {
		t.Errorf("judged %s, recorded %s with %s", judged, a.event.Body.Head, a.event.ArgsJSON)
	}
	if len(a.event.Masked) != 1 || a.event.Masked[0].Path != "note" {
		t.Errorf("recorded as hidden: %+v", a.event.Masked)
	}
	// Nothing to hide: as it came.
	if a := r.check(t, request(editable, body(`{"amount":1}`))); a.GetOkResponse() == nil || a.meta.Request != nil || a.event.Masked != nil {
		t.Errorf("%+v", a.meta)
	}
	r.check(t, request()).denied(t, 403, call.ReasonRequestWhole)
	r.cfg.Requests = blanks{err: errors.New("it is a picture")}
	r.check(t, request(editable)).denied(t, 403, call.ReasonRequestWhole)
	r.cfg.Requests = nil
	r.check(t, request(editable)).denied(t, 500, call.ReasonInternal)
}

// What is hidden of a query, of the calls of a batch, and of messages that stream.
func TestRequestPartsMasked(t *testing.T) {
	rules := call.Mask{Rules: []call.MaskRule{{Name: "own", Keys: []string{"note"}}}}
	t.Run("query", func(t *testing.T) {
		r := newRig(t)
		r.cfg.Requests = blanks{}
		r.conns["crm"].RequestMask = rules
		r.activate(t)
		ask := func(req *authv3.CheckRequest) {
			h := req.Attributes.Request.Http
			h.Path += "?note=%C3%BC"
		}
		a := r.check(t, request(editable, ask, body(`{"amount":1}`)))
		m := a.meta.Request
		if a.GetOkResponse() == nil || m == nil || m.Judged != "" || m.JudgedPath == "" || m.SentPath != call.HashOf([]byte(a.event.Path)) || !strings.HasSuffix(a.event.Path, "?note=-") || strings.Contains(string(a.event.ArgsJSON), "ü") {
			t.Errorf("%+v %s %s", a.meta.Request, a.event.Path, a.event.ArgsJSON)
		}
		r.check(t, request(ask, body(`{"amount":1}`))).denied(t, 403, call.ReasonRequestWhole)
	})
	t.Run("batch", func(t *testing.T) {
		for _, denied := range []bool{false, true} {
			r := newBatchRig(t)
			r.cfg.Requests = blanks{}
			r.conns["rpc"].RequestMask = rules
			r.activate(t)
			one, two := `{"jsonrpc":"2.0","method":"get","id":1,"params":{"note":"ü"}}`, rpcOf("get", "2")
			list := []string{one, two}
			if denied {
				list = append(list, rpcOf("drop", "3"))
			}
			text := " [" + strings.Join(list, " , ") + "]"
			resp, meta, events := r.sendBatch(t, text, editable)
			masked := strings.Replace(one, "ü", "[redacted]", 1)
			if m := meta.Request; resp.GetOkResponse() == nil || m == nil || m.Judged != call.HashOf([]byte(text)) || m.Sent != call.HashOf([]byte("["+masked+","+two+"]")) || m.SentPath != "" {
				t.Fatalf("%+v", meta.Request)
			}
			if string(events[0].Body.Head) != masked || len(events[0].Masked) != 1 || strings.Contains(string(events[0].ArgsJSON), "ü") || string(events[1].Body.Head) != two || events[1].Masked != nil {
				t.Errorf("recorded %s %+v, %s %+v", events[0].Body.Head, events[0].Masked, events[1].Body.Head, events[1].Masked)
			}
			if meta.Batch.Edit != denied || meta.Batch.Calls[0].End-meta.Batch.Calls[0].Start != len(one) {
				t.Errorf("%+v", meta.Batch)
			}
			// Where it can't be rewritten, that call does not go, nor do those with it.
			if resp, _, events := r.sendBatch(t, text); resp.GetOkResponse() != nil || events[0].Decision.Reason != call.ReasonRequestWhole || events[1].Decision.Reason != call.ReasonBatchWhole {
				t.Errorf("%v", resp)
			}
			// Nothing to hide: as it came.
			if _, meta, _ := r.sendBatch(t, "["+two+"]", editable); meta.Request != nil {
				t.Errorf("%+v", meta.Request)
			}
			r.cfg.Requests = blanks{err: errors.New("it is a picture")}
			if resp, _, events := r.sendBatch(t, text, editable); resp.GetOkResponse() != nil || events[0].Decision.Reason != call.ReasonRequestWhole || !strings.Contains(events[0].Decision.Message, "picture") {
				t.Errorf("%v", resp)
			}
		}
	})
}
