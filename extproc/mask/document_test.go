package mask

import (
	"bytes"
	"encoding/base64"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

func documents(t testing.TB) *Masker {
	return mustCompile(t, Spec{Rules: []Rule{
		{Name: "all", Detect: []string{"card", "email"}},
		{Name: "key", Keys: []string{"password"}},
		{Name: "path", Paths: []string{"customer.name", "customer.item[1].x", "a.b", "**.deep", "[*].name"}, How: Hash},
		{Name: "drop", Paths: []string{"customer.gone", "gone"}, How: Drop},
		{Name: "tail", Paths: []string{"customer.tail", "tail"}, How: Partial},
	}})
}

// Each line is a document and what becomes of it; empty: it is refused.
func TestDocuments(t *testing.T) {
	const card = "4111111111111111"
	m := documents(t)
	hashOf := func(s string) string { return string(m.hash([]byte(s))) }
	for _, tt := range []struct{ contentType, in, want string }{
		// XML: text, attributes, CDATA, references, comments between.
		{"text/xml", `<a>` + card + `</a>`, `<a>[redacted:card]</a>`},
		{"application/xml", `<?xml version="1.0"?><a x="` + card + `" y='jane@example.com' z="1"/>`, `<?xml version="1.0"?><a x="[redacted:card]" y='[redacted:email]' z="1"/>`},
		{"application/atom+xml", `<a>4111&#49;1111111&#x31;111</a>`, `<a>[redacted:card]</a>`},
		{"text/xml", `<a><![CDATA[` + card + `]]></a>`, `<a><![CDATA[[redacted:card]]]></a>`},
		{"text/xml", `<a>4111<!-- x -->1111<![CDATA[1111]]>1111</a>`, `<a>[redacted:card]<!-- x --><![CDATA[]]></a>`},
		{"text/xml", `<a>jane&#64;example.com &amp; co</a>`, `<a>[redacted:email] &amp; co</a>`},
		{"text/xml", `<a><!-- ` + card + ` --><?pi ` + card + `?></a>`, `<a><!-- [redacted:card] --><?pi [redacted:card]?></a>`},
		{"text/xml", `<r><password>x</password><Pass_word a="1"><b>y</b></Pass_word></r>`, `<r><password>[redacted]</password><Pass_word a="[redacted]">[redacted]</Pass_word></r>`},
		{"text/xml", `<r password="x" a="b"/>`, `<r password="[redacted]" a="b"/>`},
		{"text/xml", `<customer><name>Ann</name><n:name xmlns:n="u">Bob</n:name></customer>`, `<customer><name>` + hashOf("Ann") + `</name><n:name xmlns:n="` + hashOf("u") + `">` + hashOf("Bob") + `</n:name></customer>`},
		{"text/xml", `<customer><item><x>1</x></item><item><x>2</x></item></customer>`, `<customer><item><x>1</x></item><item><x>` + hashOf("2") + `</x></item></customer>`},
		{"text/xml", `<customer name="Ann"><gone>1</gone><z/><tail>secret-1234</tail></customer>`, `<customer name="` + hashOf("Ann") + `"><z/><tail>****1234</tail></customer>`},
		{"text/xml", `<x><a><b>1</b></a></x>`, `<x><a><b>` + hashOf("1") + `</b></a></x>`},
		{"text/xml", `<x><y><deep>1<z/></deep></y></x>`, `<x><y><deep>` + hashOf("") + `</deep></y></x>`},
		{"text/xml", `<a>{"password":"x","c":` + card + `}</a>`, `<a>{"password":&#34;[redacted]&#34;,"c":&#34;[redacted:card]&#34;}</a>`},
		{"text/xml", `<!DOCTYPE a [<!ENTITY e "4111">]><a>&e;111111111111</a>`, ``},
		{"text/xml", `<!DOCTYPE a [<!ATTLIST a b CDATA "` + card + `">]><a/>`, ``},
		{"text/xml", `<a>&e;</a>`, ``},
		{"text/xml", `<a><b></a></b>`, ``},
		{"text/xml", `<a/><b/>`, ``},
		{"text/xml", "<a>\n  amFuZUBleGFtcGxlLmNvbSB4\n</a>", "<a>\n  W3JlZGFjdGVkOmVtYWlsXSB4\n</a>"},
		{"text/plain", `<a><password>x</password></a>`, `<a><password>[redacted]</password></a>`},
		{"text/xml", `<?xml version="1.0" x="` + card + `"?><a/>`, `<?xml version="1.0" x="[redacted:card]"?><a/>`},
		{"text/xml", `<a><c` + card + `/></a>`, ``},
		{"text/xml", `<a c` + card + `="1"/>`, ``},
		{"text/xml", `<a>`, ``},
		{"text/xml", `<?xml version="1.0" encoding="utf-16"?><a/>`, ``},
		{"text/xml", `{"c":"` + card + `"}`, `{"c":"[redacted:card]"}`},

		// HTML: text over inline elements, attributes, references, scripts.
		{"text/html", `<p>card <b>4111</b>1111 <i>1111 1111</i></p>`, `<p>card <b>[redacted:card]</b><i></i></p>`},
		{"text/html", `<td>4111</td><td>111111111111</td>`, `<td>4111</td><td>111111111111</td>`},
		{"text/html", `<p>4111&#49;11111111111 jane&commat;example.com jane&#64example.com</p>`, `<p>[redacted:card] [redacted:email] [redacted:email]</p>`},
		{"text/html", `<a href="mailto:jane%40example.com" title=jane@example.com data-q='` + card + `'>x</a>`, `<a href="mailto:[redacted:email]" title=[redacted:email] data-q='[redacted:card]'>x</a>`},
		{"text/html", `<input name=password value="x&quot;y"><input name="q" value="z"><meta name=password content=x>`, `<input name=password value="[redacted]"><input name="q" value="z"><meta name=password content=[redacted]>`},
		{"text/html", `<script type="application/ld+json">{"password":"x","a":{"b":1}}</script>`, `<script type="application/ld+json">{"password":"[redacted]","a":{"b":"` + hashOf("1") + `"}}</script>`},
		{"text/html", `<script>var c = "` + card + `", d = "4111\u0031111 11111111";</script>`, `<script>var c = "[redacted:card]", d = "[redacted:card]";</script>`},
		{"text/html", `<!-- ` + card + ` --><title>` + card + `</title><textarea>` + card + `</textarea><style>/* ` + card + ` */</style>`, `<!-- [redacted:card] --><title>[redacted:card]</title><textarea>[redacted:card]</textarea><style>/* [redacted:card] */</style>`},
		{"text/html", `<p>` + card + `<a href="` + card, `<p>[redacted:card]<a href="[redacted:card]`},
		{"application/xhtml+xml", `<!DOCTYPE html><p>` + card + `</p>`, `<!DOCTYPE html><p>[redacted:card]</p>`},
		{"text/html; charset=latin1", `<p>x</p>`, ``},
		{"text/html", "<p>\xff</p>", ``},

		// CSV: columns by name, quotes kept.
		{"text/csv", "id,card,password\n1," + card + ",x\n2,\"4111 1111 1111 1111\",\"a\"\"b\"\n", "id,card,password\n1,[redacted:card],[redacted]\n2,\"[redacted:card]\",\"[redacted]\"\n"},
		{"text/csv", "id;name;tail\r\n1;Ann;secret-1234\r\n", "id;name;tail\r\n1;" + hashOf("Ann") + ";****1234\r\n"},
		{"text/csv", "sep=|\nid;|password\n1|x\n", "sep=|\nid;|password\n1|[redacted]\n"},
		{"text/csv", "a\namFuZUBleGFtcGxlLmNvbSB4\n", "a\nW3JlZGFjdGVkOmVtYWlsXSB4\n"},
		{"text/html", `<a data-tail=abcdefgh&#62;&#32;x>y</a>`, `<a data-tail=[redacted]>y</a>`},
		{"text/html", `<img src="data:text/plain;base64,amFuZUBleGFtcGxlLmNvbSB4">`, `<img src="data:text/plain;base64,W3JlZGFjdGVkOmVtYWlsXSB4">`},
		{"text/calendar", "BEGIN:VEVENT\r\nATTENDEE:mailto:jane@exam\r\n ple.com\r\nNOTE:4111 1111\r\n\t 1111 1111\r\n", "BEGIN:VEVENT\r\nATTENDEE:mailto:[redacted:email]\r\n \r\nNOTE:[redacted:card]\r\n\t\r\n"},
		{"text/vcard", `{"password":"x"}`, `{"password":"[redacted]"}`},
		{"text/csv", "gone,x\n\"a\nb\",1\n", "gone,x\n\"\",1\n"},
		{"text/csv; header=absent", "password," + card + "\nx,y", "password,[redacted:card]\nx,y"},
		{"text/tab-separated-values", "a\tpassword\n1\tx, y\n", "a\tpassword\n1\t[redacted]\n"},
		{"text/csv", "a,b\n1,\"{\"\"password\"\":\"\"x\"\"}\"\n", "a,b\n1,\"{\"\"password\"\":\"\"[redacted]\"\"}\"\n"},
		{"text/csv", "\xef\xbb\xbfpassword\nx\n", "\xef\xbb\xbfpassword\n[redacted]\n"},
		{"text/csv", "tail\n\"1234567,\"\"8\"\n", "tail\n\"****7,\"\"8\"\n"},
		{"text/csv", "tail\n1234567;8\n", "tail\n****67;8\n"},
		{"text/csv", "a\n\"x\n", ``},
		{"text/csv", "a\n\"x\"y\n", ``},
		{"text/csv", "a\nx\"y\n", ``},
		{"text/csv", `{"password":"x"}`, `{"password":"[redacted]"}`},

		// Forms.
		{"application/x-www-form-urlencoded", "a=4111+1111%201111%2D1111&password=x%26y&b=jane%40example.com&c=1", "a=%5Bredacted%3Acard%5D&password=%5Bredacted%5D&b=%5Bredacted%3Aemail%5D&c=1"},
		{"application/x-www-form-urlencoded", "a[b]=1&gone=2&user[password]=x&tail=secret-1234", "a[b]=" + url.QueryEscape(hashOf("1")) + "&gone=&user[password]=%5Bredacted%5D&tail=%2A%2A%2A%2A1234"},
		{"application/x-www-form-urlencoded", "j=%7B%22password%22%3A%22x%22%7D", "j=%7B%22password%22%3A%22%5Bredacted%5D%22%7D"},
		{"multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\nx\r\n--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f.json\"\r\nContent-Type: application/json\r\n\r\n{\"password\":\"y\"}\r\n--b--\r\n",
			"--b\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\n[redacted]\r\n--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f.json\"\r\nContent-Type: application/json\r\n\r\n{\"password\":\"[redacted]\"}\r\n--b--\r\n"},
		{"multipart/mixed; boundary=b", "--b\r\n\r\n" + card + "\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString([]byte("card "+card)) + "\r\n--b--", "--b\r\n\r\n[redacted:card]\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString([]byte("card [redacted:card]")) + "\r\n--b--"},
		{"multipart/mixed; boundary=b", "--b\r\nContent-Type: image/png\r\n\r\nx\r\n--b--", ``},
		{"multipart/mixed; boundary=b", "--b\r\n\r\nx\r\n--bb\r\n", ``},
		{"multipart/mixed; boundary=b", card + "\r\n--b\r\n\r\nx\r\n--b--", ``},
		{"multipart/mixed; boundary=b", "--b\r\n\r\nx\r\n--b--\r\n" + card, ``},
		{"multipart/mixed", "x", ``},

		{"text/markdown", "# " + card, "# [redacted:card]"},
		{"application/yaml", "password: x\nc: " + card + "\n", "password: [redacted]\nc: [redacted:card]\n"},
		{"application/x-ndjson", `{"c":` + card + "}\n", `{"c":"[redacted:card]"}` + "\n"},
		{"text/event-stream", "data: " + card + "\n\n", "data: [redacted:card]\n\n"},
		{"application/pdf", "x", ``},
	} {
		out, found, err := m.Whole(tt.contentType, []byte(tt.in))
		switch {
		case tt.want == "" && err == nil:
			t.Errorf("%s %q passed as %q", tt.contentType, tt.in, out)
		case tt.want != "" && (err != nil || string(out) != tt.want):
			t.Errorf("%s %q\nbecame %q, %v\nwant   %q", tt.contentType, tt.in, out, err, tt.want)
		case tt.want != "" && tt.want != tt.in && len(found) == 0:
			t.Errorf("%s %q: nothing was found", tt.contentType, tt.in)
		}
		media := tt.contentType
		if OpensJSON([]byte(tt.in)) || m.NewDocument(media, 0) == nil {
			continue
		}
		// The same, wherever it is cut.
		for step := range len(tt.in) {
			got, n, err := inSteps(m, media, []byte(tt.in), step+1, 0)
			if (err != nil) != (tt.want == "") || err == nil && (string(got) != tt.want || n != len(found)) {
				t.Errorf("%s %q by %d\nbecame %q, %v\nwant   %q", tt.contentType, tt.in, step+1, got, err, tt.want)
			}
		}
	}
}

// Documents of any length flow through, and what is held of them does not grow.
func TestDocumentsFlow(t *testing.T) {
	m := documents(t)
	const card = "4111111111111111"
	for name, tt := range map[string]struct{ media, before, part, after, want string }{
		"xml":      {"text/xml", "<customers>\n", "  <customer id=\"1\">\n    <name>Jane &amp; Joe</name>\n    <card kind=\"x\">" + card + "</card><gone><a>1</a></gone>\n  </customer>\n", "</customers>", "[redacted:card]"},
		"html":     {"text/html", "<html><body><table>", "<tr><td>a <b>41111111</b>11111111</td><td><a href=\"/x?m=jane%40example.com\">y</a></td></tr><script>f('" + card + "')</script>\n", "</table></body></html>", "[redacted:card]"},
		"one line": {"text/html", "<p>", "a <i>b</i> " + card + " <br>", "</p>", "[redacted:card]"},
		"form":     {"application/x-www-form-urlencoded", "a=1", "&c=" + card + "&password=x&n=2", "&z=1", "redacted"},
	} {
		t.Run(name, func(t *testing.T) {
			d := m.NewDocument(tt.media, 4<<10)
			defer d.Stop()
			const parts = 2000
			in, out, most := 0, 0, 0
			write := func(s string) {
				for s != "" {
					n := min(1000, len(s))
					p, err := d.Write([]byte(s[:n]))
					if err != nil {
						t.Fatal(err)
					}
					if bytes.Contains(p, []byte(card)) {
						t.Fatalf("got out: %q", p)
					}
					in, out, most, s = in+n, out+len(p), max(most, d.Held()), s[n:]
					if in > 20_000 && out < in/4 {
						t.Fatalf("%d bytes of %d came out", out, in)
					}
				}
			}
			write(tt.before + strings.Repeat(tt.part, parts) + tt.after)
			if _, err := d.Close(); err != nil {
				t.Fatal(err)
			}
			found := 0
			for _, f := range d.Findings() {
				found += f.Count
			}
			if found < parts || most > 64<<10 {
				t.Errorf("%d findings in %d parts, %d bytes held of %d", found, parts, most, in)
			}
		})
	}
	// What can only be masked whole is bounded, wherever it is cut.
	for name, in := range map[string]string{
		"text/xml":                          "<a><password><b>" + strings.Repeat("x", 5000) + "</b></password></a>",
		"image/svg+xml":                     "<a>" + strings.Repeat("x", 5000) + "</a>",
		"text/html":                         "<p>" + strings.Repeat("x <b>y</b>", 1000),
		"application/xhtml+xml":             "<p title=\"" + strings.Repeat("x", 5000) + "\">",
		"application/x-www-form-urlencoded": "a=" + strings.Repeat("x", 5000),
	} {
		for _, step := range []int{1, 1000, len(in)} {
			if _, _, err := inSteps(m, name, []byte(in), step, 4<<10); !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s by %d: %v", name, step, err)
			}
		}
	}
}

