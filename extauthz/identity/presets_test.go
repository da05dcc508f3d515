package identity

import (
	"testing"

	"github.com/callgate/callgate/call"
)

// One line a sample: what a provider's token says, as its documentation shows
// it, and the identity that it makes. The mapping is config's preset, repeated
// here as the rooms don't know each other; test/e2e holds the two together.
func TestProviderTokens(t *testing.T) {
	for _, c := range []struct {
		provider              string
		subject, groups, kind string // where the claims are
		require               map[string][]string
		claims                map[string]any
		want                  string // subject, or "" for a refusal
		wantGroups            []string
	}{
		{"okta", "sub", "groups", "kind", nil, map[string]any{"ver": 1, "cid": "0oa1", "uid": "00u1", "scp": []any{"openid"}, "sub": "ann@example.com", "groups": []any{"Everyone", "support"}}, "ann@example.com", []string{"Everyone", "support"}},
		{"entra v2", "oid", "groups", "kind", nil, map[string]any{"ver": "2.0", "tid": "t", "oid": "000-ann", "sub": "pairwise", "groups": []any{"g-1"}, "azp": "app"}, "000-ann", []string{"g-1"}},
		{"entra, too many groups", "oid", "groups", "kind", nil, map[string]any{"oid": "000-ann", "_claim_names": map[string]any{"groups": "src1"}, "_claim_sources": map[string]any{"src1": map[string]any{"endpoint": "https://graph"}}}, "", nil},
		{"entra, roles instead", "oid", "roles", "kind", nil, map[string]any{"oid": "000-ann", "roles": []any{"Admin"}, "_claim_names": map[string]any{"groups": "src1"}}, "000-ann", []string{"Admin"}},
		{"google", "email", "groups", "kind", map[string][]string{"hd": {"example.com"}, "email_verified": {"true"}}, map[string]any{"sub": "117", "email": "ann@example.com", "email_verified": true, "hd": "example.com"}, "ann@example.com", nil},
		{"google, another domain", "email", "groups", "kind", map[string][]string{"hd": {"example.com"}}, map[string]any{"email": "eve@evil.com", "hd": "evil.com"}, "", nil},
		{"google, no domain", "email", "groups", "kind", map[string][]string{"hd": {"example.com"}}, map[string]any{"email": "eve@gmail.com"}, "", nil},
		{"auth0", "sub", "permissions", "kind", nil, map[string]any{"sub": "auth0|64", "permissions": []any{"read:x"}, "azp": "c", "scope": "openid"}, "auth0|64", []string{"read:x"}},
		{"auth0, a namespaced claim", "sub", "https://corp.example/groups", "kind", nil, map[string]any{"sub": "auth0|64", "https://corp.example/groups": []any{"a"}}, "auth0|64", []string{"a"}},
		{"keycloak", "sub", "realm_access.roles", "kind", nil, map[string]any{"sub": "f1", "preferred_username": "ann", "realm_access": map[string]any{"roles": []any{"support", "offline_access"}}}, "f1", []string{"support", "offline_access"}},
		{"github", "sub", "repository", "kind", map[string][]string{"repository_owner": {"acme"}}, map[string]any{"sub": "repo:acme/app:ref:refs/heads/main", "repository": "acme/app", "repository_owner": "acme", "ref": "refs/heads/main", "environment": "prod", "job_workflow_ref": "acme/app/.github/workflows/x.yml@refs/heads/main"}, "repo:acme/app:ref:refs/heads/main", []string{"acme/app"}},
		{"github, a stranger's repository", "sub", "repository", "kind", map[string][]string{"repository_owner": {"acme"}}, map[string]any{"sub": "repo:acme-evil/app:ref:refs/heads/main", "repository_owner": "acme-evil"}, "", nil},
		{"gitlab", "sub", "project_path", "kind", map[string][]string{"namespace_path": {"acme", "acme/*"}}, map[string]any{"sub": "project_path:acme/app:ref_type:branch:ref:main", "project_path": "acme/app", "namespace_path": "acme", "pipeline_source": "push"}, "project_path:acme/app:ref_type:branch:ref:main", []string{"acme/app"}},
		{"kubernetes", "sub", "kubernetes.io.namespace", "kind", nil, map[string]any{"sub": "system:serviceaccount:payments:api", "kubernetes.io": map[string]any{"namespace": "payments", "pod": map[string]any{"name": "api-7"}, "serviceaccount": map[string]any{"name": "api"}}}, "system:serviceaccount:payments:api", []string{"payments"}},
	} {
		t.Run(c.provider, func(t *testing.T) {
			r := newRig(t, func(i *Issuer) { i.Subject, i.Groups, i.Kind, i.Require = c.subject, c.groups, c.kind, c.require })
			id, err := r.Verify(t.Context(), r.rs.token(t, r.claims(c.claims)))
			if c.want == "" {
				refusedAs(t, "", id, err, call.ReasonInvalidToken)
				return
			}
			if err != nil || id.Subject != c.want || len(id.Groups) != len(c.wantGroups) || len(id.Groups) > 0 && id.Groups[0] != c.wantGroups[0] {
				t.Errorf("%+v, %v", id, err)
			}
		})
	}
}
