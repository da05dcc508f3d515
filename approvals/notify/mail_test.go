package notify

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/demo/endpoint"
)

// post office is a real SMTP server that keeps what it gets.
type postOffice struct {
	addr  string
	roots *x509.CertPool
	got   chan letter
	tls   *tls.Config
}

type letter struct {
	from string
	to   []string
	data string
}

type clerk struct {
	office *postOffice
	conn   *smtp.Conn
	authed bool
	letter letter
}

func (c *clerk) Reset()        { c.letter = letter{} }
func (c *clerk) Logout() error { return nil }
func (c *clerk) AuthMechanisms() []string {
	if _, ok := c.conn.TLSConnectionState(); !ok {
		return nil
	}
	return []string{sasl.Plain}
}
func (c *clerk) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "gate" || password != "s3cr3t-smtp" {
			return errors.New("who are you")
		}
		c.authed = true
		return nil
	}), nil
}
func (c *clerk) Mail(from string, _ *smtp.MailOptions) error { c.letter.from = from; return nil }
func (c *clerk) Rcpt(to string, _ *smtp.RcptOptions) error {
	if c.office.tls != nil && !c.authed {
		return smtp.ErrAuthRequired
	}
	c.letter.to = append(c.letter.to, to)
	return nil
}
func (c *clerk) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	c.letter.data = string(b)
	if err == nil {
		c.office.got <- c.letter
	}
	return err
}

// newPostOffice serves with STARTTLS ("starttls"), TLS from the first byte ("tls"),
// or neither ("none").
func newPostOffice(t *testing.T, kind string) *postOffice {
	t.Helper()
	o := &postOffice{got: make(chan letter, 10), roots: x509.NewCertPool()}
	ca, err := endpoint.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	o.roots.AppendCertsFromPEM(ca.PEM())
	s := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &clerk{office: o, conn: c}, nil }))
	s.Domain, s.ReadTimeout, s.WriteTimeout = "post.example", 10*time.Second, 10*time.Second
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.addr = l.Addr().String()
	if kind != "none" {
		if o.tls, err = ca.ServerTLS(); err != nil {
			t.Fatal(err)
		}
		s.TLSConfig = o.tls
	}
	if kind == "tls" {
		l = tls.NewListener(l, o.tls)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return o
}

func (o *postOffice) mail(t *testing.T, kind string) *Mail {
	host, port, err := net.SplitHostPort(o.addr)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(port)
	m := &Mail{Host: host, Port: n, TLS: kind, Config: &tls.Config{RootCAs: o.roots, MinVersion: tls.VersionTLS12}, From: "Callgate <gate@example.com>", To: []string{"on-call@example.com", "lead@example.com"}}
	if kind != "none" {
		m.Username, m.Password = "gate", text("s3cr3t-smtp")
	}
	return m
}

// parts are the decoded texts of a letter, by type.
func parts(t *testing.T, l letter) (mail.Header, map[string]string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(l.data))
	if err != nil {
		t.Fatalf("%v in %q", err, l.data)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("content-type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("type %q, %v", m.Header.Get("content-type"), err)
	}
	out := map[string]string{}
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return m.Header, out
		}
		if err != nil {
			t.Fatal(err)
		}
		var body io.Reader = p
		if p.Header.Get("content-transfer-encoding") == "quoted-printable" {
			body = quotedprintable.NewReader(p)
		}
		b, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := mime.ParseMediaType(p.Header.Get("content-type"))
		out[kind] = string(b)
	}
}

var letterMessage = Message{ID: "apr_1_1", Step: approvals.StepAsked, Approval: "apr_1", CallID: "0198", State: approvals.Open, Connection: "crm", Function: "refunds.create",
	Rule: "large refunds", Text: "a refund over 100 needs finance's approval", Caller: "alice through support-agent", Asked: []string{"group finance"},
	Expires: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC), Link: "https://gate.example/a/apr_1?e=1&s=x",
	Request: &Request{Method: "POST", Path: "/crm/refunds", Arguments: "{\n  \"amount\": 500\n}"}}