// A document that nobody reads to its end leaves nothing behind, and one that was
// refused says so again.
func TestDocumentStopped(t *testing.T) {
	d := documents(t).NewDocument("text/xml", 0)
	if _, err := d.Write([]byte("<a><b>")); err != nil {
		t.Fatal(err)
	}
	d.Stop()
	d.Stop()
	d = documents(t).NewDocument("text/xml", 0)
	_, first := d.Write([]byte("<a></b>"))
	_, second := d.Write([]byte("<a/>"))
	if _, third := d.Close(); first == nil || second == nil || third == nil {
		t.Errorf("%v, %v, %v", first, second, third)
	}
}

// A table is masked the same wherever it is cut into chunks.
func TestCSVChunks(t *testing.T) {
	m := documents(t)
	in := "id,card,password\r\n1,4111111111111111,x\r\n2,\"4111 1111\r\n\",\"a\"\"b\"\r\n\r\n3,jane@example.com,y"
	want, _, err := body2(m.NewCSV(0, false, 0), in)
	if err != nil || strings.Contains(want, "4111111111111111") || strings.Contains(want, "jane") {
		t.Fatalf("%q %v", want, err)
	}
	for cut := range len(in) {
		if got, _, err := body2(m.NewCSV(0, false, 0), in, cut); err != nil || got != want {
			t.Errorf("cut at %d: %q %v", cut, got, err)
		}
	}
	if _, _, err := body2(m.NewCSV(0, false, 20), "a\n"+strings.Repeat("x", 30), 1, 25); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a long record: %v", err)
	}
}

