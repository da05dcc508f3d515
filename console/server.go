package console

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extauthz/identity"
)

// Approvals is what the API needs of the approval service.
type Approvals interface {
	List(ctx context.Context, f approvals.Filter, by *call.Identity) ([]approvals.Hold, error)
	Mine(ctx context.Context, f approvals.Filter, by call.Identity) ([]approvals.Hold, error)
	Get(ctx context.Context, id string) (approvals.Hold, error)
	Look(ctx context.Context, id string, by call.Identity) (approvals.View, error)
	Show(ctx context.Context, id string) (approvals.View, error)
	Watch(ctx context.Context, by call.Identity, most int) ([]approvals.Hold, func(context.Context, func(approvals.Hold) error) error, error)
	Standing(ctx context.Context, id string, by call.Identity) (approvals.Standing, error)
	Decide(ctx context.Context, id string, by call.Identity, a approvals.Answer) (approvals.Hold, error)
	Granted(ctx context.Context, id, by, grant string, until time.Time) error
	Review(ctx context.Context, id string, by call.Identity, justified bool, comment string) (approvals.Hold, error)
	Delegate(ctx context.Context, by call.Identity, to string, until time.Time, reason string) (approvals.Delegation, error)
	Undelegate(ctx context.Context, id string, by call.Identity) (approvals.Delegation, error)
	EndDelegation(ctx context.Context, id string, by call.Identity) (approvals.Delegation, error)
	Delegations(ctx context.Context, who call.Identity, all bool) ([]approvals.Delegation, error)
	EveryDelegation(ctx context.Context, all bool) ([]approvals.Delegation, error)
}

// Outbox keeps which approvals come with grants that are still to be given; see
// [approvals.Outbox].
type Outbox interface {
	Lease(ctx context.Context, target string, at, until time.Time, limit int) ([]approvals.Notice, error)
	Delivered(ctx context.Context, list ...approvals.Notice) error
	Failed(ctx context.Context, n approvals.Notice, next time.Time) error
}

// Identifier finds out who asks. Its error is an *identity.Error.
type Identifier interface {
	Identify(context.Context, call.Headers) (call.Identity, error)
}

// Callers finds out who asks as it is found out who calls. Its error is an
// *identity.Error.
type Callers interface {
	Caller(context.Context, identity.Request) (call.Identity, error)
}

// Config is what a [Server] needs.
type Config struct {
	Approvals  Approvals
	Outbox     Outbox
	Identifier Identifier
	// Callers identifies those who ask how far their own call's approval is, at
	// URL, which is where they reach this, such as https://callgate.example.com.
	Callers Callers
	URL     string
	// Admit refuses whoever has been revoked since they were identified; nil:
	// nobody.
	Admit  func(call.Identity) error
	Status func() Status
	Audit  func() Audit
	Eraser Eraser
	// Administrators may erase.
	Administrators call.Approvers
	Unsealer       Unsealer
	// Investigators may ask to see originals.
	Investigators call.Approvers
	Control       Control // nil where this process is not the control plane
	// Controllers may change what decides.
	Controllers call.Approvers
	// Tokens answers POST /token and discovery; nil where no tokens are
	// exchanged.
	Tokens http.Handler
	Log    *slog.Logger
}

// Server answers the admin API.
type Server struct {
	cfg Config

	mu       sync.Mutex
	watching map[string]int // by person, as "issuer|subject"
}

// New returns a Server.
func New(cfg Config) *Server {
	if cfg.Admit == nil {
		cfg.Admit = func(call.Identity) error { return nil }
	}
	return &Server{cfg: cfg, watching: map[string]int{}}
}

// description is the API as OpenAPI 3.1 has it; "make golden" writes it from the
// routes and types of this package.
//
//go:embed openapi.json
var description []byte

// routes is a mux that remembers what it serves.
type routes struct {
	http.ServeMux
	patterns []string
}

// HandleFunc adds a route.
func (m *routes) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	m.patterns = append(m.patterns, pattern)
	m.ServeMux.HandleFunc(pattern, h)
}

// Handler returns the API's routes.
func (s *Server) Handler() http.Handler { return s.routes() }

