package issuer

import (
	"context"
	"crypto/rand"
	"html/template"
	"log/slog"
	"net/http"
	"time"
)

const (
	loginPath   = "/login"
	loginCookie = "login"
)

var loginPage = template.Must(template.New("login").Parse(`<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Log in</title></head>
<body>
<h1>Log in</h1>
{{with .Problem}}<p role="alert">{{.}}</p>{{end}}
<form method="post" action="` + loginPath + `">
<input type="hidden" name="id" value="{{.ID}}">
<p><label>User name <input name="username" autocomplete="username" required autofocus></label></p>
<p><label>Password <input name="password" type="password" autocomplete="current-password" required></label></p>
<p><button>Log in</button></p>
</form>
</body>
</html>
`))

// login is the page between the authorization endpoint and its callback.
type login struct {
	storage  *storage
	callback func(ctx context.Context, id string) string
	log      *slog.Logger
}

func (l login) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	// No form-action: browsers apply it to the redirects after the form, and
	// those end at the application, wherever on this machine it listens.
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	switch r.Method {
	case http.MethodGet:
		l.show(w, r)
	case http.MethodPost:
		l.submit(w, r)
	default:
		h.Set("Allow", "GET, POST")
		http.Error(w, "only GET and POST are served here", http.StatusMethodNotAllowed)
	}
}

func (l login) show(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("id")
	cookie, err := l.storage.bind(id, cookieOf(r))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: loginCookie, Value: cookie, Path: loginPath, MaxAge: int(loginTime.Seconds()),
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: r.TLS != nil,
	})
	l.render(w, http.StatusOK, id, "")
}

func (l login) submit(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, "the form can't be read", http.StatusBadRequest)
		return
	}
	id, name := r.PostForm.Get("id"), r.PostForm.Get("username")
	ok, err := l.storage.finish(id, cookieOf(r), name, r.PostForm.Get("password"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	l.log.InfoContext(r.Context(), "login", "accepted", ok)
	if !ok {
		l.render(w, http.StatusUnauthorized, id, "User name or password is wrong.")
		return
	}
	http.Redirect(w, r, l.callback(r.Context(), id), http.StatusSeeOther)
}

func (l login) render(w http.ResponseWriter, status int, id, problem string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if err := loginPage.Execute(w, struct{ ID, Problem string }{id, problem}); err != nil {
		l.log.Warn("login page was not sent", "error", err)
	}
}

func cookieOf(r *http.Request) string {
	c, err := r.Cookie(loginCookie)
	if err != nil {
		return ""
	}
	return c.Value
}

// bind ties an open login to the browser that shows it first and returns that
// browser's cookie. Nobody else can go on with it, so that a link sent by a
// stranger can't finish the stranger's login.
func (s *storage) bind(id, cookie string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.login(id)
	if err != nil {
		return "", err
	}
	if a.browser == "" {
		a.browser = rand.Text()
		return a.browser, nil
	}
	if !sameSecret(a.browser, cookie) {
		return "", errUnknownLogin
	}
	return a.browser, nil
}

// finish checks the password; false means it was wrong.
func (s *storage) finish(id, cookie, name, password string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.login(id)
	if err != nil {
		return false, err
	}
	if a.browser == "" || !sameSecret(a.browser, cookie) {
		return false, errUnknownLogin
	}
	user, ok := s.person(name, password)
	if !ok {
		if a.attempts++; a.attempts >= maxAttempts {
			delete(s.logins, id)
		}
		return false, nil
	}
	a.subject, a.authTime, a.done = user.Name, time.Now(), true
	return true, nil
}