func body2(c *CSV, in string, cuts ...int) (string, []Finding, error) {
	var out []byte
	last := 0
	for _, cut := range append(cuts, len(in)) {
		p, err := c.Write([]byte(in[last:cut]))
		if err != nil {
			return "", nil, err
		}
		out, last = append(out, p...), cut
	}
	p, err := c.Close()
	return string(append(out, p...)), c.Findings(), err
}

// inSteps masks a document that comes in pieces, and returns the number of findings.
func inSteps(m *Masker, contentType string, in []byte, step, limit int) ([]byte, int, error) {
	d := m.NewDocument(contentType, limit)
	defer d.Stop()
	var out []byte
	for len(in) > 0 {
		n := min(step, len(in))
		p, err := d.Write(bytes.Clone(in[:n]))
		if err != nil {
			return out, 0, err
		}
		out, in = append(out, p...), in[n:]
	}
	p, err := d.Close()
	return append(out, p...), len(d.Findings()), err
}

// fuzzDocument checks what holds for every type: a planted value does not get
// out, and without a finding nothing changes. read returns what a reader finds in
// the body, all in one.
func fuzzDocument(f *testing.F, contentType string, plant func(before, value, after string) string, read func([]byte) (string, error)) {
	f.Add("", "")
	f.Add("a", "b")
	f.Add("<b>", "</b>")
	f.Add("&#52;", "<!--")
	f.Add("\"", ",\"\n")
	f.Add("%34&x=", "+")
	f.Add("]]>", "<![CDATA[")
	f.Add("<script>", "</script>")
	f.Add("--b\r\n", "\r\n--b--")
	m := documents(f)
	const value = "4111111111111111"
	f.Fuzz(func(t *testing.T, before, after string) {
		if strings.Contains(before+after, "4") {
			t.Skip() // what is around must not make another number of it
		}
		in := []byte(plant(before, "|"+value+"|", after))
		was := bytes.Clone(in)
		out, found, err := m.Whole(contentType, in)
		if !bytes.Equal(in, was) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			return
		}
		if len(found) == 0 && !bytes.Equal(in, out) {
			t.Fatalf("%q became %q without a finding", in, out)
		}
		if bytes.Contains(out, []byte(value)) {
			t.Fatalf("%q became %q", in, out)
		}
		for _, step := range []int{1, 7} {
			if media, _, _ := strings.Cut(contentType, ";"); OpensJSON(in) || m.NewDocument(media, 0) == nil {
				break
			}
			if got, n, err := inSteps(m, contentType, in, step, len(in)+1); err != nil || !bytes.Equal(got, out) || n != len(found) {
				t.Fatalf("%q by %d became %q, %v; whole %q", in, step, got, err, out)
			}
		}
		_, wasErr := read(in)
		text, err := read(out)
		if wasErr == nil && err != nil {
			t.Fatalf("%q became %q, which can't be read: %v", in, out, err)
		}
		if strings.Contains(text, value) {
			t.Fatalf("%q became %q, where a reader finds the value", in, out)
		}
	})
}

