package ff1

import (
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"

func numerals(s string) []uint16 {
	out := make([]uint16, len(s))
	for i := range s {
		out[i] = uint16(strings.IndexByte(alphabet, s[i]))
	}
	return out
}

// The samples that NIST publishes with SP 800-38G.
func TestSamples(t *testing.T) {
	const (
		k128 = "2B7E151628AED2A6ABF7158809CF4F3C"
		k192 = k128 + "EF4359D8D580AA4F"
		k256 = k192 + "7F036D6F04FC6A94"
		t10  = "39383736353433323130"
		t11  = "3737373770717273373737"
	)
	for i, c := range []struct {
		key   string
		radix int
		tweak string
		in    string
		out   string
	}{
		{k128, 10, "", "0123456789", "2433477484"},
		{k128, 10, t10, "0123456789", "6124200773"},
		{k128, 36, t11, "0123456789abcdefghi", "a9tv40mll9kdu509eum"},
		{k192, 10, "", "0123456789", "2830668132"},
		{k192, 10, t10, "0123456789", "2496655549"},
		{k192, 36, t11, "0123456789abcdefghi", "xbj3kv35jrawxv32ysr"},
		{k256, 10, "", "0123456789", "6657667009"},
		{k256, 10, t10, "0123456789", "1001623463"},
		{k256, 36, t11, "0123456789abcdefghi", "xs8a0azh2avyalyzuwd"},
	} {
		key, _ := hex.DecodeString(c.key)
		tweak, _ := hex.DecodeString(c.tweak)
		f, err := New(key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := f.Encrypt(c.radix, tweak, numerals(c.in))
		if err != nil || !slices.Equal(got, numerals(c.out)) {
			t.Errorf("sample %d: got %v, %v, want %v", i+1, got, err, numerals(c.out))
		}
		if back, err := f.Decrypt(c.radix, tweak, got); err != nil || !slices.Equal(back, numerals(c.in)) {
			t.Errorf("sample %d back: %v, %v", i+1, back, err)
		}
	}
}

// Every radix and length comes back, and keeps both.
func TestBack(t *testing.T) {
	f, err := New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, radix := range []int{2, 3, 10, 26, 36, 255, 256, 1000, 65536} {
		for n := 2; n < 70; n++ {
			x := make([]uint16, n)
			for i := range x {
				x[i] = uint16(rnd.IntN(radix))
			}
			y, err := f.Encrypt(radix, []byte("t"), x)
			if !Enough(radix, n) {
				if err == nil {
					t.Errorf("radix %d length %d is too small a domain, and was taken", radix, n)
				}
				continue
			}
			if err != nil {
				t.Fatalf("radix %d length %d: %v", radix, n, err)
			}
			z, err := f.Decrypt(radix, []byte("t"), y)
			if err != nil || !slices.Equal(x, z) || len(y) != n {
				t.Fatalf("radix %d: %v became %v became %v, %v", radix, x, y, z, err)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	f, err := New(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		radix int
		x     []uint16
	}{
		"five digits":         {10, make([]uint16, 5)},
		"radix 1":             {1, make([]uint16, 50)},
		"radix 65537":         {65537, make([]uint16, 50)},
		"a numeral too large": {10, []uint16{1, 2, 3, 4, 5, 10}},
		"too long":            {10, make([]uint16, MaxLen+1)},
		"nothing":             {10, nil},
	} {
		if _, err := f.Encrypt(c.radix, nil, c.x); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := New(make([]byte, 15)); err == nil {
		t.Error("a key of 15 bytes: taken")
	}
	if !Enough(10, 6) || Enough(10, 5) || !Enough(2, 20) || Enough(2, 19) {
		t.Error("a domain of a million is enough, a smaller one is not")
	}
}
