package issuer

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"time"
)

// What the claim "kind" says of the one a token speaks for.
const (
	KindHuman = "human"
	KindCI    = "ci"
	KindAgent = "agent"
)

// The demo's cast, as [DemoUsers] and [DemoClients] describe it.
const (
	Alice        = "alice"
	Bob          = "bob"
	Carol        = "carol"
	Desktop      = "desktop"
	CIDeploy     = "ci-deploy"
	CIStale      = "ci-stale"
	SupportAgent = "support-agent"
)

// User is a person who can log in.
type User struct {
	Name     string // the subject of the person's tokens
	Password string
	Email    string
	Groups   []string
	// Agent is the client that may act for this person in a token exchange;
	// empty: none.
	Agent string
}

// Client is an application that may ask for tokens.
type Client struct {
	ID string
	// Secret authenticates the client at the token endpoint. Empty: a public
	// native application, which may only run the authorization code flow with
	// PKCE and refresh what it got from it.
	Secret string
	Kind   string // the claim "kind" of the client's own tokens
	Email  string
	Groups []string
	// Exchange lets the client act for people who named it as their agent.
	Exchange bool
	// Redirects make a client with a secret a web application, which people log
	// in with: where they are sent back to.
	Redirects []string
	// Lifetime of the client's access tokens, one hour when zero. A negative
	// one makes tokens that ran out that long ago and are otherwise in order.
	Lifetime time.Duration
}

func (c Client) public() bool { return c.Secret == "" }

// logsIn tells whether people log in with the client.
func (c Client) logsIn() bool { return c.public() || len(c.Redirects) > 0 }

// lifetime is how long from now the client's access tokens are good for.
func (c Client) lifetime() time.Duration {
	if c.Lifetime == 0 {
		return time.Hour
	}
	return c.Lifetime
}

// skew is how far back the issue time is set, so that a token that has run
// out was at least issued before it did.
func (c Client) skew() time.Duration {
	if c.Lifetime >= 0 {
		return 0
	}
	return -c.Lifetime + 5*time.Minute
}

// DemoUsers are alice, who works in support and lets the support agent act for
// her, and bob, who approves refunds, and carol of security, who let nobody.
func DemoUsers() []User {
	return []User{
		{Name: Alice, Password: "alice-demo-password", Email: "alice@example.com", Groups: []string{"support"}, Agent: SupportAgent},
		{Name: Bob, Password: "bob-demo-password", Email: "bob@example.com", Groups: []string{"refund-approvers", "finance"}},
		{Name: Carol, Password: "carol-demo-password", Email: "carol@example.com", Groups: []string{"security"}},
	}
}

// DemoClients are the application people log in with, a CI job, the same with
// tokens that ran out an hour ago, and an AI agent.
func DemoClients() []Client {
	return []Client{
		{ID: Desktop},
		{ID: CIDeploy, Secret: "ci-deploy-demo-secret", Kind: KindCI, Email: "ci-deploy@example.com", Groups: []string{"ci"}},
		{ID: CIStale, Secret: "ci-stale-demo-secret", Kind: KindCI, Email: "ci-deploy@example.com", Groups: []string{"ci"}, Lifetime: -time.Hour},
		{ID: SupportAgent, Secret: "support-agent-demo-secret", Kind: KindAgent, Email: "support-agent@example.com", Exchange: true},
	}
}

// registry is who may log in and who may ask; it doesn't change after New.
type registry struct {
	users   map[string]User
	clients map[string]Client
}

func newRegistry(users []User, clients []Client) (registry, error) {
	r := registry{users: map[string]User{}, clients: map[string]Client{}}
	for _, u := range users {
		if u.Name == "" || u.Password == "" {
			return registry{}, fmt.Errorf("user %q: a name and a password are required", u.Name)
		}
		if _, twice := r.users[u.Name]; twice {
			return registry{}, fmt.Errorf("user %q is given twice", u.Name)
		}
		r.users[u.Name] = u
	}
	for _, c := range clients {
		if c.ID == "" {
			return registry{}, fmt.Errorf("a client has no id")
		}
		if c.public() && c.Exchange {
			return registry{}, fmt.Errorf("client %q: an exchange needs a client with a secret", c.ID)
		}
		if _, twice := r.clients[c.ID]; twice {
			return registry{}, fmt.Errorf("client %q is given twice", c.ID)
		}
		// A token's subject is a user's name or a client's id: were they
		// alike, one could pass for the other.
		if _, user := r.users[c.ID]; user {
			return registry{}, fmt.Errorf("client %q has the name of a user", c.ID)
		}
		r.clients[c.ID] = c
	}
	return r, nil
}

// person finds the user with that password.
func (r registry) person(name, password string) (User, bool) {
	u, known := r.users[name]
	// Compared also for unknown names, so that time doesn't tell them apart.
	ok := sameSecret(u.Password, password)
	return u, known && ok
}

// authenticate finds the confidential client with that secret.
func (r registry) authenticate(id, secret string) (Client, bool) {
	c, known := r.clients[id]
	ok := sameSecret(c.Secret, secret)
	return c, known && !c.public() && ok
}

func sameSecret(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
