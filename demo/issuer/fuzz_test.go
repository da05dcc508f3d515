package issuer

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzTokenEndpoint: nobody gets a token by a form that has no right secret,
// password or code in it.
func FuzzTokenEndpoint(f *testing.F) {
	for _, form := range []string{
		"grant_type=client_credentials&client_id=ci-deploy",
		"grant_type=client_credentials&client_id=ci-deploy&client_secret=",
		"grant_type=client_credentials&client_id=desktop&client_secret=",
		"grant_type=authorization_code&client_id=desktop&code=x&code_verifier=y&redirect_uri=http://127.0.0.1/callback",
		"grant_type=refresh_token&client_id=desktop&refresh_token=x",
		"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=e30.e30.",
		"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token=x&subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token",
		"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&device_code=x&client_id=desktop",
		"grant_type=password&username=alice&password=x",
		"%zz;&&==",
	} {
		f.Add(form)
	}
	i, err := New(Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { i.next.Close() })
	f.Fuzz(func(t *testing.T, form string) {
		for _, c := range DemoClients() {
			if c.Secret != "" && strings.Contains(form, c.Secret) {
				return // the fuzzer has read the source
			}
		}
		r := httptest.NewRequest(http.MethodPost, i.URL()+"/oauth/token", strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		i.handler.ServeHTTP(w, r)
		if w.Code < 400 || strings.Contains(w.Body.String(), "access_token\":") {
			t.Errorf("%q: %d %s", form, w.Code, w.Body)
		}
	})
}

// FuzzLoginForm: whatever a page looks like, reading it ends, and its form's
// target is a URL or an error.
func FuzzLoginForm(f *testing.F) {
	for _, page := range []string{
		`<form action="/login"><input type="hidden" name="id" value="1"></form>`,
		`<form action="::"><input>`, `<form>`, `<p>no form`, ``, "<form action='http://other/\x00'>",
	} {
		f.Add(page)
	}
	from, err := url.Parse("http://127.0.0.1/login?id=1")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, page string) {
		action, fields, err := loginForm(&http.Response{
			StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(page)), Request: &http.Request{URL: from},
		})
		if err != nil {
			return
		}
		if u, err := url.Parse(action); err != nil || u.Scheme == "" || fields == nil {
			t.Errorf("%q: action %q, %v", page, action, err)
		}
	})
}
