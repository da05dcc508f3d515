package extauthz

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/callgate/callgate/call"
)

// blanks hides the text "ü".
type blanks struct{ err error }

func (b blanks) Mask(_ context.Context, _ call.Protocol, _ call.Mask, _ call.Headers, body []byte) ([]byte, []call.Masked, error) {
	return bytes.ReplaceAll(body, []byte("ü"), []byte("[redacted]")), []call.Masked{{Rule: "own", Type: "key", Path: "note", Count: 1}}, b.err
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
	r.check(t, request(editable)).denied(t, 400, call.ReasonMalformedRequest)
	r.cfg.Requests = nil
	r.check(t, request(editable)).denied(t, 500, call.ReasonInternal)
}
