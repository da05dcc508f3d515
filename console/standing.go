package console

import (
	"encoding/pem"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extauthz/identity"
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

// standing answers the caller whose call waits, by whatever it makes calls with.
// It tells nobody else that there is such an approval.
func (s *Server) standing(w http.ResponseWriter, r *http.Request) {
	private(w)
	req := identity.Request{Method: r.Method, Path: r.URL.RequestURI()}
	req.Scheme, req.Authority, _ = strings.Cut(s.cfg.URL, "://")
	for name, values := range r.Header {
		for _, v := range values {
			req.Headers = append(req.Headers, call.Header{Name: strings.ToLower(name), Value: v})
		}
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 { // its key was proved; whose it is, is asked now
		leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.TLS.PeerCertificates[0].Raw})
		req.Certificate = url.QueryEscape(string(leaf))
	}
	who, err := s.cfg.Callers.Caller(r.Context(), req)
	if err == nil && who.Anonymous() {
		err = &identity.Error{Reason: call.ReasonNoCredentials, Message: "show what the call was made with"}
	}
	if err != nil {
		unidentified(w, err)
		return
	}
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
