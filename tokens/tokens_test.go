package tokens

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extauthz/identity"
	"github.com/callgate/callgate/extauthz/identity/saml"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	here  = "https://gate.example.com"
	skew  = 30 * time.Second
	entra = "https://idp.example.com"
)

// rig is an issuer of tokens, and a decision server that believes it. Tokens of
// other issuers are known by name, and so are assertions.
type rig struct {
	*Issuer
	decides    *identity.Verifier
	now        time.Time
	tokens     map[string]call.Identity
	assertions map[string]saml.Assertion
	recorded   []call.ChangeEvent
	full       bool // nothing can be recorded
	mu         sync.Mutex
}

func (r *rig) Token(ctx context.Context, token string) (call.Identity, error) {
	if id, ok := r.tokens[token]; ok {
		return id, nil
	}
	return r.decides.Verify(ctx, token)
}

func (r *rig) Admit(id call.Identity) error { return r.decides.Admit(id) }

func (r *rig) Assertion(text string) (saml.Assertion, error) {
	a, ok := r.assertions[text]
	if !ok {
		return a, &identity.Error{Reason: call.ReasonInvalidToken, Message: "not signed \"by\" anybody\\"}
	}
	return a, nil
}

func who(subject string, claims map[string]any) call.Identity {
	id := call.Identity{Issuer: entra, Subject: subject, Kind: call.Human, Groups: []string{"support"}, Method: "oidc", TokenID: "t-" + subject,
		Expires: start.Add(time.Hour), Claims: map[string]any{"iss": entra, "sub": subject, "aud": []any{"callgate"}, "iat": start.Unix(), "team": "red"}}
	maps.Copy(id.Claims, claims)
	return id
}

func newRig(t testing.TB, change ...func(*Config)) *rig {
	t.Helper()
	r := &rig{now: start, tokens: map[string]call.Identity{"ann": who("ann", nil), "bob": who("bob", nil), "bot": who("bot", nil),
		"ann, whom bot may act for": who("ann", map[string]any{"may_act": map[string]any{"sub": "bot"}})}, assertions: map[string]saml.Assertion{}}
	cfg := Config{Issuer: here, Audiences: []string{"callgate", "prod", "test"}, Lifetime: 5 * time.Minute, Rotate: 24 * time.Hour, ClockSkew: skew,
		Store: filepath.Join(t.TempDir(), "tokens.db"), Verifier: r, Assertions: r, Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry()),
		Now: func() time.Time { return r.now }, Record: func(_ context.Context, e call.ChangeEvent) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.full {
				return errors.New("disk is full")
			}
			r.recorded = append(r.recorded, e)
			return nil
		}}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	if r.Issuer, err = New(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() }) // some tests have
	r.decides, err = identity.New(identity.Config{Issuers: []identity.Issuer{{Name: "callgate", URL: here, Audiences: []string{"callgate", "prod"}, Algorithms: []string{"ES256"}, Exchanged: true,
		Keys: func() jwk.Set { return r.Keys() }}}, ClockSkew: skew, Log: cfg.Log, Metrics: identity.NewMetrics(prometheus.NewRegistry()), Now: cfg.Now})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.decides.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// answered is what /token says.
type answered struct {
	status             int
	Token              string `json:"access_token"`
	Issued             string `json:"issued_token_type"`
	Type               string `json:"token_type"`
	Expires            int64  `json:"expires_in"`
	Scope              string `json:"scope"`
	Error, Description string
}

// ask posts a form: names and values in turn, over a plain exchange of ann's.
func (r *rig) ask(t testing.TB, fields ...string) answered {
	t.Helper()
	f := url.Values{"grant_type": {grantExchange}, "subject_token": {"ann"}, "subject_token_type": {typeAccess}}
	seen := map[string]bool{}
	for i := 0; i < len(fields); i += 2 {
		if !seen[fields[i]] {
			f.Del(fields[i])
		}
		seen[fields[i]] = true
		f.Add(fields[i], fields[i+1])
	}
	return r.post(t, "/token", f.Encode(), "application/x-www-form-urlencoded")
}

