package mask

import "testing"

// What is said to be text may be a page or an XML document, and is masked as that.
func TestActual(t *testing.T) {
	const text, page, doc = "text/plain", "text/html", "application/xml"
	for _, tt := range []struct {
		media, head string
		all         bool
		want        string
	}{
		{text, `<?xml version="1.0"?><r/>`, true, doc},
		{text, "\xef\xbb\xbf\n<r a='1'><b>x</b></r>\n", true, doc},
		{"", `<s:r xmlns:s="u"><b>x`, false, doc},
		{text, `<?xml version="1.0"?><r><b></r>`, true, doc}, // and refused there
		{"text/csv", `<r><b>x</b></r>`, true, doc},
		{"text/calendar", `<r><b>x</b></r>`, true, doc},
		{page, `<?xml version="1.0"?><r/>`, true, doc},
		{page, `<r><b/></r>`, true, page},
		{page, `<?xml version="1.0"?><!DOCTYPE html><html/>`, true, page},
		{"application/xhtml+xml", `<?xml version="1.0"?><html xmlns="u"><p/></html>`, true, "application/xhtml+xml"},
		{text, "<!doctype html><p>x", true, page},
		{text, "<!DOCTYPE r [<!ENTITY a \"b\">]><r>&a;</r>", true, doc}, // and refused there,
		{text, "<html><p>x<br>", true, page},
		{text, "<P>x<br>y", true, page},
		{text, "<DIV>x", false, page},

		{text, "a < b", true, text},
		{text, "<jane@example.com> wrote", true, text},
		{text, "<134>Nov 26 17:00:00 host", true, text},
		{text, "<a>x</a> <b>y</b>", true, text},
		{text, "<a>x</a>\n<a>y</a>\n", false, text},
		{text, "<a>x", true, text},
		{text, "<a>x</b>", true, text},
		{text, "<", true, text},
		{text, "", true, text},
		{"application/json", "<r/>", true, "application/json"},
		{"application/xml", "<html/>", true, "application/xml"},
	} {
		if got := Actual(tt.media, []byte(tt.head), tt.all); got != tt.want {
			t.Errorf("%s %q: %s, want %s", tt.media, tt.head, got, tt.want)
		}
	}
}
