package xds

import (
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// FuzzSelector: what is read says itself again, and picks no node without a name.
func FuzzSelector(f *testing.F) {
	for _, s := range []string{"id=edge-*", "track=canary,cluster=a", "id=[", "=x", "a=b,", "id=*", " id = x ", "id=a,id=b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSelector(text)
		if err != nil {
			return
		}
		if len(s) == 0 || s.Matches(&corev3.Node{}) {
			t.Errorf("%q picks a node of no name", text)
		}
		again, err := ParseSelector(s.String())
		if err != nil || again.String() != s.String() {
			t.Errorf("%q says %q, which reads as %q, %v", text, s, again, err)
		}
	})
}