func (r *rig) post(t testing.TB, path, body, kind string) answered {
	t.Helper()
	req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	req.Header.Set("content-type", kind)
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, req)
	a := answered{status: w.Code}
	var e struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	data := w.Body.Bytes()
	if err := errors.Join(json.Unmarshal(data, &a), json.Unmarshal(data, &e)); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	a.Error, a.Description = e.Error, e.Description
	if w.Header().Get("cache-control") != "no-store" || (a.status == 200) != (a.Token != "") || (a.Error == "") != (a.Description == "") {
		t.Errorf("%d %s", w.Code, data)
	}
	if strings.ContainsAny(a.Description, "\"\\") {
		t.Errorf("description %q has characters that RFC 6749 §5.2 has not", a.Description)
	}
	return a
}

// exchanged gets a token and lets a decision server look at it.
func (r *rig) exchanged(t testing.TB, fields ...string) (answered, call.Identity) {
	t.Helper()
	a := r.ask(t, fields...)
	if a.status != 200 {
		t.Fatalf("%v: %+v", fields, a)
	}
	id, err := r.decides.Verify(t.Context(), a.Token)
	if err != nil {
		t.Fatalf("%v: %v", fields, err)
	}
	return a, id
}

func (r *rig) refuses(t *testing.T, code string, fields ...string) string {
	t.Helper()
	a := r.ask(t, fields...)
	want := http.StatusBadRequest
	if code == unavailable {
		want = http.StatusServiceUnavailable
	}
	if a.status != want || a.Error != code {
		t.Errorf("%v: %+v; want %s", fields, a, code)
	}
	return a.Description
}

func TestExchange(t *testing.T) {
	r := newRig(t)
	a, id := r.exchanged(t)
	if a.Issued != typeAccess || a.Type != "Bearer" || a.Expires != 300 || a.Scope != "" {
		t.Errorf("%+v", a)
	}
	if id.Issuer != entra || id.Subject != "ann" || id.Kind != call.Human || strings.Join(id.Groups, "") != "support" || id.Method != "exchange" ||
		len(id.Actors) != 0 || id.Scope.Narrowed() || id.Claims["team"] != "red" || !id.Expires.Equal(start.Add(5*time.Minute)) {
		t.Errorf("%+v", id)
	}
	if len(r.recorded) != 1 || r.recorded[0].What != call.ChangeTokenExchanged || r.recorded[0].By != entra+"|ann" || r.recorded[0].Version != id.TokenID || strings.Contains(r.recorded[0].Detail, a.Token) {
		t.Errorf("%+v", r.recorded)
	}
	// By which token it was, it can be revoked.
	r.decides.Revoke([]identity.Revocation{{TokenID: "t-ann"}})
	if _, err := r.decides.Verify(t.Context(), a.Token); err == nil {
		t.Error("what it was given for is revoked, and it is not")
	}
}

// An exchange makes no token younger or another issuer's: what revokes those that
// it goes back to revokes what comes of them, however often it is exchanged.
func TestExchangeLaundersNothing(t *testing.T) {
	r := newRig(t)
	const agents = "https://agents.example.com"
	bot := who("bot", map[string]any{"iss": agents, "iat": start.Add(-time.Hour).Unix()})
	bot.Issuer = agents
	r.tokens["bot"] = bot
	r.tokens["ann"] = who("ann", map[string]any{"iat": start.Add(-2 * time.Hour).Unix(), "may_act": map[string]any{"sub": "bot", "iss": agents}})
	once, id := r.exchanged(t, "actor_token", "bot", "actor_token_type", typeAccess)
	r.now = start.Add(time.Minute)
	twice, _ := r.exchanged(t, "subject_token", once.Token)
	for _, c := range []struct {
		what    string
		by      identity.Revocation
		revoked bool
	}{
		{"ann's before it", identity.Revocation{Subject: "ann", Issuer: entra, IssuedBefore: start.Add(-90 * time.Minute)}, true},
		{"ann's older", identity.Revocation{Subject: "ann", Issuer: entra, IssuedBefore: start.Add(-2 * time.Hour)}, false},
		{"the bot's before it", identity.Revocation{Subject: "bot", Issuer: agents, IssuedBefore: start.Add(-30 * time.Minute)}, true},
		{"all of the bot's issuer", identity.Revocation{Issuer: agents}, true},
		{"the bot's token", identity.Revocation{Issuer: agents, TokenID: "t-bot"}, true},
		{"the bot's token elsewhere", identity.Revocation{Issuer: entra, TokenID: "t-bot"}, false},
		{"all that was exchanged", identity.Revocation{Issuer: here, IssuedBefore: start.Add(time.Second)}, true},
		{"the token given first", identity.Revocation{Issuer: here, TokenID: id.TokenID}, true},
		{"the token given first, as records have it", identity.Revocation{Issuer: entra, Subject: "ann", TokenID: id.TokenID}, true},
	} {
		r.decides.Revoke([]identity.Revocation{c.by})
		for how, token := range map[string]string{"once": once.Token, "twice": twice.Token} {
			if _, err := r.decides.Verify(t.Context(), token); (err != nil) != c.revoked {
				t.Errorf("%s, exchanged %s: %v", c.what, how, err)
			}
		}
	}
}

