package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

// sendTimeout bounds one attempt to tell one target.
const sendTimeout = 15 * time.Second

// maxPayload bounds what is sent, maxReply what is read of an answer, in bytes.
const (
	maxPayload = 64 << 10
	maxReply   = 4 << 10
)

// Client returns a client of an operator's receivers, which it trusts by caFile
// or else by the system's roots. It follows no redirect: what is sent goes to the
// configured host and nowhere else.
func Client(caFile string) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxResponseHeaderBytes = 32 << 10
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("read ca_file: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file %s holds no PEM certificate", caFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: transport, Timeout: sendTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}

// refusal is an answer that is not a success. It holds nothing of the URL.
type refusal struct {
	status int
	after  time.Duration // the receiver wants to be left alone for so long
}

func (r *refusal) Error() string {
	switch {
	case r.status >= 300 && r.status < 400:
		return fmt.Sprintf("the receiver answers %d and redirects, which is not followed; configure the URL that it leads to", r.status)
	case r.status == http.StatusGone:
		return "the receiver answers 410 Gone"
	}
	return fmt.Sprintf("the receiver answers %d %s", r.status, http.StatusText(r.status))
}

// post sends one payload. The error names no URL: that may be a secret itself.
func post(ctx context.Context, client *http.Client, to string, header http.Header, payload []byte) error {
	if len(payload) > maxPayload {
		return fmt.Errorf("the payload has %d bytes; at most %d are sent", len(payload), maxPayload)
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(payload))
	if err != nil {
		return errors.New("the receiver's URL can't be read")
	}
	req.Header = header
	req.Header.Set("content-type", "application/json")
	req.Header.Set("user-agent", "callgate")
	resp, err := client.Do(req)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return fmt.Errorf("the receiver can't be reached: %w", err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxReply)) // so that the connection can serve again
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	r := &refusal{status: resp.StatusCode}
	if s, err := strconv.Atoi(resp.Header.Get("retry-after")); err == nil && s > 0 {
		r.after = min(time.Duration(s)*time.Second, maxPause)
	}
	return r
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
