package mask

import (
	"bytes"
	"testing"
)

// Words of eight bytes tell of each byte in each place what a loop over bytes does.
func TestWord(t *testing.T) {
	for place := range wordSize {
		for _, around := range []byte("a~ !\x00\xff\\") {
			for c := range 256 {
				b := bytes.Repeat([]byte{around}, wordSize)
				b[place] = byte(c)
				w := wordAt(b)
				for _, c := range []byte{byte(c), around} {
					if got, want := w.index(c), bytes.IndexByte(b, c); got != want {
						t.Fatalf("%q: the first %q is at %d, not %d", b, c, want, got)
					}
				}
				plain := true
				for _, c := range b {
					plain = plain && c >= 0x20 && c < 0x7F && foldClass[c] == 0
				}
				if w.plain() != plain {
					t.Fatalf("%q: plain is %v", b, !plain)
				}
			}
		}
	}
	if n := wordAt([]byte("abcdefgh")).index('x'); n != wordSize {
		t.Fatalf("what is not there is at %d", n)
	}
}
