package app

import (
	"context"
	"fmt"
	"net/http"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/console"
	"github.com/callgate/callgate/console/login"
	"github.com/callgate/callgate/console/pages"
	"github.com/callgate/callgate/extauthz/identity"
)

// addPages adds what people see in a browser, where they can log in.
func (a *App) addPages(mux *http.ServeMux, api *console.Server) error {
	l := a.cfg.Console.Login
	if !l.Configured() {
		return nil
	}
	if l.ClientSecret != (config.Secret{}) {
		if _, err := l.ClientSecret.Read(); err != nil {
			return fmt.Errorf("console.login.client_secret: %w", err)
		}
	}
	client := http.DefaultClient
	for _, is := range a.cfg.Identity.Issuers {
		if is.URL == l.Issuer {
			var err error
			if client, err = plainClient(is.CAFile); err != nil {
				return fmt.Errorf("console.login: %w", err)
			}
		}
	}
	p, err := pages.New(pages.Config{URL: a.cfg.Approvals.URL, Desk: a.people.approvals, Links: a.people.links, Log: a.log,
		Decide: func(ctx context.Context, id string, by call.Identity, answer approvals.Answer) error {
			_, _, err := api.Decide(ctx, id, by, answer)
			return err
		},
		Review: func(ctx context.Context, id string, by call.Identity, justified bool, comment string) error {
			_, err := a.people.approvals.Review(ctx, id, by, justified, comment)
			return err
		},
		Grants: api.MaxGrant,
		Login: login.Config{URL: a.cfg.Approvals.URL, Issuer: l.Issuer, ClientID: l.ClientID, Secret: l.ClientSecret.Read, Scopes: l.Scopes, Client: client,
			Verify: func(ctx context.Context, idToken, nonce string) (call.Identity, error) {
				return a.people.verifier.Login(ctx, idToken, identity.Login{Issuer: l.Issuer, Client: l.ClientID, Nonce: nonce})
			},
			Admit: a.people.verifier.Admit, Key: a.people.key, Lifetime: l.Session, Log: a.log}})
	if err != nil {
		return fmt.Errorf("make the pages: %w", err)
	}
	p.Routes(mux)
	return nil
}
