package call

import "testing"

// One line a case: an entry of a list, somebody, and whether the entry names them.
func TestApproversInclude(t *testing.T) {
	who := func(issuer, subject string, groups ...string) Identity {
		return Identity{Issuer: issuer, Subject: subject, Groups: groups}
	}
	for _, c := range []struct {
		what   string
		people bool
		entry  string
		who    Identity
		want   bool
	}{
		{"a group", false, "platform", who("https://idp", "ann", "x", "platform"), true},
		{"a group in another case", false, "Platform", who("https://idp", "ann", "platform"), false},
		{"no group", false, "", who("https://idp", "ann", ""), false},
		{"an issuer's group", false, "https://idp|platform", who("https://idp", "ann", "platform"), true},
		{"such a group of another issuer", false, "https://idp|platform", who("https://k8s", "sa", "platform"), false},
		{"a group that is spelt like an issuer's", false, "https://idp|platform", who("https://k8s", "sa", "https://idp|platform"), false},
		{"that one with its issuer", false, "https://k8s|https://idp|platform", who("https://k8s", "sa", "https://idp|platform"), true},
		{"of an issuer that is a URN", false, "urn:idp|platform", who("https://k8s", "sa", "urn:idp|platform"), false},
		{"of nobody", false, "|platform", who("", "ann", "platform"), false},
		{"somebody", true, "ann", who("https://idp", "ann"), true},
		{"an issuer's somebody", true, "https://idp|ann", who("https://idp", "ann"), true},
		{"a namesake", true, "https://idp|ann", who("https://other", "ann"), false},
		{"a name that is spelt like an issuer's", true, "https://idp|ann", who("https://other", "https://idp|ann"), false},
		{"a name with a bar", true, "auth0|7", who("https://x.auth0.com/", "auth0|7"), true},
		{"nobody", true, "", who("https://idp", ""), false},
		{"a group is nobody's name", true, "platform", who("https://idp", "ann", "platform"), false},
	} {
		list := Approvers{Groups: []string{c.entry}}
		if c.people {
			list = Approvers{People: []string{c.entry}}
		}
		if got := list.Include(c.who); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}
