package config

import (
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Notify is one receiver that is told what happens to held calls. Exactly one
// of Webhook, Slack, Teams and SMTP is set.
type Notify struct {
	// Name stands in the history of a held call. Required
	Name    string  `yaml:"name"`
	Webhook Webhook `yaml:"webhook"`
	Slack   Slack   `yaml:"slack"`
	Teams   Teams   `yaml:"teams"`
	SMTP    SMTP    `yaml:"smtp"`
	// Connections and Rules narrow what is told; globs. Default: all.
	Connections []string `yaml:"connections"`
	Rules       []string `yaml:"rules"`
	// Steps narrows it to some of Steps(). Default: all for a webhook, and for
	// people those that ask them or tell how it ended.
	Steps []string `yaml:"steps"`
	// Request puts the arguments and the body into messages, values that look
	// like credentials hidden. Default: the page alone shows them.
	Request bool `yaml:"request"`
}

// Webhook is a receiver of signed JSON (Standard Webhooks).
type Webhook struct {
	URL string `yaml:"url"`
	// Secrets sign: one, or two while one is replaced. whsec_ and base64.
	Secrets []Secret `yaml:"secrets"`
	CAFile  string   `yaml:"ca_file"` // default: the system's roots
}

// Slack is an incoming webhook of a Slack app.
type Slack struct {
	URL Secret `yaml:"url"` // the webhook's; a secret, since who has it can post
	// SigningSecret is the app's. With it people decide by buttons.
	SigningSecret Secret `yaml:"signing_secret"`
	// People says who somebody in Slack is; nobody else decides there.
	People []SlackPerson `yaml:"people"`
}

// SlackPerson is somebody in Slack and who that is.
type SlackPerson struct {
	Team     string   `yaml:"team"`     // workspace id, T…
	User     string   `yaml:"user"`     // member id, U… or W…
	Identity string   `yaml:"identity"` // issuer|subject, as their tokens have it
	Groups   []string `yaml:"groups"`
}

// Teams is a workflow of Microsoft Teams that posts Adaptive Cards.
type Teams struct {
	URL Secret `yaml:"url"` // a secret, since who has it can post
}

// SMTP is a mail server and whom to write to.
type SMTP struct {
	Server   string   `yaml:"server"` // host:port
	TLS      string   `yaml:"tls"`    // starttls, tls, or none (loopback only). Default starttls
	CAFile   string   `yaml:"ca_file"`
	Username string   `yaml:"username"`
	Password Secret   `yaml:"password"`
	From     string   `yaml:"from"`
	To       []string `yaml:"to"`
}

// Steps are what receivers can be told of.
func Steps() []string {
	return []string{"asked", "approved", "refused", "stage_done", "used", "expired", "canceled", "broke_glass", "reviewed"}
}

// peopleSteps ask people, or tell how it ended.
var peopleSteps = []string{"asked", "stage_done", "approved", "refused", "expired", "broke_glass", "reviewed"}

// Console says how people reach the pages and log in there.
type Console struct {
	// TLS of listen.console; empty: plain text, for loopback or behind a proxy.
	TLS ConsoleTLS `yaml:"tls"`
	// Key keys links in messages and the cookies of the pages; 32 characters or
	// more. Replicas that share it take each other's. Default: made in state_dir.
	Key   Secret `yaml:"key"`
	Login Login  `yaml:"login"`
	// Audiences are those of tokens that are taken at the admin API, and of no
	// calls. Default: those that calls are made with.
	Audiences []string `yaml:"audiences"`
}

// ConsoleTLS names PEM files. Both or neither are set.
type ConsoleTLS struct {
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
}

// Login is how people log in to the pages. Empty: there are no pages.
type Login struct {
	// Issuer is the URL of one of identity.issuers.
	Issuer   string `yaml:"issuer"`
	ClientID string `yaml:"client_id"`
	// ClientSecret is empty for a public client.
	ClientSecret Secret `yaml:"client_secret"`
	// Scopes beside openid, such as profile or groups.
	Scopes []string `yaml:"scopes"`
	// Session is how long a login holds. Default 1h.
	Session time.Duration `yaml:"session"`
}

// Configured reports whether people can log in.
func (l Login) Configured() bool { return l.Issuer != "" || l.ClientID != "" }

func (c *Config) consoleDefaults() {
	set(&c.Console.Login.Session, time.Hour)
	c.Approvals.URL = strings.TrimSuffix(c.Approvals.URL, "/")
	for i := range c.Approvals.Notify {
		n := &c.Approvals.Notify[i]
		if n.SMTP.Server != "" {
			set(&n.SMTP.TLS, "starttls")
		}
		if len(n.Steps) == 0 && n.Webhook.URL == "" {
			n.Steps = peopleSteps
		}
	}
}

func (c *Config) consolePaths(from func(*string)) {
	for _, p := range []*string{&c.Console.TLS.CertFile, &c.Console.TLS.KeyFile, &c.Console.Key.File, &c.Console.Login.ClientSecret.File} {
		from(p)
	}
	for i := range c.Approvals.Notify {
		n := &c.Approvals.Notify[i]
		for _, p := range []*string{&n.Webhook.CAFile, &n.Slack.URL.File, &n.Slack.SigningSecret.File, &n.Teams.URL.File, &n.SMTP.CAFile, &n.SMTP.Password.File} {
			from(p)
		}
		for j := range n.Webhook.Secrets {
			from(&n.Webhook.Secrets[j].File)
		}
	}
}

func (c *Config) validateConsole(bad func(path, format string, args ...any)) {
	if c.Approvals.URL != "" {
		u, err := url.Parse(c.Approvals.URL)
		switch {
		case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
			bad("approvals.url", "%q is not where people reach this, such as https://callgate.example.com", c.Approvals.URL)
		case u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
			bad("approvals.url", "%q has more than scheme, host and port; the pages are at the root of a host of their own", c.Approvals.URL)
		case u.Scheme == "http" && !loopback(u.Hostname()):
			bad("approvals.url", "%q would send logins unprotected; use https (http is for loopback only)", c.Approvals.URL)
		}
	}
	if t := c.Console.TLS; (t.CertFile == "") != (t.KeyFile == "") {
		bad("console.tls", "set both cert_file and key_file, or neither")
	}
	ofCalls := slices.Clone(c.Identity.Exchange.Audiences)
	for _, is := range c.Identity.Issuers {
		ofCalls = append(ofCalls, is.Audiences...)
	}
	for _, audience := range c.Console.Audiences {
		switch {
		case audience == "":
			bad("console.audiences", "an audience is empty")
		case slices.Contains(ofCalls, audience):
			bad("console.audiences", "%q is of calls too (identity): whoever is handed a token for calls could decide with it; have the issuer give tokens for another", audience)
		}
	}
	oneSource(c.Console.Key, func(msg string) { bad("console.key", "%s", msg) })
	if l := c.Console.Login; l.Configured() {
		switch {
		case l.Issuer == "":
			bad("console.login", "issuer is missing; it is the url of one of identity.issuers")
		case !slices.ContainsFunc(c.Identity.Issuers, func(is Issuer) bool { return is.URL == l.Issuer }):
			bad("console.login.issuer", "%q is none of identity.issuers, which say how its tokens are read; add it there", l.Issuer)
		}
		if l.ClientID == "" {
			bad("console.login", "client_id is missing; it is what the issuer calls this application")
		}
		if c.Approvals.URL == "" {
			bad("console.login", "approvals.url is missing; the issuer sends people back there")
		}
		if l.Session < time.Minute || l.Session > 24*time.Hour {
			bad("console.login.session", "%s is outside 1m to 24h", l.Session)
		}
		oneSource(l.ClientSecret, func(msg string) { bad("console.login.client_secret", "%s", msg) })
	}
	seen := map[string]bool{}
	for i := range c.Approvals.Notify {
		at := fmt.Sprintf("approvals.notify[%d]", i)
		n := &c.Approvals.Notify[i]
		n.validate(func(path, format string, args ...any) { bad(at+path, format, args...) })
		if seen[n.Name] {
			bad(at+".name", "%q stands twice", n.Name)
		}
		seen[n.Name] = true
		if c.Approvals.URL == "" {
			bad(at, "approvals.url is missing; messages lead people there")
		}
	}
}

var (
	slackTeam = regexp.MustCompile(`^[TE][A-Z0-9]{2,}$`)
	slackUser = regexp.MustCompile(`^[UW][A-Z0-9]{2,}$`)
)

func (n *Notify) validate(bad func(path, format string, args ...any)) {
	if !nameForm.MatchString(n.Name) || n.Name == "audit-trail" || n.Name == "grants" {
		bad("", "name %q: want small letters, digits and dashes, and not audit-trail or grants", n.Name)
	}
	channels := 0
	for _, is := range []bool{n.Webhook.URL != "" || len(n.Webhook.Secrets) > 0, n.Slack.URL != (Secret{}) || len(n.Slack.People) > 0 || n.Slack.SigningSecret != (Secret{}),
		n.Teams.URL != (Secret{}), n.SMTP.Server != "" || len(n.SMTP.To) > 0} {
		if is {
			channels++
		}
	}
	if channels != 1 {
		bad("", "set one of webhook, slack, teams and smtp")
		return
	}
	for name, globs := range map[string][]string{".connections": n.Connections, ".rules": n.Rules} {
		for _, g := range globs {
			if _, err := path.Match(g, ""); err != nil {
				bad(name, "%q is not a glob", g)
			}
		}
	}
	for _, s := range n.Steps {
		if !slices.Contains(Steps(), s) {
			bad(".steps", "%q is not known; choose of %s%s", s, strings.Join(Steps(), ", "), suggest(s, Steps()))
		}
	}
	switch {
	case n.Webhook.URL != "" || len(n.Webhook.Secrets) > 0:
		n.Webhook.validate(func(path, format string, args ...any) { bad(".webhook"+path, format, args...) })
	case n.Teams.URL != (Secret{}):
		oneSource(n.Teams.URL, func(msg string) { bad(".teams.url", "%s", msg) })
	case n.SMTP.Server != "" || len(n.SMTP.To) > 0:
		n.SMTP.validate(func(path, format string, args ...any) { bad(".smtp"+path, format, args...) })
	default:
		n.Slack.validate(n.Request, func(path, format string, args ...any) { bad(".slack"+path, format, args...) })
	}
}

func (w *Webhook) validate(bad func(path, format string, args ...any)) {
	u, err := url.Parse(w.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		bad(".url", "%q is not an http(s) URL", w.URL)
	case u.User != nil:
		bad(".url", "holds a user or password; the signature says who sends")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		bad(".url", "%q would send what people are asked about unprotected; use https (http is for loopback only)", w.URL)
	}
	if len(w.Secrets) == 0 {
		bad("", "secrets is missing; make one with: echo whsec_$(openssl rand -base64 32)")
	}
	if len(w.Secrets) > 2 {
		bad(".secrets", "there are %d; one signs, and a second while it is replaced", len(w.Secrets))
	}
	for i, s := range w.Secrets {
		at := fmt.Sprintf(".secrets[%d]", i)
		if s == (Secret{}) {
			bad(at, "set env or file")
		}
		oneSource(s, func(msg string) { bad(at, "%s", msg) })
	}
}

func (s *Slack) validate(request bool, bad func(path, format string, args ...any)) {
	if s.URL == (Secret{}) {
		bad("", "url is missing; set env or file to where the incoming webhook's URL is")
	}
	oneSource(s.URL, func(msg string) { bad(".url", "%s", msg) })
	oneSource(s.SigningSecret, func(msg string) { bad(".signing_secret", "%s", msg) })
	if (s.SigningSecret == (Secret{})) != (len(s.People) == 0) {
		bad("", "to decide by buttons set both signing_secret and people; without them links lead to the page")
	}
	if len(s.People) > 0 && !request {
		bad("", "people may decide in Slack, and would not see about what; set request: true beside slack")
	}
	seen := map[string]bool{}
	for i, p := range s.People {
		at := fmt.Sprintf(".people[%d]", i)
		if !slackTeam.MatchString(p.Team) || !slackUser.MatchString(p.User) {
			bad(at, "team and user are Slack's own ids, such as T012AB3CD and U045EF6GH")
		}
		if issuer, subject, ok := strings.Cut(p.Identity, "|"); !ok || issuer == "" || subject == "" {
			bad(at+".identity", "%q is not issuer|subject, as that person's tokens name them", p.Identity)
		}
		if seen[p.Team+"/"+p.User] {
			bad(at, "%s of %s stands twice", p.User, p.Team)
		}
		seen[p.Team+"/"+p.User] = true
	}
}

func (s *SMTP) validate(bad func(path, format string, args ...any)) {
	host, port, err := net.SplitHostPort(s.Server)
	if n, portErr := strconv.Atoi(port); err != nil || host == "" || portErr != nil || n < 1 || n > 65535 {
		bad(".server", "%q is not host:port, such as smtp.example.com:587", s.Server)
	}
	switch {
	case !slices.Contains([]string{"starttls", "tls", "none"}, s.TLS):
		bad(".tls", "%q is not known; choose starttls, tls, none", s.TLS)
	case s.TLS == "none" && !loopback(host):
		bad(".tls", "none is for a relay on loopback only")
	}
	if (s.Username == "") != (s.Password == (Secret{})) {
		bad("", "set both username and password, or neither")
	}
	oneSource(s.Password, func(msg string) { bad(".password", "%s", msg) })
	if _, err := mail.ParseAddress(s.From); err != nil {
		bad(".from", "%q is not an e-mail address", s.From)
	}
	if len(s.To) == 0 {
		bad("", "to is missing; it is whom to write to")
	}
	for _, to := range s.To {
		if _, err := mail.ParseAddress(to); err != nil {
			bad(".to", "%q is not an e-mail address", to)
		}
	}
}