func FuzzXML(f *testing.F) {
	fuzzDocument(f, "text/xml", func(before, value, after string) string { return "<a>" + before + value + after + "</a>" }, func(b []byte) (string, error) {
		var all strings.Builder
		for d := xml.NewDecoder(bytes.NewReader(b)); ; {
			t, err := d.Token()
			if errors.Is(err, io.EOF) {
				return all.String(), nil
			}
			if err != nil {
				return "", err
			}
			if c, ok := t.(xml.CharData); ok {
				all.Write(c)
			}
		}
	})
}

func FuzzHTML(f *testing.F) {
	fuzzDocument(f, "text/html", func(before, value, after string) string { return "<p>" + before + value + after + "</p>" }, func(b []byte) (string, error) {
		n, err := html.Parse(bytes.NewReader(b))
		if err != nil {
			return "", err
		}
		var all strings.Builder
		for d := range n.Descendants() {
			all.WriteString(d.Data)
			for _, a := range d.Attr {
				all.WriteString(" " + a.Key + " " + a.Val + " ")
			}
		}
		return all.String(), nil
	})
}

func FuzzCSV(f *testing.F) {
	fuzzDocument(f, "text/csv", func(before, value, after string) string { return "a,b\n" + before + value + after + "\n" }, func(b []byte) (string, error) {
		r := csv.NewReader(bytes.NewReader(b))
		r.FieldsPerRecord = -1
		all, err := r.ReadAll()
		if err != nil {
			return "", err
		}
		var text strings.Builder
		for _, record := range all {
			text.WriteString(strings.Join(record, "\x00") + "\x00")
		}
		return text.String(), nil
	})
}

