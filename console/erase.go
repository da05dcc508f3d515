package console

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/callgate/callgate/call"
)

// Erase asks for the content of calls to be removed: those in Calls, or else all
// that the other fields select.
type Erase struct {
	Calls      []uuid.UUID `json:"calls,omitempty"`
	Identity   string      `json:"identity,omitempty"`
	Connection string      `json:"connection,omitempty"`
	Function   string      `json:"function,omitempty"`
	Since      time.Time   `json:"since,omitzero"`
	Until      time.Time   `json:"until,omitzero"`
	Reason     string      `json:"reason,omitempty"`
	DryRun     bool        `json:"dry_run,omitempty"` // tell what would be erased, and erase nothing
}

// Erased is what an erasure did, and what it could not reach.
type Erased struct {
	Calls   []uuid.UUID `json:"calls"`   // whose content was removed, or would be
	Missing []uuid.UUID `json:"missing"` // asked for, and not in ClickHouse (yet)
	// Held is how many held requests were removed from this replica's approval
	// store.
	Held int `json:"held"`
	// Unsettled and Quarantined are what this replica has that is not in
	// ClickHouse, and could not be looked at: calls that have no row yet, and
	// rows that were refused.
	Unsettled   int `json:"unsettled"`
	Quarantined int `json:"quarantined"`
}

// Eraser removes content from the trail.
type Eraser interface {
	Erase(ctx context.Context, by call.Identity, ask Erase) (Erased, error)
}

// ErrNotAdministrator says that somebody may not erase.
var ErrNotAdministrator = errors.New("only those in audit.administrators may erase, themselves and not through an agent; add a group or a person of theirs there")

// ErrErase says that a request to erase makes no sense.
var ErrErase = errors.New("can't erase")

// maxErase bounds the body of such a request, in bytes.
const maxErase = 8 << 20

func (s *Server) erase(w http.ResponseWriter, r *http.Request, who call.Identity) {
	if len(who.Actors) > 0 || !s.cfg.Administrators.Include(who) {
		refuse(w, http.StatusForbidden, ErrNotAdministrator.Error())
		return
	}
	// A form post of a foreign page can't be of this type without the browser
	// asking first.
	if ct := r.Header.Get("content-type"); ct != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "send application/json")
		return
	}
	var ask Erase
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxErase))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&ask); err != nil {
		refuse(w, http.StatusBadRequest, "the body must be JSON with reason, and with calls, identity, connection, function, since or until")
		return
	}
	done, err := s.cfg.Eraser.Erase(r.Context(), who, ask)
	switch {
	case errors.Is(err, ErrErase):
		refuse(w, http.StatusBadRequest, err.Error())
	case err != nil:
		s.cfg.Log.ErrorContext(r.Context(), "content could not be erased", "error", err)
		refuse(w, http.StatusServiceUnavailable, "the erasure did not end; it may be asked for again, and goes on where it ended: "+err.Error())
	default:
		answer(w, done)
	}
}
