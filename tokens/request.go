package tokens

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extauthz/identity"
)

// The identifiers of RFC 8693 §3 and §2.1.
const (
	grantExchange = "urn:ietf:params:oauth:grant-type:token-exchange"

	typeAccess = "urn:ietf:params:oauth:token-type:access_token"
	typeID     = "urn:ietf:params:oauth:token-type:id_token"
	typeJWT    = "urn:ietf:params:oauth:token-type:jwt"
	typeSAML2  = "urn:ietf:params:oauth:token-type:saml2"

	// resourcePrefix begins the URI of a connection (RFC 8707's resource).
	resourcePrefix = "urn:callgate:connection:"
)

// The error codes of RFC 6749 §5.2, RFC 8693 §2.2.2 and RFC 6749 §4.1.2.1.
const (
	invalidRequest   = "invalid_request"
	invalidGrant     = "invalid_grant"
	invalidScope     = "invalid_scope"
	invalidTarget    = "invalid_target"
	unsupportedGrant = "unsupported_grant_type"
	unavailable      = "temporarily_unavailable"
)

// fault is an error as RFC 6749 §5.2 has it.
type fault struct {
	code, description string
}

func (f *fault) Error() string { return f.description }

func no(code, format string, args ...any) *fault { return &fault{code, fmt.Sprintf(format, args...)} }

// request is a token exchange request (RFC 8693 §2.1).
type request struct {
	subject, subjectType string
	actor, actorType     string
	audiences            []string
	scope                call.Scope
	resources            call.Scope // the connections of the resources
}

// wanted is what the token is to be narrowed to: what scope and resource both
// cover, where both are there.
func (r *request) wanted() (call.Scope, *fault) {
	switch {
	case len(r.resources) == 0:
		return r.scope, nil
	case len(r.scope) == 0:
		return r.resources, nil
	case !r.resources.Includes(r.scope):
		return nil, no(invalidTarget, "the scope names connections that no resource does")
	}
	return r.scope, nil
}

const (
	maxForm   = 192 << 10 // bytes: two assertions in base64, form-encoded
	maxValues = 16        // of audience and of resource
)

// parse reads a form. It is strict, since what a parameter is worth that stands
// twice is anybody's guess.
func parse(form url.Values) (*request, *fault) {
	for name, values := range form {
		if name == "audience" || name == "resource" {
			if len(values) > maxValues {
				return nil, no(invalidRequest, "%s stands more than %d times", name, maxValues)
			}
			continue
		}
		// RFC 6749 §3.2: a parameter stands once; an empty one is not there.
		if len(values) > 1 {
			return nil, no(invalidRequest, "a parameter stands more than once")
		}
	}
	if grant := form.Get("grant_type"); grant == "" {
		return nil, no(invalidRequest, "grant_type is missing; want %s", grantExchange)
	} else if grant != grantExchange {
		return nil, no(unsupportedGrant, "the grant_type is not supported; want %s", grantExchange)
	}
	if t := form.Get("requested_token_type"); t != "" && t != typeAccess && t != typeJWT {
		return nil, no(invalidRequest, "requested_token_type is not supported; want %s", typeAccess)
	}
	r := &request{subject: form.Get("subject_token"), subjectType: form.Get("subject_token_type"), actor: form.Get("actor_token"), actorType: form.Get("actor_token_type")}
	types := []string{typeAccess, typeID, typeJWT, typeSAML2}
	switch {
	case r.subject == "":
		return nil, no(invalidRequest, "subject_token is missing")
	case !slices.Contains(types, r.subjectType):
		return nil, no(invalidRequest, "subject_token_type must be one of %s", strings.Join(types, ", "))
	case r.actor == "" && r.actorType != "":
		return nil, no(invalidRequest, "actor_token_type stands without actor_token")
	case r.actor != "" && !slices.Contains(types, r.actorType):
		return nil, no(invalidRequest, "actor_token_type must be one of %s", strings.Join(types, ", "))
	}
	for _, a := range form["audience"] {
		if a != "" && !slices.Contains(r.audiences, a) {
			r.audiences = append(r.audiences, a)
		}
	}
	if text := form.Get("scope"); text != "" {
		scope, err := call.ParseScope(text)
		if err != nil {
			return nil, no(invalidScope, "%v", printable(err))
		}
		r.scope = scope
	}
	var named []string
	for _, text := range form["resource"] {
		name, ours := strings.CutPrefix(text, resourcePrefix)
		if !ours || strings.ContainsAny(name, " \t\r\n") {
			return nil, no(invalidTarget, "a resource must be %sNAME", resourcePrefix)
		}
		named = append(named, name)
	}
	if len(named) > 0 {
		scope, err := call.ParseScope(strings.Join(named, " "))
		if err != nil {
			return nil, no(invalidTarget, "%v", printable(err))
		}
		r.resources = scope
	}
	return r, nil
}

