package identity

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"github.com/callgate/callgate/call"
)

// Introspection asks an issuer about opaque tokens (RFC 7662).
type Introspection struct {
	Issuer Issuer // whose claims mapping and audiences hold
	URL    string
	Client *http.Client
	ID     string                 // client id, by which this gateway is known there
	Secret func() (string, error) // its secret
	// Keep is how long an answer is taken at its word, never beyond the
	// token's own end.
	Keep time.Duration
}

const (
	answersMost = 65_536
	// refusedKeep is how long a token that is not active is not asked about
	// again: made-up tokens must not become requests to the issuer.
	refusedKeep = 10 * time.Second
	// askRate and askBurst bound the requests to the issuer, in a second.
	askRate, askBurst = 200, 400
)

// introspector asks one issuer, with a bounded memory of its answers.
type introspector struct {
	cfg     Introspection
	is      *issuer
	answers *lru.Cache[[32]byte, told]
	flight  singleflight.Group
	limit   *rate.Limiter
}

// told is an answer.
type told struct {
	identity call.Identity
	refused  *Error
	until    time.Time
}

func newIntrospector(cfg Introspection) *introspector {
	answers, err := lru.New[[32]byte, told](answersMost)
	if err != nil {
		panic("identity: a cache of a fixed size can always be made: " + err.Error())
	}
	return &introspector{cfg: cfg, is: &issuer{Issuer: cfg.Issuer}, answers: answers, limit: rate.NewLimiter(askRate, askBurst)}
}

// token returns whom an opaque token speaks for.
func (i *introspector) token(ctx context.Context, v *Verifier, token string) (call.Identity, error) {
	if len(token) > maxToken {
		return call.Identity{}, refuse(call.ReasonInvalidToken, "the token is longer than %d bytes", maxToken)
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return call.Identity{}, refuse(call.ReasonInvalidToken, "the token has characters that no token has (RFC 6750)")
	}
	key := sha256.Sum256([]byte(token))
	if a, ok := i.answers.Get(key); ok && v.cfg.Now().Before(a.until) {
		v.cfg.Metrics.cached.Inc()
		if a.refused != nil {
			return call.Identity{}, a.refused
		}
		return v.admit(a.identity)
	}
	if !i.limit.Allow() {
		return call.Identity{}, refuse(call.ReasonIdentityUnavailable, "too many tokens that are not known yet; try again later")
	}
	v.cfg.Metrics.verified.Inc()
	// The answer is everybody's who shows the token: one caller's hanging up
	// must not stop it, and an issuer that hangs keeps nobody beyond their own
	// time.
	done := i.flight.DoChan(string(key[:]), func() (any, error) {
		a, err := i.ask(context.WithoutCancel(ctx), v, token)
		if err == nil {
			i.answers.Add(key, a)
		}
		return a, err
	})
	var a told
	var err error
	select {
	case r := <-done:
		a, _ = r.Val.(told)
		err = r.Err
	case <-ctx.Done():
		return call.Identity{}, refuse(call.ReasonIdentityUnavailable, "the token can't be checked in time: its issuer has not answered yet; try again later")
	}
	if err != nil {
		v.cfg.Metrics.failed.Inc()
		v.cfg.Log.WarnContext(ctx, "asking an issuer about a token", "issuer", i.is.URL, "error", err)
		return call.Identity{}, refuse(call.ReasonIdentityUnavailable, "the token can't be checked now: its issuer does not answer; try again later")
	}
	if a.refused != nil {
		return call.Identity{}, a.refused
	}
	return v.admit(a.identity)
}

// ask sends one request. Its error is a failure to learn anything.
func (i *introspector) ask(ctx context.Context, v *Verifier, token string) (told, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, i.cfg.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return told{}, fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("content-type", "application/x-www-form-urlencoded")
	req.Header.Set("accept", "application/json")
	if i.cfg.ID != "" {
		secret, err := i.cfg.Secret()
		if err != nil {
			return told{}, fmt.Errorf("read the client's secret: %w", err)
		}
		// RFC 6749 §2.3.1: both are form-encoded first.
		req.SetBasicAuth(url.QueryEscape(i.cfg.ID), url.QueryEscape(secret))
	}
	resp, err := i.cfg.Client.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // which does not hold the request
		}
		return told{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return told{}, fmt.Errorf("it answered %s", resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil || len(data) > maxDocument {
		return told{}, errors.New("its answer can't be read")
	}
	return i.judge(v, data)
}

// judge reads an answer.
func (i *introspector) judge(v *Verifier, data []byte) (told, error) {
	now := v.cfg.Now()
	no := func(reason call.Reason, format string, args ...any) (told, error) {
		return told{refused: refuse(reason, format, args...), until: now.Add(refusedKeep)}, nil
	}
	claims, err := onlyOnce(data)
	if err != nil {
		return told{}, fmt.Errorf("its answer can't be read: %w", err)
	}
	active, ok := claims["active"].(bool)
	if !ok {
		return told{}, errors.New("its answer does not say whether the token is active")
	}
	if !active {
		return no(call.ReasonInvalidToken, "the token is not active; get a new one")
	}
	if from, said := claims["iss"].(string); said && from != i.is.URL || !said && claims["iss"] != nil {
		return no(call.ReasonInvalidToken, "the token is of another issuer")
	}
	if !meant(claims["aud"], i.is.Audiences) {
		return no(call.ReasonInvalidToken, "the token is not meant for this service: its audience must be one of %s", strings.Join(i.is.Audiences, ", "))
	}
	ends, said := seconds(claims["exp"])
	switch {
	case said && !now.Before(ends.Add(v.cfg.ClockSkew)):
		return no(call.ReasonExpiredToken, "the token has expired; get a new one")
	case !said && claims["exp"] != nil:
		return told{}, errors.New("its answer has an exp that is no time")
	}
	if begins, said := seconds(claims["nbf"]); said && now.Add(v.cfg.ClockSkew).Before(begins) {
		return no(call.ReasonInvalidToken, "the token is not valid yet; check the clocks")
	}
	claims["iss"] = i.is.URL
	if issued, said := seconds(claims["iat"]); said {
		claims["iat"] = issued.Unix()
	} else {
		delete(claims, "iat")
	}
	id, bad := i.is.read(claims)
	if bad != nil {
		return told{refused: bad, until: now.Add(refusedKeep)}, nil
	}
	id.Method, id.Expires = "introspection", ends
	id.TokenID, _ = claims["jti"].(string)
	until := now.Add(i.cfg.Keep)
	if said && ends.Before(until) {
		until = ends
	}
	return told{identity: id, until: until}, nil
}

// seconds reads a NumericDate (RFC 7519 §2).
func seconds(v any) (time.Time, bool) {
	switch n := v.(type) {
	case float64:
		return time.Unix(int64(n), 0), true
	case int64:
		return time.Unix(n, 0), true
	case json.Number:
		f, err := n.Float64()
		return time.Unix(int64(f), 0), err == nil
	}
	return time.Time{}, false
}

// meant reports whether one of the audiences is accepted.
func meant(aud any, accepted []string) bool {
	var have []string
	switch x := aud.(type) {
	case string:
		have = []string{x}
	case []any:
		for _, v := range x {
			if s, ok := v.(string); ok {
				have = append(have, s)
			}
		}
	}
	for _, h := range have {
		for _, want := range accepted {
			if h == want {
				return true
			}
		}
	}
	return false
}
