package app

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/callgate/callgate/approvals/notify"
	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/console"
	"github.com/callgate/callgate/extauthz/identity"
	"github.com/callgate/callgate/xds"
)

func (a *App) serveConsole(ctx context.Context, l net.Listener) error {
	cfg := console.Config{Approvals: a.people.approvals, Outbox: a.people.store, Identifier: a.people.verifier, Callers: a.people.verifier, URL: consoleURL(a.cfg), Admit: a.people.verifier.Admit, Status: a.status, Audit: a.audit,
		Eraser: a.eraser(), Administrators: call.Approvers(a.cfg.Audit.Administrators),
		Unsealer: a.unsealer(), Investigators: call.Approvers(a.cfg.Audit.Unseal.Investigators),
		Controllers: call.Approvers(a.cfg.Control.Administrators), Tokens: a.people.tokenHandler(), Log: a.log}
	if audiences := a.cfg.Console.Audiences; len(audiences) > 0 {
		cfg.Identifier = persons{a.people.verifier, audiences}
	}
	if a.plane != nil {
		cfg.Control = a.plane
	}
	mux := http.NewServeMux()
	api := console.New(cfg)
	mux.Handle("/", api.Handler())
	giving, stop := context.WithCancel(ctx)
	var grants sync.WaitGroup
	grants.Go(func() { api.GiveGrants(giving) })
	defer grants.Wait()
	defer stop()
	if err := a.addPages(mux, api); err != nil {
		return err
	}
	slack, err := a.slackDecisions(api)
	if err != nil {
		return err
	}
	if slack != nil {
		mux.Handle("POST "+notify.SlackPath, slack)
		defer slack.Wait()
	}
	if a.cfg.Console.TLS.CertFile != "" {
		conf, err := consoleTLS(a.cfg)
		if err != nil {
			return err
		}
		l = tls.NewListener(l, conf)
	}
	return serveHTTP(ctx, l, mux)
}

// consoleTLS is how the console speaks TLS. Callers that are known by client
// certificates may show theirs, to ask how far their approvals are; whose it is,
// is looked at where it counts.
func consoleTLS(cfg *config.Config) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(cfg.Console.TLS.CertFile, cfg.Console.TLS.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("read console.tls: %w", err)
	}
	out := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	callers, err := certificates(cfg.Identity.MTLS)
	if err != nil {
		return nil, err
	}
	if callers != nil {
		// Browsers offer only what these have signed.
		out.ClientAuth, out.ClientCAs = tls.RequestClientCert, callers.Roots
	}
	return out, nil
}

// persons identifies those who use the console by tokens that are for it.
type persons struct {
	*identity.Verifier
	audiences []string
}

// Identify implements [console.Identifier].
func (p persons) Identify(ctx context.Context, h call.Headers) (call.Identity, error) {
	return p.Person(ctx, h, p.audiences)
}

// status is what the process says of itself.
func (a *App) status() console.Status {
	s := console.Status{Version: a.opts.Version, Envoys: []console.Envoy{}}
	if a.plane != nil {
		now := console.RolloutOf(a.plane.Now())
		s.PolicyVersion, s.Rollout = now.Version, &now
	} else {
		s.PolicyVersion = a.decider.stable()
	}
	for _, n := range a.xds.Status() {
		one := console.Envoy{Node: n.ID, Version: n.Version, Pending: n.Pending, Refused: n.Refused, Since: n.Since}
		if n.Kind == xds.KindServer {
			s.Servers = append(s.Servers, one)
		} else {
			s.Envoys = append(s.Envoys, one)
		}
	}
	return s
}

// audit is how the trail stands.
func (a *App) audit() console.Audit {
	sp := a.trail.spool.Status()
	out := console.Audit{Node: a.cfg.Node, Spool: AuditSpool(a.trail.spool.Dir(), sp)}
	out.Spool.Waiting = a.trail.backlog.Waiting()
	if cp := a.trail.signer.Status(); cp.Size > 0 {
		out.Checkpoint = &console.Checkpoint{Size: cp.Size, Time: cp.Time, Error: cp.Err}
	} else if cp.Err != "" {
		out.Checkpoint = &console.Checkpoint{Error: cp.Err}
	}
	if a.trail.shipper == nil {
		return out
	}
	st := a.trail.shipper.Status()
	ship := &console.Shipping{ClickHouse: console.Reachable, Backlog: st.Durable - min(st.Durable, max(st.Shipped, sp.First)), Unsettled: st.Unsettled,
		Quarantined: st.Quarantined, Quarantine: clickhouse.QuarantineDir(a.trail.spool.Dir())}
	switch {
	case st.Stopped != "":
		ship.ClickHouse, ship.Why = console.Stopped, st.Stopped
	case st.Away:
		ship.ClickHouse, ship.Why = console.Away, st.AwayWhy
	}
	if !st.Oldest.IsZero() && ship.Backlog > 0 {
		ship.Lag = max(0, time.Since(st.Oldest).Seconds())
	}
	out.Shipping = ship
	return out
}

// AuditSpool is what the admin API tells of a spool.
func AuditSpool(dir string, st audit.Status) console.Spool {
	out := console.Spool{ID: st.ID, Dir: dir, Records: st.Durable - st.First, Bytes: st.Bytes, MaxBytes: st.MaxBytes, Level: st.Level}
	if st.MaxBytes > 0 {
		out.Percent = 100 * float64(st.Bytes) / float64(st.MaxBytes)
	}
	if st.Err != nil {
		out.Error = st.Err.Error()
	}
	return out
}