func TestNeverOutlives(t *testing.T) {
	r := newRig(t)
	short := who("ann", nil)
	short.Expires = start.Add(90 * time.Second)
	r.tokens["short"] = short
	bot := who("bot", nil)
	bot.Expires = start.Add(40 * time.Second)
	r.tokens["short bot"] = bot
	r.tokens["short, bot may"] = short
	r.tokens["short, bot may"].Claims["may_act"] = map[string]any{"sub": "bot"}
	if a, id := r.exchanged(t, "subject_token", "short"); a.Expires != 90 || !id.Expires.Equal(short.Expires) {
		t.Errorf("%+v", a)
	}
	if a, id := r.exchanged(t, "subject_token", "short, bot may", "actor_token", "short bot", "actor_token_type", typeJWT); a.Expires != 40 || !id.Expires.Equal(bot.Expires) {
		t.Errorf("%+v", a)
	}
	// Nor does what is exchanged again and again.
	first, _ := r.exchanged(t)
	r.now = start.Add(4 * time.Minute)
	if a, id := r.exchanged(t, "subject_token", first.Token); a.Expires != 60 || !id.Expires.Equal(start.Add(5*time.Minute)) {
		t.Errorf("%+v", a)
	}
	// Within the skew a token is still good, but there is nothing left to give.
	r.now = start.Add(5*time.Minute + skew/2)
	r.refuses(t, invalidRequest, "subject_token", first.Token)
}

// One line a case: who may act for whom.
func TestMayAct(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.Delegation = []Delegation{{Actors: call.Approvers{People: []string{entra + "|deploy"}}, Subjects: call.Approvers{Groups: []string{"support"}}}}
	})
	may := func(m any) call.Identity { return who("ann", map[string]any{"may_act": m}) }
	evil := who("bot", nil)
	evil.Issuer = "https://evil.example"
	evil.Claims["iss"] = evil.Issuer
	acting := who("bot", nil)
	acting.Actors = []call.Actor{{Issuer: entra, Subject: "x"}}
	narrow := who("bot", nil)
	narrow.Scope = call.Scope{"crm"}
	mapped := who("bot@example.com", nil)
	mapped.Claims["sub"] = "bot"
	other := who("eve", nil)
	other.Groups = nil
	for name, c := range map[string]struct {
		subject, actor call.Identity
		ok             bool
	}{
		"named":                                {may(map[string]any{"sub": "bot"}), who("bot", nil), true},
		"named with its issuer":                {may(map[string]any{"sub": "bot", "iss": entra}), who("bot", nil), true},
		"named by sub, known by another claim": {may(map[string]any{"sub": "bot"}), mapped, true},
		"named with another claim":             {may(map[string]any{"sub": "bot", "azp": "app"}), who("bot", map[string]any{"azp": "app"}), true},
		"another claim that differs":           {may(map[string]any{"sub": "bot", "azp": "app"}), who("bot", map[string]any{"azp": "web"}), false},
		"another claim that is missing":        {may(map[string]any{"sub": "bot", "azp": "app"}), who("bot", nil), false},
		"somebody else":                        {may(map[string]any{"sub": "bot"}), who("bob", nil), false},
		"of another issuer":                    {may(map[string]any{"sub": "bot"}), evil, false},
		"of the issuer that is named":          {may(map[string]any{"sub": "bot", "iss": "https://evil.example"}), evil, true},
		"of another issuer than is named":      {may(map[string]any{"sub": "bot", "iss": "https://evil.example"}), who("bot", nil), false},
		"nobody named":                         {who("ann", nil), who("bot", nil), false},
		"an empty may_act":                     {may(map[string]any{}), who("bot", nil), false},
		"may_act that is a text":               {may("bot"), who("bot", nil), false},
		"may_act that is a list":               {may([]any{map[string]any{"sub": "bot"}}), who("bot", nil), false},
		"an issuer alone":                      {may(map[string]any{"iss": entra}), who("bot", nil), false},
		"a list for sub":                       {may(map[string]any{"sub": []any{"bot"}}), who("bot", nil), false},
		"act for may_act":                      {who("ann", map[string]any{"act": map[string]any{"sub": "bot"}}), who("bot", nil), false},
		"an actor that somebody acts for":      {may(map[string]any{"sub": "bot"}), acting, false},
		"an actor that is narrowed":            {may(map[string]any{"sub": "bot"}), narrow, false},
		"the subject itself":                   {who("ann", nil), who("ann", nil), false},
		"as the configuration lets it":         {who("ann", nil), who("deploy", nil), true},
		"as the configuration lets it, though another is named": {may(map[string]any{"sub": "bot"}), who("deploy", nil), true},
		"for somebody whom it does not":                         {other, who("deploy", nil), false},
	} {
		t.Run(name, func(t *testing.T) {
			r.tokens["s"], r.tokens["a"] = c.subject, c.actor
			fields := []string{"subject_token", "s", "actor_token", "a", "actor_token_type", typeAccess}
			if !c.ok {
				r.refuses(t, invalidRequest, fields...)
				return
			}
			_, id := r.exchanged(t, fields...)
			if id.Subject != c.subject.Subject || len(id.Actors) != 1 || id.Actors[0] != (call.Actor{Issuer: c.actor.Issuer, Subject: c.actor.Subject}) {
				t.Errorf("%+v", id)
			}
			if id.Claims["may_act"] != nil {
				t.Error("who acts may let others act")
			}
		})
	}
}

