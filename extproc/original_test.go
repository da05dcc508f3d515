package extproc

import (
	"bytes"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extproc/sealed"
)

// What a mask hid is kept for an investigator, and for nobody else.
func TestOriginals(t *testing.T) {
	release, err := sealed.NewReleaseKey()
	if err != nil {
		t.Fatal(err)
	}
	investigator, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	to := []string{investigator.Recipient().String()}
	masked := `{"card":"` + card + `","n":1}`
	for name, tt := range map[string]struct {
		body string
		to   []string
		max  int64
		mask bool
		want string // the original; empty: none is kept
	}{
		"masked":               {masked, to, 1 << 10, true, masked},
		"nothing to hide":      {`{"n":1}`, to, 1 << 10, true, ""},
		"no mask":              {masked, to, 1 << 10, false, ""},
		"for nobody":           {masked, nil, 1 << 10, true, ""},
		"longer than recorded": {masked, to, 12, true, masked[:12]},
		"withheld":             {`{"card":`, to, 1 << 10, true, `{"card":`},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			b.server.cfg.Sealer = release
			meta := decided(call.HTTP)
			if tt.mask {
				meta = decided(call.HTTP, cards)
			}
			meta.Record.Originals, meta.Record.MaxBody = tt.to, tt.max
			b.run(t, exchange{mode: duplex, meta: meta, headers: jsonType, chunks: []string{tt.body[:5], tt.body[5:], ""}})
			b.stop()
			a := b.one(t)
			if (a.Original != nil) != (tt.want != "") {
				t.Fatalf("original %v", a.Original)
			}
			if a.Original == nil {
				return
			}
			if bytes.Contains(a.Original.Sealed, []byte(card)) {
				t.Error("the original can be read")
			}
			inner, err := release.Release(a.Original.Sealed, meta.CallID.String())
			if err != nil {
				t.Fatal(err)
			}
			o, err := sealed.Open(inner, strings.NewReader(investigator.String()), meta.CallID.String(), a.Original.Commitment)
			if err != nil || string(o.Body) != tt.want || o.Length != int64(len(tt.body)) || o.Type != "application/json" {
				t.Errorf("opened %+v, %v", o, err)
			}
		})
	}
}

// An original that should be kept and can't be is withheld with the response.
func TestOriginalCantBeSealed(t *testing.T) {
	release, err := sealed.NewReleaseKey()
	if err != nil {
		t.Fatal(err)
	}
	b := start(t)
	b.server.cfg.Sealer = release
	meta := decided(call.HTTP, cards)
	meta.Record.Originals = []string{"age1nobody"}
	got := b.run(t, exchange{mode: duplex, meta: meta, headers: jsonType, chunks: []string{`{"card":"` + card + `"}`, ""}})
	if strings.Contains(got.body, `"card"`) || strings.Contains(got.body, card) {
		t.Errorf("let through: %s", got.body)
	}
	b.quiet(t)
	if a := b.one(t); !strings.Contains(a.Withheld, "can't be sealed") || a.Original != nil {
		t.Errorf("recorded %+v", a)
	}
}
