package identity

import "testing"

// An address counts only if its issuer has verified it.
func TestEmail(t *testing.T) {
	for name, c := range map[string]struct {
		claims map[string]any
		want   string
	}{
		"verified":                   {map[string]any{"email": "ann@example.com", "email_verified": true}, "ann@example.com"},
		"verified, as a text":        {map[string]any{"email": "ann@example.com", "email_verified": "true"}, "ann@example.com"},
		"not verified":               {map[string]any{"email": "ann@example.com", "email_verified": false}, ""},
		"nothing said":               {map[string]any{"email": "ann@example.com"}, ""},
		"a number":                   {map[string]any{"email": "ann@example.com", "email_verified": 1.0}, ""},
		"an address that is no text": {map[string]any{"email": []any{"ann@example.com"}, "email_verified": true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.claims["sub"] = "00u1"
			id, bad := (&issuer{Issuer: Issuer{Subject: "sub"}}).read(c.claims)
			if bad != nil || id.Email != c.want {
				t.Errorf("got %q, %v; want %q", id.Email, bad, c.want)
			}
		})
	}
}
