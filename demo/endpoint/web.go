package endpoint

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// maxBody bounds a request's body, in bytes.
const maxBody = 1 << 20

// web serves an endpoint's handler over HTTP/1.1 and HTTP/2, with TLS or
// without, behind its credential.
type web struct {
	*place
	Journal
	handler http.Handler
	tls     *tls.Config
	key     key
	// alone refuses requests that have an authorization header although the
	// credential travels in another one: it can only be a caller's token.
	alone bool
	log   *slog.Logger
}

// base is the endpoint's URL without a path.
func (w *web) base() string {
	if w.tls != nil {
		return "https://" + w.addr
	}
	return "http://" + w.addr
}

// Run serves until ctx ends, and cuts streams off then. It can be run again
// after that, on the same address.
func (w *web) Run(ctx context.Context) error {
	ln, err := w.open()
	if err != nil {
		return err
	}
	defer w.closed()
	open, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(w.tls == nil)
	srv := &http.Server{
		Handler: http.HandlerFunc(w.admit), Protocols: &protocols,
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		BaseContext: func(net.Listener) context.Context { return open },
		ErrorLog:    slog.NewLogLogger(w.log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() {
		if w.tls == nil {
			served <- srv.Serve(ln)
			return
		}
		srv.TLSConfig = w.tls.Clone()
		served <- srv.ServeTLS(ln, "", "")
	}()
	select {
	case err := <-served:
		return fmt.Errorf("endpoint %s: %w", w.addr, err)
	case <-ctx.Done():
	}
	cut()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	if err := srv.Shutdown(stop); err != nil {
		if err := srv.Close(); err != nil {
			return fmt.Errorf("stop endpoint %s: %w", w.addr, err)
		}
	}
	<-served
	return nil
}

// admit notes a request and lets it in if it has the credential.
func (w *web) admit(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxBody))
	refusal := w.key.check(r.Header.Values(w.key.where))
	if refusal == nil && w.alone && len(r.Header.Values("authorization")) > 0 {
		refusal = errors.New("unexpected authorization header: no caller's token belongs here")
	}
	w.note(Request{
		Refused: refusal != nil, Method: r.Method, Target: r.RequestURI, Proto: r.Proto,
		Host: r.Host, Header: r.Header, Trailer: r.Trailer, Body: body,
	})
	if refusal != nil {
		w.log.InfoContext(r.Context(), "refused", "target", r.URL.Path, "reason", refusal)
		rw.Header().Set("WWW-Authenticate", "Bearer")
		problem(rw, http.StatusUnauthorized, refusal.Error())
		return
	}
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		problem(rw, http.StatusRequestEntityTooLarge, "the body is larger than 1 MiB")
		return
	} else if err != nil {
		return // the client is gone
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	w.handler.ServeHTTP(rw, r)
}

// answer sends a value as JSON.
func answer(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		problem(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(body)
}

func problem(w http.ResponseWriter, status int, text string) {
	answer(w, status, map[string]string{"error": text})
}
