package console

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/callgate/callgate/call"
)

// Unsealer releases originals: what masks changed, as it was.
type Unsealer interface {
	// Unseal asks people, and releases what they have agreed to. The error is
	// ErrUnseal or ErrNoOriginal, or tells what is away.
	Unseal(ctx context.Context, who call.Identity, id call.ID, reason string) (Unsealed, error)
}

// The states of an original that was asked for.
const (
	UnsealReleased = "released" // it is here
	UnsealWaiting  = "waiting"  // for a second person: ask again
	UnsealRefused  = "refused"  // somebody said no, or nobody answered in time
)

// Unsealed is what became of a wish to see an original.
type Unsealed struct {
	State    string `json:"state"`
	Approval string `json:"approval,omitempty"`
	Message  string `json:"message,omitempty"`
	// RetryAfter is when to ask again, in seconds.
	RetryAfter int `json:"retry_after,omitempty"`
	// Original is encrypted for investigators still.
	Original []byte `json:"original,omitempty"`
	// Commitment is what the ledger has of it.
	Commitment []byte `json:"commitment,omitempty"`
}

// What can stand against it.
var (
	ErrUnseal     = errors.New("can't unseal")
	ErrNoOriginal = errors.New("there is no original")
)

// unsealing is the body of such a request.
type unsealing struct {
	Reason string `json:"reason"`
}

func (s *Server) unseal(w http.ResponseWriter, r *http.Request, who call.Identity) {
	if len(who.Actors) > 0 || !s.cfg.Investigators.Include(who) {
		refuse(w, http.StatusForbidden, "only those in audit.unseal.investigators may see originals, themselves and not through an agent; add a group or a person of theirs there")
		return
	}
	if ct := r.Header.Get("content-type"); ct != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "send application/json")
		return
	}
	id, err := call.ParseID(r.PathValue("id"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	var ask unsealing
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxComment))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&ask); err != nil {
		refuse(w, http.StatusBadRequest, "the body must be {\"reason\": \"…\"}")
		return
	}
	out, err := s.cfg.Unsealer.Unseal(r.Context(), who, id, ask.Reason)
	switch {
	case errors.Is(err, ErrUnseal):
		refuse(w, http.StatusBadRequest, err.Error())
		return
	case errors.Is(err, ErrNoOriginal):
		refuse(w, http.StatusNotFound, err.Error())
		return
	case err != nil:
		s.cfg.Log.ErrorContext(r.Context(), "an original could not be released", "call_id", id, "error", err)
		refuse(w, http.StatusServiceUnavailable, "the original can't be released now: "+err.Error())
		return
	}
	if out.RetryAfter > 0 {
		w.Header().Set("retry-after", strconv.Itoa(out.RetryAfter))
	}
	answer(w, out)
}
