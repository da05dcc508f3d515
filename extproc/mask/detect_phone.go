package mask

import (
	"slices"

	"github.com/nyaruka/phonenumbers"
)

// phoneRegion tells whether a region's own way of writing numbers is known.
func phoneRegion(region string) bool { return phonenumbers.GetSupportedRegions()[region] }

// Digits of a telephone number with its country code (ITU-T E.164), and of one
// that a name announces.
const (
	minPhone     = 8
	maxPhone     = 15
	minAnnounced = 7
)

// phoneEnd reads digits in groups as telephone numbers are written, from i on,
// and returns the end of the last and how many there are. opened is how many
// parentheses stand open before them: one that was not opened ends the number.
func phoneEnd(b []byte, i, opened int) (end, digits, groups int, text [maxPhone + 1]byte) {
	for j := i; j < len(b); {
		from := j
		for j < len(b) && isDigit(b[j]) {
			if digits == maxPhone {
				return end, maxPhone + 1, groups, text
			}
			text[digits] = b[j]
			digits++
			j++
		}
		if j > from {
			end = j
			groups++
		}
		next, open := phoneGap(b, j, opened)
		if next == j || open < 0 || next >= len(b) || !isDigit(b[next]) {
			break
		}
		j, opened = next, open
	}
	return end, digits, groups, text
}

// phoneGap returns the end of what parts two groups of digits, up to three signs,
// and how many parentheses are open there: less than none if one closes that was
// not opened.
func phoneGap(b []byte, i, opened int) (end, open int) {
	for end = i; end < len(b) && end-i < 3 && opened >= 0; end++ {
		switch b[end] {
		case '(':
			opened++
		case ')':
			opened--
		case ' ', '-', '.', '/':
		default:
			return end, opened
		}
	}
	return end, opened
}

// international looks for a number with its country code after the + at i.
func (s *scanner) international(i int) int {
	b := s.b
	if i > 0 && (isAlnum(b[i-1]) || b[i-1] == '+') {
		return i + 1
	}
	j, opened := i+1, 0
	for j < len(b) && (b[j] == ' ' || b[j] == '(') && j-i < 3 {
		if b[j] == '(' {
			opened++
		}
		j++
	}
	if j >= len(b) || b[j] < '1' || b[j] > '9' {
		return i + 1
	}
	end, digits, _, text := phoneEnd(b, j, opened)
	if digits < minPhone || digits > maxPhone || alnumAt(b, end) {
		return i + 1
	}
	if !validPhone("+"+string(text[:digits]), phonenumbers.UNKNOWN_REGION) {
		return i + 1
	}
	return s.found(match{start: i, end: end, det: detPhone})
}

// telephone looks for a number without its country code at the digit at i: one
// that a name announces, or that is written in groups as in one of the regions.
func (s *scanner) telephone(i int) (from, to int) {
	b := s.b
	from = i
	if from > 0 && b[from-1] == '(' {
		from--
	}
	if from > 0 && (isAlnum(b[from-1]) || b[from-1] == '_' || (b[from-1] == '-' || b[from-1] == '.' || b[from-1] == '/') && from > 1 && isAlnum(b[from-2])) {
		return 0, 0
	}
	if from < s.floor() {
		return 0, 0
	}
	end, digits, groups, text := phoneEnd(b, i, i-from)
	if digits < minAnnounced || digits > maxPhone || alnumAt(b, end) || at(b, end) == '_' || at(b, end) == ':' {
		return 0, 0
	}
	if s.announced(i).has(detPhone) {
		return from, end
	}
	if groups < 2 && text[0] != '0' || digits < 9 || dated(b[i:end]) {
		return 0, 0 // some number
	}
	if slices.ContainsFunc(s.e.regions, func(r string) bool { return validPhone(string(text[:digits]), r) }) {
		return from, end
	}
	return 0, 0
}

// dated tells whether a text begins as a date or time does.
func dated(b []byte) bool {
	return len(b) >= 8 && (b[4] == '-' || b[4] == '/' || b[4] == '.') && (b[7] == '-' || b[7] == '/' || b[7] == '.') ||
		len(b) >= 8 && (b[2] == '.' || b[2] == '/' || b[2] == '-') && b[5] == b[2]
}

// validPhone asks the numbering plan.
func validPhone(number, region string) bool {
	n, err := phonenumbers.Parse(number, region)
	return err == nil && phonenumbers.IsValidNumber(n)
}