func FuzzForm(f *testing.F) {
	fuzzDocument(f, "application/x-www-form-urlencoded", func(before, value, after string) string { return before + value + after }, func(b []byte) (string, error) {
		v, err := url.ParseQuery(string(b))
		if err != nil {
			return "", err
		}
		var text strings.Builder
		for k, all := range v {
			text.WriteString(k + "\x00" + strings.Join(all, "\x00"))
		}
		return text.String(), nil
	})
}

func FuzzMultipart(f *testing.F) {
	fuzzDocument(f, "multipart/form-data; boundary=b", func(before, value, after string) string {
		return "--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n" + before + value + after + "\r\n--b--\r\n"
	}, func(b []byte) (string, error) {
		form, err := multipart.NewReader(bytes.NewReader(b), "b").ReadForm(1 << 20)
		if err != nil {
			return "", err
		}
		var text strings.Builder
		for k, all := range form.Value {
			text.WriteString(k + "\x00" + strings.Join(all, "\x00"))
		}
		return text.String(), nil
	})
}

// Bodies in parts of bodies in parts are read to a bounded depth.
func TestMultipartDepth(t *testing.T) {
	m := documents(t)
	contentType, body := "text/plain", "4111111111111111"
	for depth := 1; depth <= maxMultipart+1; depth++ {
		b := fmt.Sprintf("b%d", depth)
		body = "--" + b + "\r\nContent-Type: " + contentType + "\r\n\r\n" + body + "\r\n--" + b + "--\r\n"
		contentType = "multipart/mixed; boundary=" + b
		out, _, err := m.Whole(contentType, []byte(body))
		switch {
		case depth > maxMultipart && !errors.Is(err, ErrTooDeep):
			t.Errorf("%d bodies in each other: %v", depth, err)
		case depth <= maxMultipart && (err != nil || !bytes.Contains(out, []byte("[redacted:card]")) || bytes.Contains(out, []byte("4111"))):
			t.Errorf("%d bodies in each other: %q, %v", depth, out, err)
		}
	}
}
