package link

import (
	"bytes"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"
)

func signer(t testing.TB, fill byte) *Signer {
	t.Helper()
	s, err := New("https://gate.example/", bytes.Repeat([]byte{fill}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A link leads where it was made to lead, until it ends; nothing of it can be
// changed. A further attempt is one line.
func TestLinks(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	s := signer(t, 1)
	made := s.To("apr_abc", now.Add(time.Hour))
	if !strings.HasPrefix(made, "https://gate.example/a/apr_abc?e=1800003600&s=") {
		t.Fatalf("made %s", made)
	}
	other := signer(t, 2).To("apr_abc", now.Add(time.Hour))
	for name, c := range map[string]struct {
		link string
		at   time.Time
		want error
	}{
		"as made":               {made, now, nil},
		"the last second":       {made, now.Add(time.Hour - time.Second), nil},
		"at its end":            {made, now.Add(time.Hour), ErrExpired},
		"long after":            {made, now.Add(1000 * time.Hour), ErrExpired},
		"another approval":      {strings.Replace(made, "apr_abc", "apr_abd", 1), now, ErrForged},
		"in capitals":           {strings.Replace(made, "apr_abc", "APR_ABC", 1), now, ErrForged},
		"a later end":           {strings.Replace(made, "e=1800003600", "e=1900003600", 1), now, ErrForged},
		"an end written anew":   {strings.Replace(made, "e=1800003600", "e=%2B1800003600", 1), now, ErrForged},
		"no end":                {strings.Replace(made, "e=1800003600&", "", 1), now, ErrForged},
		"two ends":              {made + "&e=1900003600", now, ErrForged},
		"two signatures":        {made + "&s=x", now, ErrForged},
		"no signature":          {made[:strings.Index(made, "&s=")], now, ErrForged},
		"an empty signature":    {made[:strings.Index(made, "&s=")+3], now, ErrForged},
		"a shorter signature":   {made[:len(made)-1], now, ErrForged},
		"moved id and end":      {strings.Replace(strings.Replace(made, "apr_abc", "apr_abc1", 1), "e=1800003600", "e=800003600", 1), now, ErrForged},
		"of another gateway":    {other, now, ErrForged},
		"expired and forged":    {strings.Replace(made, "e=1800003600", "e=1", 1), now, ErrForged},
		"something after it":    {made + "&next=https://evil.example", now, nil},
		"the signature of none": {"https://gate.example/a/apr_abc?e=&s=", now, ErrForged},
	} {
		t.Run(name, func(t *testing.T) {
			u, err := url.Parse(c.link)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Check(strings.TrimPrefix(u.Path, Path), u.Query(), c.at); !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
				t.Errorf("%s: got %v, want %v", c.link, err, c.want)
			}
		})
	}
	if _, err := New("https://gate.example", []byte("short")); err == nil {
		t.Error("took a short key")
	}
}

func FuzzCheck(f *testing.F) {
	s := signer(f, 1)
	now := time.Unix(1_800_000_000, 0)
	u, err := url.Parse(s.To("apr_abc", now.Add(time.Hour)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("apr_abc", u.RawQuery)
	f.Add("apr_abc", "e=1800003600&s=")
	f.Add("", "e=&s=&e=%zz")
	f.Fuzz(func(t *testing.T, approval, query string) {
		q, _ := url.ParseQuery(query)
		if s.Check(approval, q, now) == nil && (approval != "apr_abc" || q.Get("e") != u.Query().Get("e") || q.Get("s") != u.Query().Get("s")) {
			t.Errorf("took %q %q", approval, query)
		}
	})
}