func (s *Server) routes() *routes {
	mux := &routes{}
	mux.HandleFunc("GET /api/v1/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("content-type", "application/json")
		_, _ = w.Write(description)
	})
	mux.HandleFunc("GET /api/v1/status", s.as(s.status))
	mux.HandleFunc("GET /api/v1/audit", s.as(s.audit))
	mux.HandleFunc("POST /api/v1/audit/erase", s.as(s.erase))
	mux.HandleFunc("GET /api/v1/approvals", s.as(s.list))
	mux.HandleFunc("GET /api/v1/approvals/watch", s.as(s.watch))
	mux.HandleFunc("GET /api/v1/approvals/{id}", s.as(s.show))
	mux.HandleFunc("GET /api/v1/approvals/{id}/status", s.standing)
	mux.HandleFunc("POST /api/v1/approvals/{id}/approve", s.as(s.decide(true)))
	mux.HandleFunc("POST /api/v1/approvals/{id}/deny", s.as(s.decide(false)))
	mux.HandleFunc("POST /api/v1/calls/{id}/unseal", s.as(s.unseal))
	mux.HandleFunc("POST /api/v1/approvals/{id}/review", s.as(s.review))
	mux.HandleFunc("POST /api/v1/delegations", s.as(s.delegate))
	mux.HandleFunc("GET /api/v1/delegations", s.as(s.delegations))
	mux.HandleFunc("DELETE /api/v1/delegations/{id}", s.as(s.undelegate))
	s.control(mux)
	if s.cfg.Tokens != nil {
		mux.Handle("/token", s.cfg.Tokens)
		mux.Handle("/.well-known/", s.cfg.Tokens)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, "there is nothing here; the API is below /api/v1")
	})
	return mux
}

// as identifies the person before anything else is looked at.
func (s *Server) as(h func(w http.ResponseWriter, r *http.Request, who call.Identity)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		private(w)
		headers := make(call.Headers, 0, 1)
		for _, v := range r.Header.Values("Authorization") {
			headers = append(headers, call.Header{Name: "authorization", Value: v})
		}
		who, err := s.cfg.Identifier.Identify(r.Context(), headers)
		if err != nil {
			unidentified(w, err)
			return
		}
		if who.Scope.Narrowed() {
			w.Header().Set("www-authenticate", `Bearer error="insufficient_scope"`)
			refuse(w, http.StatusForbidden, "the token is narrowed to "+who.Scope.String()+", and is for nothing here")
			return
		}
		h(w, r, who)
	}
}

func private(w http.ResponseWriter) {
	w.Header().Set("cache-control", "no-store")
	w.Header().Set("x-content-type-options", "nosniff")
}

func unidentified(w http.ResponseWriter, err error) {
	status := http.StatusUnauthorized
	var known *identity.Error
	if errors.As(err, &known) && known.Reason == call.ReasonIdentityUnavailable {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("www-authenticate", "Bearer")
	refuse(w, status, err.Error())
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request, _ call.Identity) {
	answer(w, s.cfg.Status())
}

func (s *Server) audit(w http.ResponseWriter, _ *http.Request, _ call.Identity) {
	answer(w, s.cfg.Audit())
}

// failed turns an error of the approval service into an answer.
func (s *Server) failed(w http.ResponseWriter, r *http.Request, err error) {
	for known, status := range map[error]int{
		approvals.ErrNotFound: http.StatusNotFound, approvals.ErrNotApprover: http.StatusForbidden,
		approvals.ErrSelfApproval: http.StatusForbidden, approvals.ErrDecided: http.StatusConflict,
		ErrNoGrant: http.StatusForbidden, approvals.ErrTwice: http.StatusConflict, approvals.ErrStage: http.StatusConflict, approvals.ErrNoReview: http.StatusConflict,
		approvals.ErrExpired: http.StatusConflict, approvals.ErrCanceled: http.StatusConflict, approvals.ErrInvalid: http.StatusBadRequest,
	} {
		if errors.Is(err, known) {
			refuse(w, status, err.Error())
			return
		}
	}
	s.cfg.Log.ErrorContext(r.Context(), "the admin API could not answer", "path", r.URL.Path, "error", err)
	refuse(w, http.StatusServiceUnavailable, "approvals can't be read or decided now; the log of the service says why")
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("content-type", "application/json")
	// The caller having gone is nobody's fault.
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("content-type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: strings.TrimSpace(detail)})
}
