package mask

import "unicode"

func isDigit(c byte) bool  { return c-'0' <= 9 }
func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isAlnum(c byte) bool  { return isDigit(c) || isLetter(c) }
func isHex(c byte) bool    { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }

// alnumAt tells whether there is a letter or digit at i.
func alnumAt(b []byte, i int) bool { return i >= 0 && i < len(b) && isAlnum(b[i]) }

func isNameByte(c byte) bool { return isLetter(c) || isDigit(c) || c == '_' || c == '-' || c >= 0x80 }

// isWordRune tells whether a character that is not ASCII may be a part of an
// address: a letter, or an accent on one, of the scripts that write words apart.
func isWordRune(r rune) bool { return r < 0x590 && (unicode.IsLetter(r) || unicode.IsMark(r)) }
