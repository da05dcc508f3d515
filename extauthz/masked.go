package extauthz

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"

	"github.com/callgate/callgate/call"
)

// maskRequest hides of the request what the function must not be sent. Rules and
// people have judged the request as the caller sent it; from here on, the record
// included, it is what the function gets. It is rewritten by ext_proc, which this
// Envoy must let see it.
func (d *decision) maskRequest() *denied {
	r := &d.call.Request
	if len(d.conn.RequestMask.Rules) == 0 || len(r.Body) == 0 {
		return nil
	}
	if d.server.cfg.Requests == nil {
		return deny(call.ReasonInternal, "the gateway can't mask requests")
	}
	out, hidden, err := d.server.cfg.Requests.Mask(d.ctx, d.call.Protocol, d.conn.RequestMask, r.Headers, r.Body)
	switch {
	case err != nil:
		return deny(call.ReasonMalformedRequest, "this connection masks what its functions are sent, and the body can't be masked: %v", err)
	case bytes.Equal(out, r.Body):
		return nil
	case !d.edits:
		return deny(call.ReasonRequestWhole, "the body holds what the function must not be sent, and this Envoy does not let it be rewritten; leave it out")
	}
	judged, sent := sha256.Sum256(r.Body), sha256.Sum256(out)
	d.request = &call.RequestMask{Mask: d.conn.RequestMask, Judged: hex.EncodeToString(judged[:]), Sent: hex.EncodeToString(sent[:])}
	masked := *r
	masked.Body = out
	masked.Headers = slices.Clone(r.Headers)
	for i := range masked.Headers {
		if masked.Headers[i].Name == "content-length" {
			masked.Headers[i].Value = strconv.Itoa(len(out))
		}
	}
	inv, err := d.conn.Parser.Parse(&masked)
	if err != nil || inv.Function != d.call.Function {
		return deny(call.ReasonMalformedRequest, "the body holds what the function must not be sent, and without it is no call of it; leave it out")
	}
	d.hidden = hidden
	d.call.Args, d.call.ArgsJSON, d.call.Request = inv.Args, inv.ArgsJSON, masked
	return nil
}
