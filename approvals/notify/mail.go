package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"embed"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"strings"
	texttemplate "text/template"
	"time"

	"github.com/wneessen/go-mail"
)

// Mail sends messages by SMTP.
type Mail struct {
	Host string
	Port int
	// TLS is starttls (required, never skipped), tls (from the first byte), or
	// none, which only a relay on this machine is worth.
	TLS      string
	Config   *tls.Config // nil: the system's roots
	Username string
	Password func() (string, error)
	From     string
	To       []string
}

//go:embed templates/mail.txt templates/mail.html
var mailFiles embed.FS

var (
	mailText = texttemplate.Must(texttemplate.ParseFS(mailFiles, "templates/mail.txt"))
	mailHTML = htmltemplate.Must(htmltemplate.ParseFS(mailFiles, "templates/mail.html"))
)

// Send tells one message.
func (s *Mail) Send(ctx context.Context, m Message) error {
	msg, err := s.message(m)
	if err != nil {
		return err
	}
	policy := mail.TLSMandatory
	options := []mail.Option{mail.WithPort(s.Port), mail.WithTimeout(sendTimeout)}
	switch s.TLS {
	case "tls":
		options = append(options, mail.WithSSL())
	case "none":
		policy = mail.NoTLS
	}
	options = append(options, mail.WithTLSPolicy(policy))
	config := &tls.Config{ServerName: s.Host, MinVersion: tls.VersionTLS12}
	if s.Config != nil {
		config = s.Config.Clone()
		config.ServerName = s.Host
	}
	options = append(options, mail.WithTLSConfig(config))
	if s.Username != "" {
		password, err := s.Password()
		if err != nil {
			return fmt.Errorf("read the mail server's password: %w", err)
		}
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(s.Username), mail.WithPassword(password))
	}
	client, err := mail.NewClient(s.Host, options...)
	if err != nil {
		return fmt.Errorf("set the mail client up: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	if err := client.DialAndSendWithContext(ctx, msg); err != nil {
		return fmt.Errorf("send the mail: %w", err)
	}
	return nil
}

func (s *Mail) message(m Message) (*mail.Msg, error) {
	msg := mail.NewMsg()
	if err := msg.From(s.From); err != nil {
		return nil, errors.New("the sender's address can't be read")
	}
	if err := msg.To(s.To...); err != nil {
		return nil, errors.New("a receiver's address can't be read")
	}
	// Heading is one line without control characters; the library encodes what
	// is not ASCII (RFC 2047).
	msg.Subject(m.Heading())
	msg.SetDateWithValue(time.Now())
	msg.SetMessageIDWithValue(m.ID + "@" + domain(s.From))
	// All messages about one call stand together.
	msg.SetGenHeader(mail.HeaderReferences, "<"+m.Approval+"@"+domain(s.From)+">")
	msg.SetGenHeader(mail.Header("Auto-Submitted"), "auto-generated") // RFC 3834
	data := struct {
		Message
		Heading string
		Facts   []fact
		Asks    bool
	}{m, m.Heading(), m.facts(), m.asks()}
	var text, html bytes.Buffer
	if err := mailText.Execute(&text, data); err != nil {
		return nil, fmt.Errorf("write the mail: %w", err)
	}
	if err := mailHTML.Execute(&html, data); err != nil {
		return nil, fmt.Errorf("write the mail: %w", err)
	}
	msg.SetBodyString(mail.TypeTextPlain, text.String())
	msg.AddAlternativeString(mail.TypeTextHTML, html.String())
	return msg, nil
}

func domain(address string) string {
	_, d, ok := strings.Cut(strings.TrimRight(address, "> "), "@")
	if !ok || strings.ContainsAny(d, " <>\r\n") {
		return "callgate.invalid"
	}
	return d
}

// Name and Value are for the templates.
func (f fact) Name() string  { return f.name }
func (f fact) Value() string { return f.value }
