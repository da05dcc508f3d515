package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"reflect"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/approvals/link"
	"github.com/callgate/callgate/approvals/notify"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/console"
)

// openNotifier reads who is told what happens to held calls. Secrets are read once
// here, so that a start tells which is missing, and again whenever they are used.
func (p *people) openNotifier(cfg *config.Config, reg prometheus.Registerer, log *slog.Logger) error {
	if cfg.Approvals.URL == "" {
		return nil
	}
	var err error
	if p.key, err = consoleKey(cfg); err != nil {
		return err
	}
	if p.links, err = link.New(cfg.Approvals.URL, p.key); err != nil {
		return err
	}
	if len(cfg.Approvals.Notify) == 0 {
		return nil
	}
	out := notify.Config{Outbox: p.store, Link: p.links.To, Log: log, Metrics: notify.NewMetrics(reg)}
	for i := range cfg.Approvals.Notify {
		n := &cfg.Approvals.Notify[i]
		t := notify.Target{Name: n.Name, Connections: n.Connections, Rules: n.Rules, Request: n.Request, People: n.Webhook.URL == ""}
		for _, s := range n.Steps {
			t.Steps = append(t.Steps, approvals.StepName(s))
		}
		if t.Sender, err = sender(n); err != nil {
			return fmt.Errorf("approvals.notify %s: %w", n.Name, err)
		}
		out.Targets = append(out.Targets, t)
	}
	p.notifier = notify.New(out)
	return nil
}

func sender(n *config.Notify) (notify.Sender, error) {
	client, err := notify.Client(n.Webhook.CAFile)
	if err != nil {
		return nil, err
	}
	switch {
	case n.Webhook.URL != "":
		h := &notify.Webhook{URL: n.Webhook.URL, Client: client}
		for _, s := range n.Webhook.Secrets {
			text, err := s.Read()
			if err == nil {
				_, err = notify.WebhookKey(text)
			}
			if err != nil {
				return nil, fmt.Errorf("webhook.secrets: %w", err)
			}
			h.Secrets = append(h.Secrets, s.Read)
		}
		return h, nil
	case n.Slack.URL != (config.Secret{}):
		if _, err := n.Slack.URL.Read(); err != nil {
			return nil, fmt.Errorf("slack.url: %w", err)
		}
		return &notify.Slack{URL: n.Slack.URL.Read, Client: client, Buttons: len(n.Slack.People) > 0}, nil
	case n.Teams.URL != (config.Secret{}):
		if _, err := n.Teams.URL.Read(); err != nil {
			return nil, fmt.Errorf("teams.url: %w", err)
		}
		return &notify.Teams{URL: n.Teams.URL.Read, Client: client}, nil
	}
	host, port, err := net.SplitHostPort(n.SMTP.Server)
	if err != nil {
		return nil, fmt.Errorf("smtp.server: %w", err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("smtp.server: %w", err)
	}
	if _, err := n.SMTP.Password.Read(); err != nil {
		return nil, fmt.Errorf("smtp.password: %w", err)
	}
	m := &notify.Mail{Host: host, Port: number, TLS: n.SMTP.TLS, Username: n.SMTP.Username, Password: n.SMTP.Password.Read, From: n.SMTP.From, To: n.SMTP.To}
	if n.SMTP.CAFile != "" {
		pem, err := os.ReadFile(n.SMTP.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read smtp.ca_file: %w", err)
		}
		m.Config = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
		if !m.Config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("smtp.ca_file %s holds no PEM certificate", n.SMTP.CAFile)
		}
	}
	return m, nil
}

// slackDecisions takes decisions that people make in Slack; nil: nobody may.
func (a *App) slackDecisions(api *console.Server) (*notify.Decisions, error) {
	d := &notify.Decisions{Show: a.people.approvals.Show, Log: a.log, Base: a.opts.Slack,
		Decide: func(ctx context.Context, id string, by call.Identity, approve bool, comment string) error {
			if err := a.people.verifier.Admit(by); err != nil {
				return fmt.Errorf("%w: %w", approvals.ErrNotApprover, err)
			}
			_, _, err := api.Decide(ctx, id, by, approvals.Answer{Approve: approve, Comment: comment})
			return err
		}}
	apps := map[string]*notify.SlackApp{} // by signing secret
	for i := range a.cfg.Approvals.Notify {
		n := &a.cfg.Approvals.Notify[i]
		if len(n.Slack.People) == 0 {
			continue
		}
		secret, err := n.Slack.SigningSecret.Read()
		if err != nil {
			return nil, fmt.Errorf("approvals.notify %s: slack.signing_secret: %w", n.Name, err)
		}
		app := &notify.SlackApp{Target: n.Name, Secret: n.Slack.SigningSecret.Read, People: map[string]call.Identity{}}
		if other, ok := apps[secret]; ok {
			app = other // of which of its channels a button is can't be told
		} else {
			apps[secret], d.Apps = app, append(d.Apps, app)
		}
		for _, p := range n.Slack.People {
			issuer, subject, _ := strings.Cut(p.Identity, "|")
			user, who := p.Team+"/"+p.User, call.Identity{Issuer: issuer, Subject: subject, Kind: call.Human, Groups: p.Groups, Method: "slack"}
			if before, known := app.People[user]; known && !reflect.DeepEqual(before, who) {
				return nil, fmt.Errorf("approvals.notify %s: slack.people: %s is somebody else under %s, which has the same signing_secret; write the same identity and groups at both", n.Name, user, app.Target)
			}
			app.People[user] = who
		}
	}
	if len(d.Apps) == 0 {
		return nil, nil
	}
	var err error
	d.Client, err = notify.Client("")
	return d, err
}
