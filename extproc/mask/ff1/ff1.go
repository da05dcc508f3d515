// Package ff1 is FF1, the format-preserving encryption of NIST SP 800-38G: a
// numeral string becomes another one of the same length and radix, and back. No
// maintained library of it was to be had (docs/decisions); it is tested against
// NIST's own samples.
package ff1

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
)

// MinDomain is the least number of values that strings of a radix and length must
// have: SP 800-38G Rev. 1 asks for a million, below which guessing is feasible.
const MinDomain = 1_000_000

// MaxLen bounds a numeral string, in numerals.
const MaxLen = 4096

// Cipher encrypts numeral strings under one key. It is safe for concurrent use.
type Cipher struct{ block cipher.Block }

// New returns a Cipher for an AES key of 16, 24 or 32 bytes.
func New(key []byte) (*Cipher, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("ff1: %w", err)
	}
	return &Cipher{b}, nil
}

// Enough tells whether strings of n numerals in a radix can be encrypted.
func Enough(radix, n int) bool {
	return n >= 2 && n <= MaxLen && float64(n)*math.Log2(float64(radix)) >= math.Log2(MinDomain)-1e-9
}

// Encrypt returns the numeral string that stands for x, whose numerals are less
// than the radix (2 to 65536). The tweak need not be secret.
func (c *Cipher) Encrypt(radix int, tweak []byte, x []uint16) ([]uint16, error) {
	return c.run(radix, tweak, x, false)
}

// Decrypt undoes Encrypt.
func (c *Cipher) Decrypt(radix int, tweak []byte, x []uint16) ([]uint16, error) {
	return c.run(radix, tweak, x, true)
}

// run is algorithms 7 and 8 of SP 800-38G; the names are the standard's.
func (c *Cipher) run(radix int, tweak []byte, x []uint16, back bool) ([]uint16, error) {
	n := len(x)
	switch {
	case radix < 2 || radix > 1<<16:
		return nil, fmt.Errorf("ff1: radix %d is outside 2 to 65536", radix)
	case !Enough(radix, n):
		return nil, fmt.Errorf("ff1: strings of %d numerals in radix %d are too few or too long to encrypt", n, radix)
	case len(tweak) > 1<<16:
		return nil, fmt.Errorf("ff1: a tweak of %d bytes", len(tweak))
	}
	for _, d := range x {
		if int(d) >= radix {
			return nil, fmt.Errorf("ff1: a numeral of %d in radix %d", d, radix)
		}
	}
	u := n / 2
	v := n - u
	b := (int(math.Ceil(float64(v)*math.Log2(float64(radix)))) + 7) / 8
	// The power of the radix settles what rounding in the logarithm could spoil.
	if bits := new(big.Int).Sub(power(radix, v), big.NewInt(1)).BitLen(); (bits+7)/8 != b {
		b = (bits + 7) / 8
	}
	d := 4*((b+3)/4) + 4

	p := []byte{1, 2, 1, 0, 0, 0, 10, byte(u), 0, 0, 0, 0, 0, 0, 0, 0}
	p[3], p[4], p[5] = byte(radix>>16), byte(radix>>8), byte(radix)
	binary.BigEndian.PutUint32(p[8:], uint32(n))
	binary.BigEndian.PutUint32(p[12:], uint32(len(tweak)))

	q := make([]byte, (len(tweak)+1+b+15)/16*16)
	copy(q, tweak)

	numA, numB := value(x[:u], radix), value(x[u:], radix)
	modU, modV := power(radix, u), power(radix, v)
	y := new(big.Int)
	round := func(i int, half *big.Int) {
		q[len(q)-b-1] = byte(i)
		half.FillBytes(q[len(q)-b:])
		y.SetBytes(c.expand(p, q, d))
	}
	if !back {
		for i := range 10 {
			round(i, numB)
			m := modU
			if i%2 == 1 {
				m = modV
			}
			y.Add(y, numA).Mod(y, m)
			numA, numB = numB, new(big.Int).Set(y)
		}
	} else {
		for i := 9; i >= 0; i-- {
			round(i, numA)
			m := modU
			if i%2 == 1 {
				m = modV
			}
			y.Sub(numB, y).Mod(y, m)
			numB, numA = numA, new(big.Int).Set(y)
		}
	}
	out := make([]uint16, n)
	spell(numA, radix, out[:u])
	spell(numB, radix, out[u:])
	return out, nil
}

// expand is the standard's PRF over P and Q, drawn out to d bytes.
func (c *Cipher) expand(p, q []byte, d int) []byte {
	var r [16]byte
	c.block.Encrypt(r[:], p)
	for ; len(q) > 0; q = q[16:] {
		for k := range r {
			r[k] ^= q[k]
		}
		c.block.Encrypt(r[:], r[:])
	}
	s := append(make([]byte, 0, d+16), r[:]...)
	for j := uint64(1); len(s) < d; j++ {
		t := r
		for k := range 8 {
			t[8+k] ^= byte(j >> (56 - 8*k))
		}
		c.block.Encrypt(t[:], t[:])
		s = append(s, t[:]...)
	}
	return s[:d]
}

func power(radix, n int) *big.Int {
	return new(big.Int).Exp(big.NewInt(int64(radix)), big.NewInt(int64(n)), nil)
}

// value is the number that a numeral string spells, the first numeral weighing most.
func value(x []uint16, radix int) *big.Int {
	n, r := new(big.Int), big.NewInt(int64(radix))
	for _, d := range x {
		n.Mul(n, r).Add(n, big.NewInt(int64(d)))
	}
	return n
}

// spell writes n into all of out.
func spell(n *big.Int, radix int, out []uint16) {
	rest, r, d := new(big.Int).Set(n), big.NewInt(int64(radix)), new(big.Int)
	for i := len(out) - 1; i >= 0; i-- {
		rest.DivMod(rest, r, d)
		out[i] = uint16(d.Uint64())
	}
}