func TestChainOfActors(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.Delegation = []Delegation{{Actors: call.Approvers{People: []string{"deploy"}}, Subjects: call.Approvers{People: []string{"ann"}}}}
	})
	r.tokens["deploy"] = who("deploy", nil)
	first, _ := r.exchanged(t, "subject_token", "ann, whom bot may act for", "actor_token", "bot", "actor_token_type", typeAccess)
	_, id := r.exchanged(t, "subject_token", first.Token, "actor_token", "deploy", "actor_token_type", typeAccess)
	if len(id.Actors) != 2 || id.Actors[0].Subject != "deploy" || id.Actors[1].Subject != "bot" || id.Subject != "ann" {
		t.Errorf("%+v", id.Actors)
	}
	// The actor can't make itself its subject.
	r.refuses(t, invalidRequest, "subject_token", "bot", "actor_token", first.Token, "actor_token_type", typeAccess)
	// Without an actor the one that is named may act still.
	plain, _ := r.exchanged(t, "subject_token", "ann, whom bot may act for")
	if _, id := r.exchanged(t, "subject_token", plain.Token, "actor_token", "bot", "actor_token_type", typeAccess); len(id.Actors) != 1 {
		t.Errorf("%+v", id.Actors)
	}
	long := who("ann", map[string]any{"may_act": map[string]any{"sub": "bot"}})
	for range maxActors {
		long.Actors = append(long.Actors, call.Actor{Issuer: entra, Subject: "x"})
	}
	r.tokens["long"] = long
	r.refuses(t, invalidRequest, "subject_token", "long", "actor_token", "bot", "actor_token_type", typeAccess)
}

