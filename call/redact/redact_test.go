package redact

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/callgate/callgate/call"
)

const secret = "s3cr3t-Pl4nted"

// jwt has the shape of a token, and the planted secret in it.
const jwt = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.s3cr3t-Pl4nted"

func redactor(t testing.TB) *Redactor {
	t.Helper()
	r, err := New([]byte(strings.Repeat("k", MinKey)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// hides fails where text, or text with its escapes resolved, has the secret.
func hides(t *testing.T, what, text string) {
	t.Helper()
	list, _ := levels(text)
	for _, l := range list {
		if strings.Contains(strings.ToLower(l), strings.ToLower(secret)) {
			t.Errorf("%s gets through: %s", what, text)
			return
		}
	}
}

func TestSecret(t *testing.T) {
	r := redactor(t)
	if a, b := r.Secret("a"), r.Secret("b"); a == b || a != r.Secret("a") || len(a) != len("hmac:")+32 || r.Secret("") != "" {
		t.Errorf("%s %s", a, b)
	}
	other, err := New([]byte(strings.Repeat("l", MinKey)))
	if err != nil || other.Secret("a") == r.Secret("a") {
		t.Errorf("another key gives the same hash: %v", err)
	}
	if _, err := New(make([]byte, MinKey-1)); err == nil {
		t.Error("a short key was taken")
	}
}

// A word in the place of what stands for secrets, and of secrets.
func TestWords(t *testing.T) {
	r := redactor(t)
	a := r.Secret("a")
	for text, want := range map[string]string{
		"": "", "plain": "plain", a: "[x]", "/c/" + a + "?n=" + a + "&m=1": "/c/[x]?n=[x]&m=1", a + "0": "[x]0", "hmac:" + a: "hmac:[x]", a[:len(a)-1]: a[:len(a)-1],
		"hmac:hmac:": "hmac:hmac:", strings.ToUpper(a): strings.ToUpper(a),
	} {
		got, n := Reword(text, "[x]")
		if got != want || n != strings.Count(want, "[x]") || Stands(text) != (n > 0) {
			t.Errorf("%q became %q, %d", text, got, n)
		}
	}
	form, hidden := Words("[x]").Form("a=1&code=" + secret + "&b=Bearer%20" + secret + "&code=")
	if form != "a=1&code=[x]&b=[x]&code=" || hidden.Len() != 2 {
		t.Errorf("%s, %d", form, hidden.Len())
	}
	_, more := r.Target("/x?sig=1")
	if got := string(r.Arguments([]byte(`{"code":"1","sig":"1","b":"1","n":"1"}`), hidden.And(more))); strings.Count(got, "hmac:") != 3 || !strings.Contains(got, `"n":"1"`) {
		t.Error(got)
	}
}

// Names in lower case are split as any are.
func TestSplit(t *testing.T) {
	const letters = "ab1_-. \xffAé"
	var names []string
	for _, a := range letters {
		for _, b := range letters {
			for _, c := range letters {
				names = append(names, string([]rune{a, b, c}), string([]rune{a, a, b, c, c, a}), string(a)+"\xff"+string(b))
			}
		}
	}
	for _, name := range append(names, "", "api_key", "x-api-key", "apiKey") {
		if got, want := split(name), splitAny(name); !slices.Equal(got, want) {
			t.Errorf("%q is split into %q, want %q", name, got, want)
		}
		if oneWord(name) && (fold(name) != foldUnicode(name) || len(splitAny(name)) > 1) {
			t.Errorf("%q is more than one word", name)
		}
	}
}

func TestTargetHides(t *testing.T) {
	r := redactor(t)
	twice := url.QueryEscape(url.QueryEscape(secret))
	for _, target := range []string{
		"/a?token=" + secret, "/a?TOKEN=" + secret, "/a?ToKeN=" + secret, "/a?%74oken=" + secret, "/a?%2574oken=" + secret, "/a?%252574oken=" + secret,
		"/a?to\u212aen=" + secret, "/a?tok%zz=" + secret, "/a??token=" + secret, "/a?x=1;token=" + secret, "/a?x=1;;token=" + secret + ";y=2",
		"/a?x#token=" + secret, "/a?token=1&token=" + secret, "/a?token=a=" + secret, "/a?token=" + twice, "/a?access.token=" + secret,
		"/a?Access-Token=" + secret, "/a?accessToken=" + secret, "/a?client%5Fsecret=" + secret, "/a?apikey=" + secret, "/a?api%20key=" + secret,
		"/a?user[password]=" + secret, "/a?x_api_key=" + secret, "/a?my_db_password=" + secret, "/a?X-Amz-Signature=" + secret, "/a?sig=" + secret,
		"/a?code=" + secret, "/a?%63ode=" + secret, "/a?SAMLResponse=" + secret, "/a?assertion=" + secret, "/a?refresh_token=" + secret,
		"/a?next=%2Fb%3Ftoken%3D" + secret, "/a?next=%252Fb%253Ftoken%253D" + secret, "/a?next=https://u:" + secret + "@h/", "/a?q={\"password\":\"" + secret + "\"}",
		"/a?q=%7B%22password%22%3A%22" + secret + "%22%7D", "/a?h=Bearer%20" + secret, "/a?h=bEaReR+" + secret, "/a?h=Basic%20" + secret, "/a?x=" + jwt, "/a?" + jwt, "/a?x=eyJ-" + jwt, "/a?x=eyJ-eyJ-a." + jwt,
		"/a?" + jwt + "=1", "/a?Bearer%20" + secret, "/a?a%26token=" + secret, "/a?a%26token%3D" + secret,
		"/a;jsessionid=" + secret, "/a;jsessionid=" + secret + "/b?x=1", "/a;x=1;Token=" + secret, "/a/" + jwt + "/b", "/a/%65yJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0." + secret,
		"/a/token=" + secret, "/a/Bearer%20" + secret, "/a?key=" + secret, "/a?auth=" + secret, "/a?PHPSESSID=" + secret, "/a?id_token_hint=" + jwt,
		"/a?%25252525252574oken=" + secret, "/a?\xfftoken=" + secret + "&token=" + secret,
	} {
		got, _ := r.Target(target)
		if strings.HasPrefix(target, "/a?\xfftoken=") {
			// A name that begins with a byte that is no text is another name.
			got = got[strings.Index(got, "&"):]
		}
		hides(t, target, got)
	}
}

// What is no credential stays byte for byte.
func TestTargetKeeps(t *testing.T) {
	r := redactor(t)
	for _, target := range []string{
		"", "/", "/a", "/a?", "/a?x=1&y=2", "/a?token", "/a?token=", "/a?tokens=1", "/a?max_tokens=5", "/a?page_token=abc", "/a?nextPageToken=abc", "/a?secretary=x",
		"/a?q=a+b%20c", "/a?q=100%25", "/a?q=%zz", "/a?monkey=1", "/a?keyword=x", "/a?sort=key", "/a;v=1/b", "/a?next=%2Fb%3Fx%3D1", "/crm/customers/c-1", "/a?at=12:30",
		"/a?q=bearers", "/a?u=https://h/x", "/a?=x", "/a?&&;", "/a?\xff=\xfe",
	} {
		if got, hidden := r.Target(target); got != target || len(hidden.names)+len(hidden.values) > 0 {
			t.Errorf("%s became %s", target, got)
		}
	}
}

// The same secret has the same hash wherever it stands, however it is escaped.
func TestSecretsMatch(t *testing.T) {
	r := redactor(t)
	want := r.Secret("a b/c")
	path, hidden := r.Target("/x?n=1&access%5Ftoken=a%20b%2Fc&%74oken=a+b/c")
	if path != "/x?n=1&access%5Ftoken="+want+"&%74oken="+want {
		t.Errorf("%s", path)
	}
	if got := string(r.Arguments([]byte(`{"access_token":"a b/c","n":"1","token":["a b/c", 2]}`), hidden)); got != `{"access_token":"`+want+`","n":"1","token":["`+want+`", "`+r.Secret("2")+`"]}` {
		t.Errorf("%s", got)
	}
	if got, _ := r.Target("/x?n=1;token=a+b/c;y=2"); got != "/x?n=1;token="+want+";y=2" {
		t.Errorf("%s", got)
	}
	h := r.Headers(call.Headers{{Name: "authorization", Value: "Bearer a b/c"}, {Name: "x-api-key", Value: " a b/c"}, {Name: "cookie", Value: "s=a b/c; t=\"a b/c\""}})
	if h[0].Value != "Bearer "+want || h[1].Value != want || h[2].Value != "s="+want+"; t="+want {
		t.Errorf("%v", h)
	}
}

func TestHeadersHide(t *testing.T) {
	r := redactor(t)
	for _, f := range []call.Header{
		{Name: "authorization", Value: "Bearer " + secret}, {Name: "authorization", Value: secret}, {Name: "authorization", Value: "bearer\t" + secret},
		{Name: "authorization", Value: "Basic dXNlcjpw, Bearer " + secret}, {Name: "authorization", Value: "Digest username=\"x\", response=\"" + secret + "\""},
		{Name: "Authorization", Value: "Unknown " + secret}, {Name: "proxy-authorization", Value: "NTLM " + secret}, {Name: "x-forwarded-authorization", Value: secret},
		{Name: "cookie", Value: "a=" + secret}, {Name: "cookie", Value: "a=1; b=" + secret + "; c"}, {Name: "cookie", Value: secret}, {Name: "cookie", Value: "path=" + secret},
		{Name: "cookie", Value: "a=1, b=" + secret}, {Name: "cookie2", Value: "a=" + secret}, {Name: "x-original-cookie", Value: "a=" + secret},
		{Name: "set-cookie", Value: "sid=" + secret + "; Path=/; HttpOnly"}, {Name: "set-cookie", Value: "path=" + secret}, {Name: "set-cookie", Value: "a=1; b=" + secret},
		{Name: "set-cookie", Value: "a=1; " + secret}, {Name: "set-cookie", Value: "a=1; path=/?token=" + secret}, {Name: "set-cookie", Value: jwt + "=1; Secure"}, {Name: "set-cookie2", Value: "a=" + secret},
		{Name: "x-api-key", Value: secret}, {Name: "X-API-KEY", Value: secret}, {Name: "x_api_key", Value: secret}, {Name: "xapikey", Value: secret}, {Name: "ocp-apim-subscription-key", Value: secret},
		{Name: "x-functions-key", Value: secret}, {Name: "x-vault-token", Value: secret}, {Name: "x-csrf-token", Value: secret}, {Name: "x-client-secret", Value: secret},
		{Name: "x-auth", Value: secret}, {Name: "x-amz-security-token", Value: secret}, {Name: "x-session-id", Value: secret}, {Name: "x-hub-signature-256", Value: "sha256=" + secret},
		{Name: "x-team", Value: "Bearer " + secret}, {Name: "x-team", Value: " basic  " + secret}, {Name: "x-team", Value: "x Bearer\u00a0" + secret}, {Name: "x-team", Value: "Bearer%20" + secret},
		{Name: "x-team", Value: jwt}, {Name: "dpop", Value: jwt}, {Name: "user-agent", Value: "curl (" + jwt + ")"}, {Name: "referer", Value: "https://h/x?token=" + secret},
		{Name: "location", Value: "https://u:" + secret + "@h/"}, {Name: "location", Value: "/cb#access_token=" + secret}, {Name: "x-team", Value: "password=" + secret},
		{Name: "link", Value: "</x?api_key=" + secret + ">; rel=next"}, {Name: "sec-websocket-protocol", Value: "v1, token=" + secret},
	} {
		hides(t, f.Name+": "+f.Value, r.Headers(call.Headers{f})[0].Value)
	}
	// Each of a repeated header's values.
	for _, f := range r.Headers(call.Headers{{Name: "x-api-key", Value: "1"}, {Name: "x-api-key", Value: secret}, {Name: "x-api-key", Value: secret}}) {
		hides(t, "a repeated header", f.Value)
	}
}

func TestHeadersKeep(t *testing.T) {
	r := redactor(t)
	for _, f := range []call.Header{
		{Name: "accept", Value: "application/json, text/event-stream"}, {Name: "content-type", Value: "multipart/form-data; boundary=x"}, {Name: "idempotency-key", Value: "k-1"},
		{Name: "mcp-session-id", Value: "s-1"}, {Name: "traceparent", Value: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, {Name: "tracestate", Value: "a=b,c=d"},
		{Name: "user-agent", Value: "Mozilla/5.0 (X11; Linux x86_64) token-less"}, {Name: "x-forwarded-for", Value: "10.0.0.1, ::1"}, {Name: "x-request-id", Value: "r-1"},
		{Name: "x-ratelimit-remaining-tokens", Value: "5"}, {Name: "date", Value: "Mon, 02 Jan 2006 15:04:05 GMT"}, {Name: "x-team", Value: "basics of \u00fc"}, {Name: "retry-after", Value: "1"},
	} {
		if got := r.Headers(call.Headers{f})[0]; got != f {
			t.Errorf("%v became %v", f, got)
		}
	}
	want := "sid=" + r.Secret("1") + "; Path=/; Max-Age=5; HttpOnly; Secure; SameSite=Lax"
	if got := r.Headers(call.Headers{{Name: "set-cookie", Value: "sid=1; Path=/; Max-Age=5; HttpOnly; Secure; SameSite=Lax"}})[0].Value; got != want {
		t.Errorf("%s", got)
	}
}

func TestArguments(t *testing.T) {
	r := redactor(t)
	_, hidden := r.Target("/a/Bearer%20" + secret + "/b?x=1&code=" + secret)
	for in, want := range map[string]string{
		``: ``, `{}`: `{}`, `{"a" : [1, null,true], "b":{"c":"d"}}`: `{"a" : [1, null,true], "b":{"c":"d"}}`,
		`{"code":"` + secret + `","n":{"code":"own"}}`:            `{"code":"` + r.Secret(secret) + `","n":{"code":"own"}}`,
		`{"id":"Bearer ` + secret + `"}`:                          `{"id":"` + r.Secret("Bearer "+secret) + `"}`,
		`{"query":"select token from t where password = 'x'"}`:    `{"query":"select token from t where password = 'x'"}`,
		`{"n":{"pass\u0077ord":{"a":["x",1.50,null,false]}}}`:     `{"n":{"pass\u0077ord":{"a":["` + r.Secret("x") + `","` + r.Secret("1.50") + `",null,"` + r.Secret("false") + `"]}}}`,
		`{"password":"password","x":"password"}`:                  `{"password":"` + r.Secret("password") + `","x":"password"}`,
		`{"text":"use ` + jwt + ` now"}`:                          `{"text":"use ` + r.Secret(jwt) + ` now"}`,
		`{"` + jwt + `":{"a":1}}`:                                 `{"` + r.Secret(jwt) + `":{"a":1}}`,
		`{"a":12345678901234567890123,"apiKey":"x","b":"\u003c"}`: `{"a":12345678901234567890123,"apiKey":"` + r.Secret("x") + `","b":"\u003c"}`,
		`{"max_tokens":5,"page_token":"p"}`:                       `{"max_tokens":5,"page_token":"p"}`,
		`{"a":`:                                                   ``, `{} x`: ``,
	} {
		if got := string(r.Arguments([]byte(in), hidden)); got != want {
			t.Errorf("%s\nbecame %s\n  want %s", in, got, want)
		}
	}
}

func TestAuthority(t *testing.T) {
	r := redactor(t)
	for in, want := range map[string]string{"": "", "h:80": "h:80", "u:" + secret + "@h": r.Secret("u:"+secret) + "@h", "a@" + secret + "@h": r.Secret("a@"+secret) + "@h"} {
		if got := r.Authority(in); got != want {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
	}
}

// Whatever the target, a parameter of a telling name is hidden and nothing
// panics; hiding twice changes nothing more.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{"/a?token=x", "/a;b?c#d&e", "%", "?=&;", "/%2574oken=1"} {
		f.Add(s)
	}
	r := redactor(f)
	f.Fuzz(func(t *testing.T, s string) {
		r.Target(s)
		got, _ := r.Target(s + "&token=" + secret)
		if strings.Contains(s, "?") && strings.Contains(got, secret) {
			t.Errorf("%q became %q", s, got)
		}
		r.Headers(call.Headers{{Name: s, Value: s}, {Name: "cookie", Value: s}, {Name: "set-cookie", Value: s}})
		if got := r.Headers(call.Headers{{Name: "cookie", Value: s + "; a=" + secret}})[0].Value; strings.Contains(got, secret) {
			t.Errorf("%q became %q", s, got)
		}
	})
}

func FuzzArguments(f *testing.F) {
	for _, s := range []string{`{"a":[1,{"password":"x"}]}`, `[[]]`, `"x"`, `{"token":{}}`, `{"k\u0065y":"sk-aaaaaaaaaaaaaaaaaaaaaaaaaa","b":[null,true,-1e5,"\"\\"]}`,
		"{\"a\":\"\xff\",\"\xff\":1}", `{"pass\"word":1,"x":{"secret":[1,null,{"a":"b"}]}}`, ` { "a" : [ ] , "b":{ } } `} {
		f.Add(s)
	}
	r := redactor(f)
	f.Fuzz(func(t *testing.T, s string) {
		out := r.Arguments([]byte(s), Hidden{names: []string{"a"}, values: []string{"b"}})
		if json.Valid([]byte(s)) != (len(out) > 0 && json.Valid(out)) {
			t.Errorf("%q became %q", s, out)
		}
		if v, err := json.Marshal(map[string]any{"password": s, "b": []any{s}}); err == nil && s != "" {
			var back struct{ Password string }
			if out := r.Arguments(v, Hidden{}); json.Unmarshal(out, &back) != nil || !strings.HasPrefix(back.Password, "hmac:") {
				t.Errorf("%s became %s", v, out)
			}
		}
	})
}

func BenchmarkRequest(b *testing.B) {
	r := redactor(b)
	h := call.Headers{{Name: "accept", Value: "application/json"}, {Name: "content-type", Value: "application/json"}, {Name: "user-agent", Value: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"},
		{Name: "traceparent", Value: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, {Name: "x-request-id", Value: "c0ffee00-0000-4000-8000-000000000000"}}
	args := []byte(`{"customer":"c-1","amount":500,"currency":"EUR","reason":"it came broken and late"}`)
	b.ReportAllocs()
	for b.Loop() {
		_, hidden := r.Target("/crm/customers/c-1/refunds?dry=1")
		r.Headers(h)
		r.Arguments(args, hidden)
	}
}

// A text of any length costs time in proportion to it.
func BenchmarkLong(b *testing.B) {
	r := redactor(b)
	for name, s := range map[string]string{"equals": strings.Repeat("=", 1<<20), "spaces": strings.Repeat("= ", 1<<19), "b": strings.Repeat("b", 1<<20), "text": strings.Repeat("some text ", 1<<17), "bearer": strings.Repeat("bearer ", 1<<17), "jwt": strings.Repeat("eyJ-", 1<<18), "pem": strings.Repeat("-----BEGIN A", 1<<16), "url": strings.Repeat("://a:", 1<<18)} {
		doc, err := json.Marshal(map[string]string{"a": s})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(s)))
			for b.Loop() {
				carries(s)
				r.Arguments(doc, Hidden{})
			}
		})
	}
}
