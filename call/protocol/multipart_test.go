package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime/multipart"
	"strings"
	"testing"

	"github.com/callgate/callgate/call"
)

const edge = "----edge"

// form joins parts, each its header lines and its content.
func form(parts ...[2]string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("--" + edge + "\r\n" + strings.ReplaceAll(p[0], "\n", "\r\n") + "\r\n\r\n" + p[1] + "\r\n")
	}
	return b.String() + "--" + edge + "--\r\n"
}

func formRequest(body, contentType string) *call.Request {
	return &call.Request{Method: "POST", Authority: "gate.test", Path: "/refunds?q=1", Body: []byte(body), Headers: call.Headers{{Name: "content-type", Value: contentType}}}
}

func TestMultipart(t *testing.T) {
	p := encodedParser(t)
	const typ = "multipart/form-data; boundary=" + edge
	const field = `Content-Disposition: form-data; name="note"`
	inv, err := p.Parse(formRequest(form([2]string{field, "hello\r\nyou"}, [2]string{`Content-Disposition: form-data; name="tag"`, "a"}, [2]string{`Content-Disposition: form-data; name="tag"`, "b"},
		[2]string{"Content-Disposition: form-data; name=\"file\"; filename=\"x.sh\"\nContent-Type: text/plain", "rm -rf /"}), typ))
	if err != nil {
		t.Fatal(err)
	}
	file, _ := inv.Args["file"].(map[string]any)
	if inv.Args["note"] != "hello\r\nyou" || len(inv.Args["tag"].([]any)) != 2 || file["filename"] != "x.sh" || file["content"] != "rm -rf /" || file["size"] != int64(8) || inv.Args["q"] != "1" {
		t.Errorf("%+v", inv.Args)
	}
	// What the standard library writes is read.
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	if err := errors.Join(w.WriteField("note", "x"), func() error {
		f, err := w.CreateFormFile("file", "a.bin")
		if err == nil {
			_, err = f.Write([]byte{0, 1, 2})
		}
		return err
	}(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if inv, err := p.Parse(formRequest(b.String(), w.FormDataContentType())); err != nil || inv.Args["file"].(map[string]any)["content"] != nil {
		t.Errorf("%+v, %v", inv.Args, err)
	}
	one := func(header string) string { return form([2]string{header, "v"}) }
	for what, c := range map[string][2]string{
		"no boundary":              {one(field), "multipart/form-data"},
		"another boundary":         {one(field), "multipart/form-data; boundary=x"},
		"two boundaries":           {one(field), typ + "; boundary=x"},
		"a charset":                {one(field), typ + "; charset=utf-7"},
		"a quoted odd boundary":    {one(field), `multipart/form-data; boundary="a;b"`},
		"a preamble":               {"x\r\n" + one(field), typ},
		"an epilogue":              {one(field) + "x", typ},
		"no end":                   {strings.TrimSuffix(one(field), "--\r\n"), typ},
		"bare line feeds":          {strings.ReplaceAll(one(field), "\r\n", "\n"), typ},
		"nested":                   {one(field + "\nContent-Type: multipart/mixed; boundary=y"), typ},
		"a transfer encoding":      {one(field + "\nContent-Transfer-Encoding: base64"), typ},
		"two dispositions":         {one(field + "\n" + field), typ},
		"no name":                  {one(`Content-Disposition: form-data; filename="x"`), typ},
		"two names":                {one(`Content-Disposition: form-data; name="a"; name="b"`), typ},
		"filename*":                {one(`Content-Disposition: form-data; name="a"; filename="x"; filename*=UTF-8''y`), typ},
		"an escaped quote":         {one(`Content-Disposition: form-data; name="a\"b"`), typ},
		"a name without quotes":    {one(`Content-Disposition: form-data; name=a`), typ},
		"an attachment":            {one(`Content-Disposition: attachment; name="a"`), typ},
		"the query's name":         {one(`Content-Disposition: form-data; name="q"`), typ},
		"the query's name, as Q":   {one(`Content-Disposition: form-data; name="Q"`), typ},
		"a method override":        {one(`Content-Disposition: form-data; name="_method"`), typ},
		"bytes in a field":         {form([2]string{field, "\xff"}), typ},
		"NUL in a field":           {form([2]string{field, "a\x00b"}), typ},
		"a field in UTF-16":        {form([2]string{field + "\nContent-Type: text/plain; charset=utf-16", "v"}), typ},
		"a field of JSON":          {form([2]string{field + "\nContent-Type: application/json", "{}"}), typ},
		"a line like the boundary": {form([2]string{field, "a\n--" + edge + "\nb"}), typ},
	} {
		inv, err := p.Parse(formRequest(c[0], c[1]))
		var known *Error
		if !errors.As(err, &known) || known.Reason != call.ReasonMalformedRequest {
			t.Errorf("%s: %+v, %v", what, inv.Args, err)
		}
	}
}

func FuzzMultipart(f *testing.F) {
	f.Add(form([2]string{`Content-Disposition: form-data; name="note"`, "v"}))
	f.Add(form([2]string{"Content-Disposition: form-data; name=\"file\"; filename=\"x\"\nContent-Type: a/b", "\x00"}))
	p := encodedParser(f)
	f.Fuzz(func(t *testing.T, body string) {
		inv, err := p.Parse(formRequest(body, "multipart/form-data; boundary="+edge))
		if err == nil && !json.Valid(inv.ArgsJSON) {
			t.Errorf("%q: %s", body, inv.ArgsJSON)
		}
	})
}