func TestNarrowing(t *testing.T) {
	r := newRig(t)
	a, id := r.exchanged(t, "scope", "tools crm:refunds.*")
	if a.Scope != "crm:refunds.* tools" || !id.Scope.Covers("crm", "refunds.create") || id.Scope.Covers("crm", "customers.get") || id.Scope.Covers("erp", "x") {
		t.Errorf("%+v, %v", a, id.Scope)
	}
	// A token that is narrowed can only be narrowed further.
	if b, _ := r.exchanged(t, "subject_token", a.Token, "scope", "crm:refunds.create"); b.Scope != "crm:refunds.create" {
		t.Errorf("%+v", b)
	}
	if b, _ := r.exchanged(t, "subject_token", a.Token); b.Scope != a.Scope {
		t.Errorf("an exchange widens to %q", b.Scope)
	}
	r.refuses(t, invalidScope, "subject_token", a.Token, "scope", "crm")
	r.refuses(t, invalidScope, "subject_token", a.Token, "scope", "erp")
	r.refuses(t, invalidScope, "subject_token", a.Token, "resource", resourcePrefix+"erp")
	if b, _ := r.exchanged(t, "resource", resourcePrefix+"crm", "resource", resourcePrefix+"tools"); b.Scope != "crm tools" {
		t.Errorf("%+v", b)
	}
	if b, _ := r.exchanged(t, "resource", resourcePrefix+"crm", "scope", "crm:refunds.*"); b.Scope != "crm:refunds.*" {
		t.Errorf("%+v", b)
	}
	r.refuses(t, invalidTarget, "resource", resourcePrefix+"crm", "scope", "tools")
	// Audiences, too.
	b, _ := r.exchanged(t, "audience", "prod")
	if c, id := r.exchanged(t, "subject_token", b.Token); len(id.Claims["aud"].([]any)) != 1 || id.Claims["aud"].([]any)[0] != "prod" {
		t.Errorf("%+v %v", c, id.Claims["aud"])
	}
	r.refuses(t, invalidTarget, "subject_token", b.Token, "audience", "callgate")
	r.refuses(t, invalidTarget, "audience", "elsewhere")
	r.refuses(t, invalidTarget, "audience", "callgate", "audience", "elsewhere")
	c := r.ask(t, "audience", "test")
	if _, err := r.decides.Verify(t.Context(), c.Token); err == nil {
		t.Error("a token for another place is taken")
	}
}

// A stolen token that is bound to a key is exchanged for nothing that is not.
func TestBoundTokensStayBound(t *testing.T) {
	r := newRig(t)
	key := map[string]any{"jkt": "k-ann"}
	r.tokens["bound"] = who("ann", map[string]any{"cnf": key, "may_act": map[string]any{"sub": "bot"}})
	r.tokens["bound bot"] = who("bot", map[string]any{"cnf": map[string]any{"x5t#S256": "c-bot"}})
	a, id := r.exchanged(t, "subject_token", "bound")
	if cnf, _ := id.Claims["cnf"].(map[string]any); cnf["jkt"] != "k-ann" || a.Type != "DPoP" {
		t.Errorf("%+v %v", a, id.Claims)
	}
	r.refuses(t, invalidRequest, "subject_token", "bound", "actor_token", "bot", "actor_token_type", typeAccess)
	a, id = r.exchanged(t, "subject_token", "bound", "actor_token", "bound bot", "actor_token_type", typeAccess)
	if cnf, _ := id.Claims["cnf"].(map[string]any); cnf["x5t#S256"] != "c-bot" || cnf["jkt"] != nil || a.Type != "Bearer" {
		t.Errorf("%+v %v", a, id.Claims)
	}
}

