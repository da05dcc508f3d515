package sealed

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"filippo.io/age"
)

const callID = "01935b5e-7f6a-7c1e-9d3b-2f1f0a9c8b7d"

type keys struct {
	release      *ReleaseKey
	investigator *age.X25519Identity
}

func newKeys(t testing.TB) keys {
	t.Helper()
	release, err := NewReleaseKey()
	if err != nil {
		t.Fatal(err)
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return keys{release, id}
}

func (k keys) seal(t testing.TB, o Original) ([]byte, [32]byte) {
	t.Helper()
	blob, commitment, err := k.release.Seal(o, []string{k.investigator.Recipient().String()})
	if err != nil {
		t.Fatal(err)
	}
	return blob, commitment
}

func (k keys) open(blob []byte, call string, commitment [32]byte) (Original, error) {
	inner, err := k.release.Release(blob, call)
	if err != nil {
		return Original{}, err
	}
	return Open(inner, strings.NewReader(k.investigator.String()), call, commitment)
}

func TestSealedAndOpened(t *testing.T) {
	k := newKeys(t)
	for _, body := range []string{"", `{"card":"4111111111111111"}`, "two\nlines\n", strings.Repeat("x", 200_000)} {
		o := Original{Call: callID, Type: "application/json", Encoding: "gzip", Length: int64(len(body)), Body: []byte(body)}
		blob, commitment := k.seal(t, o)
		if body != "" && bytes.Contains(blob, []byte(body[:min(len(body), 16)])) {
			t.Error("the original can be read in what was sealed")
		}
		got, err := k.open(blob, callID, commitment)
		if err != nil || !bytes.Equal(got.Body, o.Body) || got.Type != o.Type || got.Encoding != o.Encoding || got.Length != o.Length {
			t.Errorf("opened %+v, %v", got, err)
		}
	}
	a, ca := k.seal(t, Original{Call: callID, Body: []byte("1")})
	b, cb := k.seal(t, Original{Call: callID, Body: []byte("1")})
	if bytes.Equal(a, b) || ca == cb {
		t.Error("equal originals look equal from outside")
	}
}

// Neither key alone opens anything, and nothing else passes for the original.
func TestOpenRefuses(t *testing.T) {
	k, other := newKeys(t), newKeys(t)
	blob, commitment := k.seal(t, Original{Call: callID, Length: 1, Body: []byte("1")})
	inner, err := k.release.Release(blob, callID)
	if err != nil {
		t.Fatal(err)
	}
	forged, _ := k.seal(t, Original{Call: callID, Length: 1, Body: []byte("2")})
	wrong := commitment
	wrong[0]++
	flipped := bytes.Clone(blob)
	flipped[len(flipped)-1]++
	own := func() *strings.Reader { return strings.NewReader(k.investigator.String()) }
	for name, got := range map[string]func() (Original, error){
		"without the release": func() (Original, error) { return Open(blob, own(), callID, commitment) },
		"by the release key alone": func() (Original, error) {
			return Open(inner, strings.NewReader(k.release.Secret()), callID, commitment)
		},
		"another investigator": func() (Original, error) {
			return Open(inner, strings.NewReader(other.investigator.String()), callID, commitment)
		},
		"another release key": func() (Original, error) { return other.open(blob, callID, commitment) },
		"a changed bit":       func() (Original, error) { return k.open(flipped, callID, commitment) },
		"cut short":           func() (Original, error) { return k.open(blob[:len(blob)-20], callID, commitment) },
		"nothing":             func() (Original, error) { return k.open(nil, callID, commitment) },
		"no key":              func() (Original, error) { return Open(inner, strings.NewReader(""), callID, commitment) },
		"another original":    func() (Original, error) { return k.open(forged, callID, commitment) },
		"another commitment":  func() (Original, error) { return k.open(blob, callID, wrong) },
		"of another call":     func() (Original, error) { return k.open(blob, "01935b5e-7f6a-7c1e-9d3b-000000000000", commitment) },
	} {
		o, err := got()
		if err == nil || o.Body != nil {
			t.Errorf("%s: opened %q", name, o.Body)
		}
		if err != nil && (strings.Contains(err.Error(), k.investigator.String()) || strings.Contains(err.Error(), k.release.Secret())) {
			t.Errorf("%s: a key in %q", name, err)
		}
	}
	// One call's original, put in the place of another's, is not even released.
	if inner, err := k.release.Release(blob, "01935b5e-7f6a-7c1e-9d3b-000000000000"); !errors.Is(err, ErrOther) || inner != nil {
		t.Errorf("released for another call: %v", err)
	}
	if _, err := k.open(forged, callID, commitment); !errors.Is(err, ErrOther) {
		t.Errorf("a forged original: %v", err)
	}
}

func TestRecipients(t *testing.T) {
	k := newKeys(t)
	for text, want := range map[string]string{
		"":                                       "is no age X25519 public key",
		"age1xyz":                                "is no age X25519 public key",
		"ssh-ed25519 AAAA":                       "is no age X25519 public key",
		k.investigator.String():                  "the gateway must not have it",
		strings.ToLower(k.investigator.String()): "the gateway must not have it",
	} {
		err := CheckRecipients([]string{text})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(strings.ToUpper(err.Error()), k.investigator.String()) {
			t.Errorf("%.12q: %v", text, err)
		}
	}
	if err := CheckRecipients(nil); err == nil {
		t.Error("sealed for nobody")
	}
	if _, err := ParseReleaseKey(k.investigator.Recipient().String()); err == nil {
		t.Error("a public key as release key")
	}
	again, err := ParseReleaseKey(k.release.Secret() + "\n")
	if err != nil || again.Public() != k.release.Public() {
		t.Errorf("read again: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	k := newKeys(f)
	blob, commitment := k.seal(f, Original{Call: callID, Length: 1, Body: []byte("1")})
	f.Add(blob)
	f.Add([]byte("age-encryption.org/v1\n"))
	f.Add([]byte(magic + "{}\nx"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if o, err := k.open(data, callID, commitment); err == nil && string(o.Body) != "1" {
			t.Errorf("opened %q", o.Body)
		}
		if o, key, err := parse(data); err == nil {
			_ = commit(key, o)
		}
	})
}