// printable keeps an error within what RFC 6749 §5.2 allows a description.
func printable(err error) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == '"' || r == '\\' || r > '~' {
			return '\''
		}
		return r
	}, err.Error())
}

// form reads the request's body, and nothing of its query, where tokens would be
// logged.
func form(w http.ResponseWriter, r *http.Request) (url.Values, *fault) {
	if r.URL.RawQuery != "" {
		return nil, no(invalidRequest, "send the parameters in the body, not in the URL")
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("content-type")); err != nil || t != "application/x-www-form-urlencoded" {
		return nil, no(invalidRequest, "send application/x-www-form-urlencoded")
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return nil, no(invalidRequest, "the body is larger than %d bytes", maxForm)
		}
		return nil, no(invalidRequest, "the body can't be read as a form")
	}
	for name, values := range r.PostForm {
		if !utf8.ValidString(name) || slices.ContainsFunc(values, func(v string) bool { return !utf8.ValidString(v) }) {
			return nil, no(invalidRequest, "the body is not in UTF-8")
		}
	}
	return r.PostForm, nil
}

// refused is what an unusable token is to the one who sent it: RFC 8693 §2.2.2
// has invalid_request for it.
func refused(which string, err error) *fault {
	var known *identity.Error
	switch {
	case !errors.As(err, &known):
		return no(unavailable, "the %s can't be checked now; try again later", which)
	case known.Reason == call.ReasonIdentityUnavailable:
		return no(unavailable, "%s: %s", which, printable(known))
	}
	return no(invalidRequest, "%s: %s", which, printable(known))
}

// Handler answers POST /token, and what discovery needs: RFC 8414 and OpenID
// Connect Discovery 1.0, which decision servers read.
func (i *Issuer) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", i.token)
	mux.HandleFunc("/token", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("allow", http.MethodPost)
		answer(w, http.StatusMethodNotAllowed, map[string]string{"error": invalidRequest, "error_description": "use POST"})
	})
	metadata := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("cache-control", "public, max-age=300")
		answer(w, http.StatusOK, map[string]any{
			"issuer": i.cfg.Issuer, "token_endpoint": i.cfg.Issuer + "/token", "jwks_uri": i.cfg.Issuer + "/.well-known/jwks.json",
			"grant_types_supported": []string{grantExchange}, "response_types_supported": []string{}, "subject_types_supported": []string{"public"},
			"token_endpoint_auth_methods_supported": []string{"none"}, "id_token_signing_alg_values_supported": []string{"ES256"},
		})
	}
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", metadata)
	mux.HandleFunc("GET /.well-known/openid-configuration", metadata)
	mux.HandleFunc("GET /.well-known/jwks.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("cache-control", "public, max-age=300")
		answer(w, http.StatusOK, i.Keys())
	})
	return mux
}

func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("cache-control", "no-store") // RFC 6749 §5.1
	values, bad := form(w, r)
	var req *request
	if bad == nil {
		req, bad = parse(values)
	}
	var out *given
	if bad == nil {
		out, bad = i.exchange(r.Context(), req)
	}
	if bad != nil {
		i.cfg.Metrics.exchanges.WithLabelValues(bad.code).Inc()
		status := http.StatusBadRequest
		if bad.code == unavailable {
			status = http.StatusServiceUnavailable
		}
		answer(w, status, map[string]string{"error": bad.code, "error_description": bad.description})
		return
	}
	i.cfg.Metrics.exchanges.WithLabelValues("ok").Inc()
	answer(w, http.StatusOK, out)
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("content-type", "application/json")
	w.Header().Set("x-content-type-options", "nosniff")
	w.WriteHeader(status)
	// The caller having gone is nobody's fault.
	_ = json.NewEncoder(w).Encode(v)
}