func TestAssertionsAreUsedOnce(t *testing.T) {
	r := newRig(t)
	assertion := func(id, issuer string) saml.Assertion {
		who := call.Identity{Issuer: issuer, Subject: "ann", Kind: call.Human, Method: "saml", TokenID: id, Expires: start.Add(3 * time.Minute), Claims: map[string]any{"attributes": map[string]any{"mail": []any{"a@b"}}}}
		return saml.Assertion{Identity: who}
	}
	r.assertions["one"], r.assertions["two"], r.assertions["same id elsewhere"] = assertion("_1", entra), assertion("_2", entra), assertion("_1", "https://other.example")
	final := assertion("_3", entra)
	final.Final = true
	r.assertions["final"] = final
	of := func(a string, more ...string) []string {
		return append([]string{"subject_token", a, "subject_token_type", typeSAML2}, more...)
	}
	// A request that fails for another reason leaves the assertion unused.
	r.refuses(t, invalidTarget, of("one", "audience", "nowhere")...)
	a, id := r.exchanged(t, of("one")...)
	if a.Expires != 180 || id.Subject != "ann" || id.Claims["attributes"] == nil {
		t.Errorf("%+v %+v", a, id)
	}
	if why := r.refuses(t, invalidRequest, of("one")...); !strings.Contains(why, "exchanged before") {
		t.Error(why)
	}
	r.exchanged(t, of("same id elsewhere")...)
	r.refuses(t, invalidRequest, of("final")...)
	r.refuses(t, invalidRequest, of("forged")...)
	r.refuses(t, invalidRequest, "subject_token", "one") // of another type than it is
	// A restart forgets nothing.
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := New(t.Context(), r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	r.Issuer = again
	r.refuses(t, invalidRequest, of("one")...)
	// Where it can't be told, none is taken.
	if _, err := again.store.(*file).db.Write.Exec("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < ?) INSERT INTO used SELECT CAST(i AS BLOB), ? FROM n", mostUsed, start.Add(time.Hour).Unix()); err != nil {
		t.Fatal(err)
	}
	r.refuses(t, unavailable, of("two")...)
	r.now = start.Add(2 * time.Hour) // those are forgotten, and the assertion too old for more
	r.refuses(t, invalidRequest, of("two")...)
}

func TestOneUseAmongMany(t *testing.T) {
	r := newRig(t)
	r.assertions["one"] = saml.Assertion{Identity: call.Identity{Issuer: entra, Subject: "ann", Kind: call.Human, Method: "saml", TokenID: "_1", Expires: start.Add(time.Minute)}}
	var wg sync.WaitGroup
	var mu sync.Mutex
	given := 0
	for range 16 {
		wg.Go(func() {
			if a := r.ask(t, "subject_token", "one", "subject_token_type", typeSAML2); a.status == 200 {
				mu.Lock()
				given++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if given != 1 {
		t.Errorf("one assertion was exchanged %d times", given)
	}
}

// One line a case: requests that are none.
func TestRequestsRefused(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		code   string
		fields []string
	}{
		{invalidRequest, []string{"grant_type", ""}},
		{unsupportedGrant, []string{"grant_type", "client_credentials"}},
		{unsupportedGrant, []string{"grant_type", "urn:ietf:params:oauth:grant-type:saml2-bearer"}},
		{invalidRequest, []string{"grant_type", grantExchange, "grant_type", grantExchange}},
		{invalidRequest, []string{"subject_token", ""}},
		{invalidRequest, []string{"subject_token", "ann", "subject_token", "bob"}},
		{invalidRequest, []string{"subject_token", "nobody"}},
		{invalidRequest, []string{"subject_token", strings.Repeat("a", 100_000)}},
		{invalidRequest, []string{"subject_token_type", ""}},
		{invalidRequest, []string{"subject_token_type", "urn:ietf:params:oauth:token-type:refresh_token"}},
		{invalidRequest, []string{"subject_token_type", "urn:ietf:params:oauth:token-type:saml1"}},
		{invalidRequest, []string{"actor_token_type", typeAccess}},
		{invalidRequest, []string{"actor_token", "bot"}},
		{invalidRequest, []string{"actor_token", "nobody", "actor_token_type", typeAccess}},
		{invalidRequest, []string{"requested_token_type", typeSAML2}},
		{invalidRequest, []string{"scope", "crm", "scope", "tools"}},
		{invalidScope, []string{"scope", "*"}},
		{invalidScope, []string{"scope", " "}},
		{invalidScope, []string{"scope", "openid profile/x"}},
		{invalidTarget, []string{"resource", "https://crm.example.com"}},
		{invalidTarget, []string{"resource", resourcePrefix}},
		{invalidTarget, []string{"resource", resourcePrefix + "crm tools"}},
		{invalidTarget, []string{"audience", "\"\\\x00"}},
		{invalidRequest, []string{"subject_token", "a\xffb"}},
	} {
		r.refuses(t, c.code, c.fields...)
	}
	for what, a := range map[string]answered{
		"in the URL":     r.post(t, "/token?subject_token=ann", "", "application/x-www-form-urlencoded"),
		"as JSON":        r.post(t, "/token", `{"grant_type":"x"}`, "application/json"),
		"of no type":     r.post(t, "/token", "grant_type=x", ""),
		"too large":      r.post(t, "/token", strings.Repeat("a", maxForm+1), "application/x-www-form-urlencoded"),
		"no form":        r.post(t, "/token", "a=%zz", "application/x-www-form-urlencoded"),
		"many audiences": r.ask(t, strings.Split(strings.Repeat("audience,prod,", maxValues)+"audience,test", ",")...),
	} {
		if a.status != http.StatusBadRequest || a.Error != invalidRequest {
			t.Errorf("%s: %+v", what, a)
		}
	}
	many := who("ann", map[string]any{"pad": strings.Repeat("x", maxToken)})
	r.tokens["many"] = many
	r.refuses(t, invalidRequest, "subject_token", "many")
	r.full = true
	r.refuses(t, unavailable)
	if len(r.recorded) != 0 {
		t.Errorf("%+v", r.recorded)
	}
}

func TestRotation(t *testing.T) {
	r := newRig(t)
	kids := func() (signing string, all []string) {
		set := r.Keys()
		for n := range set.Len() {
			k, _ := set.Key(n)
			if private, err := jwk.IsPrivateKey(k); err != nil || private {
				t.Fatal("a private key is published")
			}
			all = append(all, k.KeyID())
		}
		return r.keys.Load().signing.KeyID(), all
	}
	turn := func(d time.Duration) {
		t.Helper()
		r.now = r.now.Add(d)
		if err := r.turn(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	first, all := kids()
	if len(all) != 1 {
		t.Fatal(all)
	}
	turn(23 * time.Hour)
	if now, all := kids(); now != first || len(all) != 1 {
		t.Error("a key too early")
	}
	turn(time.Hour)
	if now, all := kids(); now != first || len(all) != 2 {
		t.Errorf("a new key signs before anybody knows it: %v", all)
	}
	turn(ahead)
	r.tokens["ann"] = call.Identity{Issuer: entra, Subject: "ann", Kind: call.Human, Expires: r.now.Add(time.Hour)}
	second, all := kids()
	if second == first || len(all) != 2 {
		t.Errorf("%s signs, of %v", second, all)
	}
	// What the old key signed is believed until it has ended.
	turn(r.cfg.Lifetime + skew)
	if _, all := kids(); len(all) != 2 {
		t.Errorf("the old key is gone while its tokens live: %v", all)
	}
	turn(2 * turnEvery)
	if now, all := kids(); now != second || len(all) != 1 {
		t.Errorf("%v", all)
	}
	// Another process with the same store has the same keys.
	other, err := New(t.Context(), r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if other.keys.Load().signing.KeyID() != second {
		t.Error("two processes sign with two keys")
	}
	// A long pause is no reason to sign with what nobody knows, or to go on without end.
	turn(1000 * time.Hour)
	if now, all := kids(); now != second || len(all) != 2 {
		t.Errorf("after a pause %s signs, of %v", now, all)
	}
}

func TestDiscovery(t *testing.T) {
	r := newRig(t)
	server := httptest.NewServer(r.Handler())
	defer server.Close()
	r.cfg.Issuer = server.URL
	a := r.ask(t, "scope", "crm")
	// A decision server elsewhere.
	v, err := identity.New(identity.Config{Issuers: []identity.Issuer{{Name: "callgate", URL: server.URL, Audiences: []string{"callgate"}, Algorithms: []string{"ES256"}, Exchanged: true}},
		Log: slog.New(slog.DiscardHandler), Metrics: identity.NewMetrics(prometheus.NewRegistry()), Now: r.cfg.Now})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if id, err := v.Verify(t.Context(), a.Token); err != nil || id.Subject != "ann" || id.Issuer != entra || id.Scope.String() != "crm" {
		t.Errorf("%+v, %v", id, err)
	}
	for path, want := range map[string]string{"/.well-known/oauth-authorization-server": `"token_endpoint":"` + server.URL + `/token"`, "/.well-known/jwks.json": `"use":"sig"`} {
		resp, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || !strings.Contains(string(body), want) || strings.Contains(string(body), `"d":`) {
			t.Errorf("%s: %s %v", path, body, err)
		}
	}
	resp, err := http.Get(server.URL + "/token")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Error(resp.Status)
	}
}

func FuzzRequest(f *testing.F) {
	ok := url.Values{"grant_type": {grantExchange}, "subject_token": {"ann"}, "subject_token_type": {typeAccess}, "scope": {"crm"}}
	f.Add(ok.Encode(), "application/x-www-form-urlencoded")
	f.Add(ok.Encode()+"&audience=prod&audience=test&resource="+resourcePrefix+"crm", "application/x-www-form-urlencoded; charset=utf-8")
	f.Add("grant_type=%zz&;", "application/x-www-form-urlencoded")
	f.Add("{}", "application/json")
	r := newRig(f)
	f.Fuzz(func(t *testing.T, body, kind string) {
		a := r.post(t, "/token", body, kind)
		if a.status != 200 {
			if a.Error == "" {
				t.Errorf("%+v", a)
			}
			return
		}
		id, err := r.decides.Verify(t.Context(), a.Token)
		if r.tokens[id.Subject].Subject != id.Subject && err == nil {
			t.Errorf("%q made a token of %+v", body, id)
		}
	})
}
