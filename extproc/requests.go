package extproc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extproc/mask"
)

// Requests masks the bodies of requests, where a function must not be sent what
// they hold. It does so twice with the same result: when a call is decided, so
// that the record has what the function gets, and on the request's way there. It
// is safe for concurrent use.
type Requests struct{ maskers maskers }

// NewRequests returns one. hashKey and custom are those of [Config].
func NewRequests(hashKey []byte, custom Detectors) *Requests {
	return &Requests{maskers{hashKey: hashKey, custom: custom}}
}

// Mask returns the body as the function may have it, and what was hidden. An error
// says why it can't be masked; then it must not be sent.
func (r *Requests) Mask(ctx context.Context, protocol call.Protocol, rules call.Mask, h call.Headers, body []byte) ([]byte, []call.Masked, error) {
	masker, err := r.maskers.of(rules, requestRoots[protocol], nil)
	if err != nil || masker == nil {
		return body, nil, err
	}
	if names := codings(h); len(names) > 0 {
		return nil, nil, fmt.Errorf("a body in content-encoding %s is not masked; send it plain", strings.Join(names, ", "))
	}
	types := h.Values("content-type")
	if len(types) > 1 {
		return nil, nil, errors.New("the request has more than one content-type")
	}
	out, found, err := masker.In(ctx).Whole(strings.Join(types, ""), body)
	if errors.Is(err, mask.ErrBinary) {
		return nil, nil, errors.New("a body of this content-type can't be masked; send JSON, a form or text")
	}
	return out, noted(found), err
}

// requestRoots are where the arguments of a function begin in a request.
var requestRoots = map[call.Protocol][]string{
	call.MCP: {"params", "params.arguments"}, call.JSONRPC: {"params"}, call.GraphQL: {"variables"},
}

// maskRequest masks a request's body on its way to the function. Both what was
// judged and what was recorded are known by their hashes.
func (r *response) maskRequest(body []byte) ([]byte, error) {
	edit := r.editing.mask
	if hashOf(body) != edit.Judged {
		return nil, errors.New("the request body is not the one that was judged")
	}
	out, _, err := r.server.requests.Mask(r.ctx, r.meta.Protocol, edit.Mask, r.editing.headers, body)
	if err != nil {
		return nil, fmt.Errorf("the request can't be masked: %w", err)
	}
	if hashOf(out) != edit.Sent {
		return nil, errors.New("the masked request is not the one that was recorded; the replicas differ in their hash key or build")
	}
	return out, nil
}

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
