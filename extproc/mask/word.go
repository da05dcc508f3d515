package mask

import (
	"encoding/binary"
	"math/bits"
)

// word is eight bytes of text that are looked at together, the first one lowest.
type word uint64

const (
	wordSize = 8

	eachByte word = 0x0101010101010101
	highBits word = 0x80 * eachByte
)

func wordAt(b []byte) word { return word(binary.LittleEndian.Uint64(b)) }

// zeros has the high bit of the first byte that is zero, if there is one; those of
// bytes behind it may be wrong.
func (w word) zeros() word { return (w - eachByte) &^ w & highBits }

// index returns the place of the first byte c, or wordSize.
func (w word) index(c byte) int {
	return bits.TrailingZeros64(uint64((w ^ word(c)*eachByte).zeros())) / 8
}

// plain tells that all are printable ASCII and none a backslash: what foldClass
// does not mark, but for white space.
func (w word) plain() bool {
	const space, del, backslash = 0x20 * eachByte, 0x7F * eachByte, '\\' * eachByte
	control := (w - space) &^ w
	return (w|control|(w^del).zeros()|(w^backslash).zeros())&highBits == 0
}
