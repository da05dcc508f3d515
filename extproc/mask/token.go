package mask

import (
	"crypto/hmac"
	"crypto/sha256"
	"math/big"

	"github.com/callgate/callgate/extproc/mask/ff1"
)

// tokenCipher is keyed from the key of hashes, so that one never tells of the other.
func tokenCipher(hashKey []byte) *ff1.Cipher {
	mac := hmac.New(sha256.New, hashKey)
	mac.Write([]byte("callgate mask token 1"))
	c, err := ff1.New(mac.Sum(nil))
	if err != nil {
		panic("mask: " + err.Error()) // 32 bytes are an AES key
	}
	return c
}

// maxToken bounds what becomes a token, in letters and digits.
const maxToken = 256

// token returns another value of the same form: each digit a digit, each letter a
// letter of the same case, all else as it is. It is nil where the form leaves less
// than a million values, or where there are letters that are not ASCII: redact.
//
// A card's last digit is then wrong by one on purpose: a token must not pass for a
// card anywhere. The name of an e-mail's top-level domain stays, so that a token
// is not an address of somebody else's by more than chance; it is no address to
// send to.
func (m *Masker) token(d detector, value []byte) []byte {
	end := len(value)
	if d == detEmail {
		end = lastIndexByte(value, '.')
	}
	card := d == detCard
	var at []int // of what changes
	digits := true
	for i, c := range value[:end] {
		switch {
		case isAlnum(c):
			at = append(at, i)
			digits = digits && isDigit(c)
		case c >= 0x80 || c < ' ':
			return nil
		}
	}
	if card {
		at = at[:len(at)-1]
	}
	if len(at) > maxToken {
		return nil
	}
	out := append([]byte(nil), value...)
	if digits {
		if !m.tokenDigits(out, at) {
			return nil
		}
	} else if !m.tokenMixed(out, at) {
		return nil
	}
	if card {
		all := keep(out, isDigit, 0)
		for i := range all {
			all[i] -= '0'
		}
		last := len(all) - 1
		for all[last] = 0; !luhn(all); all[last]++ {
			if all[last] == 9 {
				return nil // all zeros
			}
		}
		i := len(out) - 1
		for !isDigit(out[i]) {
			i--
		}
		out[i] = '0' + (all[last]+1)%10
	}
	return out
}

// tokenDigits encrypts the digits at these places of b.
func (m *Masker) tokenDigits(b []byte, at []int) bool {
	if !ff1.Enough(10, len(at)) {
		return false
	}
	x := make([]uint16, len(at))
	for k, i := range at {
		x[k] = uint16(b[i] - '0')
	}
	y, err := m.cipher.Encrypt(10, nil, x)
	if err != nil {
		return false
	}
	for k, i := range at {
		b[i] = '0' + byte(y[k])
	}
	return true
}

// tokenMixed encrypts letters and digits together: as the number that they spell
// in the mixed radix of their places, in binary, again and again until it is a
// number of that form (cycle walking, less than two rounds on average).
func (m *Masker) tokenMixed(b []byte, at []int) bool {
	domain, n := big.NewInt(1), new(big.Int)
	for _, i := range at {
		base, radix := placeOf(b[i])
		r := big.NewInt(int64(radix))
		domain.Mul(domain, r)
		n.Mul(n, r).Add(n, big.NewInt(int64(b[i]-base)))
	}
	if domain.Cmp(big.NewInt(ff1.MinDomain)) < 0 {
		return false
	}
	bits := make([]uint16, new(big.Int).Sub(domain, big.NewInt(1)).BitLen())
	if !ff1.Enough(2, len(bits)) {
		return false
	}
	for tries := 0; ; tries++ {
		for k := range bits {
			bits[k] = uint16(n.Bit(len(bits) - 1 - k))
		}
		y, err := m.cipher.Encrypt(2, nil, bits)
		if err != nil || tries == 1000 {
			return false
		}
		n.SetInt64(0)
		for _, bit := range y {
			n.Lsh(n, 1).Or(n, big.NewInt(int64(bit)))
		}
		if n.Cmp(domain) < 0 {
			break
		}
	}
	digit := new(big.Int)
	for k := len(at) - 1; k >= 0; k-- {
		base, radix := placeOf(b[at[k]])
		n.DivMod(n, big.NewInt(int64(radix)), digit)
		b[at[k]] = base + byte(digit.Uint64())
	}
	return true
}

// placeOf is the class of a letter or digit: its first character, and how many
// there are.
func placeOf(c byte) (base byte, radix int) {
	switch {
	case isDigit(c):
		return '0', 10
	case c >= 'a':
		return 'a', 26
	}
	return 'A', 26
}
