package mask

import "unicode/utf8"

// email looks for an address around the @ at i. Looking back costs at most the
// distance to the previous @ or match, so a text of nothing but @ stays linear.
func (s *scanner) email(i int) int {
	b := s.b
	start, floor := i, s.floor()
	for start > floor {
		c := b[start-1]
		if c < utf8.RuneSelf {
			if !isLocal(c) {
				break
			}
			start--
			continue
		}
		r, n := utf8.DecodeLastRune(b[floor:start])
		if !isWordRune(r) {
			break
		}
		start -= n
	}
	// Quotes, dots and dashes before an address belong to the prose around it.
	for start < i && !isAlnum(b[start]) && b[start] != '_' && b[start] < utf8.RuneSelf {
		start++
	}
	end := domainEnd(b, i+1)
	if start == i || end == 0 {
		return i + 1
	}
	return s.found(match{start: start, end: end, det: detEmail})
}

// isLocal tells whether c may be in the part before the @. RFC 5321 allows more:
// = & ? / { | } stay out, since addresses stand between them in URLs and code.
func isLocal(c byte) bool {
	switch c {
	case '.', '_', '-', '+', '%', '\'', '!', '#', '$', '*', '^', '~', '`':
		return true
	}
	return isAlnum(c)
}

// domainEnd returns the end of the domain name at i, or 0 if none is there.
func domainEnd(b []byte, i int) int {
	const most = 253 // RFC 1035
	start, label, labels, end := i, i, 0, 0
	for {
		for i < len(b) && i-start <= most {
			if isAlnum(b[i]) || b[i] == '-' {
				i++
				continue
			}
			r, n := utf8.DecodeRune(b[i:])
			if b[i] < utf8.RuneSelf || !isWordRune(r) {
				break
			}
			i += n
		}
		if i == label || b[label] == '-' {
			break
		}
		stop := i
		for b[stop-1] == '-' {
			stop--
		}
		labels++
		if labels > 1 && isTLD(b[label:stop]) {
			end = stop
		}
		if i+1 >= len(b) || b[i] != '.' || i-start > most {
			break
		}
		i++
		label = i
	}
	return end
}

// isTLD tells whether a label may end a domain name: letters, or an encoded
// international one; and no file extension, since logo@2x.png is a file.
func isTLD(label []byte) bool {
	if len(label) < 2 {
		return false
	}
	if len(label) > 4 && string(label[:4]) == "xn--" {
		return true
	}
	for _, c := range label {
		if c < utf8.RuneSelf && !isLetter(c) {
			return false
		}
	}
	switch string(label) {
	case "png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "css", "js", "ts", "json", "html":
		return false
	}
	return true
}