func TestMail(t *testing.T) {
	for _, kind := range []string{"starttls", "tls", "none"} {
		t.Run(kind, func(t *testing.T) {
			o := newPostOffice(t, kind)
			if err := o.mail(t, kind).Send(t.Context(), letterMessage); err != nil {
				t.Fatal(err)
			}
			l := <-o.got
			header, body := parts(t, l)
			if l.from != "gate@example.com" || strings.Join(l.to, " ") != "on-call@example.com lead@example.com" {
				t.Errorf("from %s to %s", l.from, l.to)
			}
			subject, err := new(mime.WordDecoder).DecodeHeader(header.Get("subject"))
			if err != nil || subject != "Approval needed: refunds.create on crm by alice through support-agent" || header.Get("message-id") != "<apr_1_1@example.com>" ||
				header.Get("references") != "<apr_1@example.com>" || header.Get("auto-submitted") != "auto-generated" {
				t.Errorf("header %v", header)
			}
			for _, want := range []string{"a refund over 100 needs finance's approval", "Asked: group finance", "Until: 2026-11-26 12:00:00 UTC", `"amount": 500`, "\r\nhttps://gate.example/a/apr_1?e=1&s=x\r\n"} {
				if !strings.Contains(body["text/plain"], want) {
					t.Errorf("no %q in %s", want, body["text/plain"])
				}
			}
			if !strings.Contains(body["text/html"], `<a href="https://gate.example/a/apr_1?e=1&amp;s=x"`) {
				t.Errorf("html %s", body["text/html"])
			}
		})
	}
}

// A mail server that offers no TLS, or shows another's certificate, gets neither
// mail nor password.
func TestMailRefuses(t *testing.T) {
	plain, strange := newPostOffice(t, "none"), newPostOffice(t, "starttls")
	noRoots := strange.mail(t, "starttls")
	noRoots.Config = nil
	wrongPassword := strange.mail(t, "starttls")
	wrongPassword.Password = text("s3cr3t-wrong")
	unread := strange.mail(t, "starttls")
	unread.Password = func() (string, error) { return "", errors.New("environment variable X: secret is empty") }
	noLogin := plain.mail(t, "starttls")
	noLogin.Username = ""
	for name, m := range map[string]*Mail{"no STARTTLS, no login": noLogin, "no STARTTLS": plain.mail(t, "starttls"), "no TLS": plain.mail(t, "tls"), "a strange certificate": noRoots, "a wrong password": wrongPassword, "no password": unread} {
		if err := m.Send(t.Context(), letterMessage); err == nil || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(plain.got)+len(strange.got) > 0 {
		t.Error("a mail was sent")
	}
}

// What a caller wrote makes no header, no further mail and no markup. A further
// attempt is a line.
func TestMailInjection(t *testing.T) {
	for _, evil := range []string{
		"x\r\nBcc: evil@example.com", "x\nBcc: evil@example.com", "x\rBcc: evil@example.com", "x\r\n\r\nbody", "x\r\n.\r\nMAIL FROM:<evil@example.com>",
		"=?utf-8?q?x=0d=0aBcc:_evil@example.com?=", "x\u2028Bcc: evil@example.com", "x\x00y", strings.Repeat("long ", 400), "<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`,
		"javascript:alert(1)",
	} {
		o := newPostOffice(t, "none")
		m := letterMessage
		m.Function, m.Connection, m.Caller, m.Text, m.Rule, m.Comment, m.Asked = evil, evil, evil, evil, evil, evil, []string{evil}
		m.Request = &Request{Method: "POST", Path: evil, Arguments: evil, Body: evil}
		if err := o.mail(t, "none").Send(t.Context(), m); err != nil {
			t.Errorf("%q: %v", evil, err)
			continue
		}
		l := <-o.got
		header, body := parts(t, l)
		if len(header["Bcc"]) > 0 || len(l.to) != 2 || len(header) != 11 {
			t.Errorf("%q: header %v to %v", evil, header, l.to)
		}
		for _, raw := range strings.Split(l.data, "\r\n") {
			if strings.Contains(raw, "\n") || len(raw) > 998 {
				t.Errorf("%q: line %q", evil, raw)
			}
		}
		if html := body["text/html"]; strings.Contains(html, "<script") || strings.Contains(html, "<img") || bytes.Contains([]byte(html), []byte(`href="javascript`)) {
			t.Errorf("%q: html %s", evil, html)
		}
		if len(o.got) > 0 {
			t.Errorf("%q: a second mail", evil)
		}
	}
}
