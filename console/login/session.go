package login

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/callgate/callgate/call"
)

// sessionCookie holds a session. The prefix makes browsers take it only from
// this host, for all of it, over TLS (or loopback).
const sessionCookie = "__Host-callgate-session"

// Session is somebody who is logged in.
type Session struct {
	Identity call.Identity
	key      []byte
	id       string
}

// kept is a session as its cookie has it.
type kept struct {
	ID       string        `json:"i"`
	Identity call.Identity `json:"w"`
	Issued   int64         `json:"t"` // when the ID token was, for revocations; Unix seconds
	Until    int64         `json:"u"` // Unix seconds
}

var (
	errNoSession = errors.New("not logged in")
	errRevoked   = errors.New("revoked")
)

// keep begins a session, with an id of its own whatever the browser had before.
func (l *Login) keep(w http.ResponseWriter, who call.Identity) error {
	issued, _ := who.Claims["iat"].(int64)
	who.Claims = nil
	value, err := l.sessions.Encode(sessionCookie, kept{ID: rand.Text(), Identity: who, Issued: issued, Until: time.Now().Add(l.cfg.Lifetime).Unix()})
	if err != nil {
		return fmt.Errorf("write the session: %w", err)
	}
	// Lax: links in mails and chats lead here from other sites.
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Value: value, Path: "/", MaxAge: int(l.cfg.Lifetime.Seconds()), Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	return nil
}

// Session is who asks, if logged in.
func (l *Login) Session(r *http.Request) (Session, bool) {
	s, err := l.session(r)
	return s, err == nil
}

func (l *Login) session(r *http.Request) (Session, error) {
	sent := r.CookiesNamed(sessionCookie)
	if len(sent) != 1 { // of two one would be a stranger's
		return Session{}, errNoSession
	}
	var k kept
	if l.sessions.Decode(sessionCookie, sent[0].Value, &k) != nil || k.ID == "" || k.Identity.Anonymous() || time.Now().Unix() >= k.Until {
		return Session{}, errNoSession
	}
	if k.Issued > 0 {
		k.Identity.Claims = map[string]any{"iat": k.Issued}
	}
	if l.cfg.Admit(k.Identity) != nil {
		return Session{}, errRevoked
	}
	return Session{Identity: k.Identity, key: l.tokens, id: k.ID}, nil
}

// Token is what a form of this session for this purpose carries: a foreign page
// can't know it, and it is good for nothing else.
func (s Session) Token(purpose string) string {
	h := hmac.New(sha256.New, s.key)
	h.Write([]byte(s.id + "\x00" + purpose))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// Holds tells whether a form carries the token of this session and purpose.
func (s Session) Holds(purpose, token string) bool {
	return hmac.Equal([]byte(s.Token(purpose)), []byte(token))
}

// Logout is the purpose of the form that ends a session.
const Logout = "logout"

func (l *Login) logout(w http.ResponseWriter, r *http.Request) {
	if s, err := l.session(r); err == nil && !s.Holds(Logout, r.PostFormValue("token")) {
		l.cfg.Problem(w, r, http.StatusForbidden, "You are still logged in", "The form was not one of this session. Open the page again and log out there.")
		return
	}
	l.forget(w)
	l.cfg.Problem(w, r, http.StatusOK, "You are logged out", "You may still be logged in at your login service.")
}

func (l *Login) forget(w http.ResponseWriter) { l.drop(w, sessionCookie) }

func (l *Login) drop(w http.ResponseWriter, name string) {
	http.SetCookie(w, &http.Cookie{Name: name, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}
