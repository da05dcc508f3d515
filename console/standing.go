package console

import (
	"net/http"
	"strconv"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
)

// Standing is how far an approval is, for the caller that asked for it.
type Standing struct {
	ID    string `json:"id"`
	State string `json:"state"` // open, approved, refused, used, expired, canceled
	// Comment is what the approver who refused said.
	Comment string    `json:"comment,omitempty"`
	Expires time.Time `json:"expires"` // until then people can decide
	// UseBy is until when the call must be made again, once it is approved.
	UseBy time.Time `json:"use_by,omitzero"`
	// RetryAfter is in how many seconds it is of use to ask again; 0: now, or
	// nothing changes any more.
	RetryAfter int `json:"retry_after,omitempty"`
}

// standing answers the caller whose call waits, by its own token. It tells
// nobody else that there is such an approval.
func (s *Server) standing(w http.ResponseWriter, r *http.Request, who call.Identity) {
	st, err := s.cfg.Approvals.Standing(r.Context(), r.PathValue("id"), who)
	if err != nil {
		s.failed(w, r, err)
		return
	}
	out := Standing{ID: st.ID, State: string(st.State), Comment: st.Comment, Expires: st.Expires, UseBy: st.UseBy, RetryAfter: int((st.RetryAfter + time.Second - 1) / time.Second)}
	if st.State != approvals.Approved {
		out.UseBy = time.Time{}
	}
	if out.RetryAfter > 0 {
		w.Header().Set("retry-after", strconv.Itoa(out.RetryAfter))
	}
	answer(w, out)
}
