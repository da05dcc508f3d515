package pages

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/console/login"
)

// Desk is the approval service.
type Desk interface {
	Mine(ctx context.Context, f approvals.Filter, by call.Identity) ([]approvals.Hold, error)
	Get(ctx context.Context, id string) (approvals.Hold, error)
	Show(ctx context.Context, id string) (approvals.View, error)
	Rights(ctx context.Context, h *approvals.Hold, by call.Identity) (approvals.Rights, error)
	Seen(ctx context.Context, id string, by call.Identity) error
}

// Links checks the links of messages.
type Links interface {
	Check(approval string, query url.Values, now time.Time) error
}

// Config is what a [Server] needs.
type Config struct {
	// URL is where people reach the pages.
	URL   string
	Desk  Desk
	Login login.Config // its Problem is set here
	Links Links
	// Decide decides in somebody's name, and gives the grant that comes with it.
	Decide func(ctx context.Context, id string, by call.Identity, a approvals.Answer) error
	// Review takes what somebody found of a call that broke glass; nil: there are
	// no reviews.
	Review func(ctx context.Context, id string, by call.Identity, justified bool, comment string) error
	// Grants reports whether somebody may give a grant with an approval of h,
	// and for how long at most.
	Grants func(h *approvals.Hold, by call.Identity) time.Duration
	Log    *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Server serves the pages.
type Server struct {
	cfg   Config
	login *login.Login
	cross *http.CrossOriginProtection
}

//go:embed templates assets
var files embed.FS

// pages are the templates, each with the layout around it.
var pages = func() map[string]*template.Template {
	out := map[string]*template.Template{}
	for _, name := range []string{"list", "reviews", "approval", "confirm", "problem"} {
		t := template.New("").Funcs(functions)
		more := []string{"templates/layout.html", "templates/" + name + ".html"}
		switch name {
		case "reviews":
			more = append(more[:1], "templates/list.html", more[1])
		case "confirm":
			more = append(more[:1], "templates/approval.html", more[1])
		}
		out[name] = template.Must(t.ParseFS(files, more...))
	}
	return out
}()

// New returns a Server.
func New(cfg Config) (*Server, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Server{cfg: cfg, cross: http.NewCrossOriginProtection()}
	if err := s.cross.AddTrustedOrigin(cfg.URL); err != nil {
		return nil, fmt.Errorf("approvals.url: %w", err)
	}
	s.cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.problem(w, r, http.StatusForbidden, "Nothing was decided", "The form was sent from another site. Open the page here and decide there.")
	}))
	s.cfg.Login.Problem = s.problem
	var err error
	s.login, err = login.New(s.cfg.Login)
	return s, err
}

// maxForm bounds a form, in bytes.
const maxForm = 32 << 10

// Routes adds the pages.
func (s *Server) Routes(mux *http.ServeMux) {
	own := http.NewServeMux()
	s.login.Routes(own)
	page := func(pattern string, h func(http.ResponseWriter, *http.Request, login.Session)) {
		own.HandleFunc(pattern, s.login.Require(h))
	}
	page("GET /{$}", func(w http.ResponseWriter, r *http.Request, _ login.Session) {
		http.Redirect(w, r, "/approvals", http.StatusSeeOther)
	})
	own.HandleFunc("GET /a/{id}", s.link)
	page("GET /approvals", s.list)
	page("GET /approvals/{id}", s.approval)
	page("POST /approvals/{id}/confirm", s.confirm)
	page("POST /approvals/{id}/decide", s.decide)
	if s.cfg.Review != nil {
		page("GET /reviews", s.reviews)
		page("POST /approvals/{id}/review", s.review)
	}
	own.Handle("GET /assets/", http.FileServerFS(files))
	own.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.problem(w, r, http.StatusNotFound, "There is nothing here", "The address may be mistyped.")
	})
	guarded := s.headers(s.cross.Handler(http.MaxBytesHandler(own, maxForm)))
	for _, pattern := range []string{"/{$}", "/a/", "/approvals", "/approvals/", "/reviews", "/assets/", "/login/", "/logout"} {
		mux.Handle(pattern, guarded)
	}
}

// headers says what a browser may do with the pages: no script, nothing from
// elsewhere, in no frame.
func (s *Server) headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("content-security-policy", "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
		h.Set("x-frame-options", "DENY")
		h.Set("x-content-type-options", "nosniff")
		h.Set("referrer-policy", "same-origin")
		h.Set("cross-origin-opener-policy", "same-origin")
		h.Set("cross-origin-resource-policy", "same-origin")
		h.Set("permissions-policy", "camera=(), geolocation=(), microphone=()")
		if strings.HasPrefix(s.cfg.URL, "https://") {
			h.Set("strict-transport-security", "max-age=31536000")
		}
		if strings.HasPrefix(r.URL.Path, "/assets/") {
			h.Set("cache-control", "max-age=3600")
		} else {
			h.Set("cache-control", "no-store")
		}
		next.ServeHTTP(w, r)
	})
}

// frame is what every page shows around its content.
type frame struct {
	Title       string
	Nav         string
	Who         *call.Identity
	LogoutToken string
	Reviews     bool
	Now         time.Time
}

func (s *Server) frame(ses login.Session, nav, title string) frame {
	who := ses.Identity
	return frame{Title: title, Nav: nav, Who: &who, LogoutToken: ses.Token(login.Logout), Reviews: s.cfg.Review != nil, Now: s.cfg.Now()}
}

// render writes a page whole, or none of it.
func (s *Server) render(w http.ResponseWriter, r *http.Request, status int, name string, data any) {
	var b bytes.Buffer
	if err := pages[name].ExecuteTemplate(&b, "layout", data); err != nil {
		s.cfg.Log.ErrorContext(r.Context(), "a page could not be written", "page", name, "error", err)
		http.Error(w, "the page could not be written; the log of the service says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("content-type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the reader having gone is nobody's fault
}

// problem is the page that says what is wrong and what to do.
func (s *Server) problem(w http.ResponseWriter, r *http.Request, status int, title, detail string) {
	f := frame{Title: title, Now: s.cfg.Now()}
	if ses, ok := s.login.Session(r); ok && status != http.StatusOK {
		f = s.frame(ses, "", title)
	}
	s.render(w, r, status, "problem", struct {
		frame
		Detail string
	}{f, detail})
}
