package protocol

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/textproto"
	"strings"
	"unicode/utf8"

	"github.com/callgate/callgate/call"
)

// The bounds of a multipart body.
const (
	maxParts = 1000
	// maxShown is the longest file whose text rules see, in bytes.
	maxShown = 64 << 10
)

// multipart adds the parts of a multipart/form-data body (RFC 7578). A field is
// its text; a file is {filename, content_type, size, sha256} and, where it is a
// short text, content. What form parsers differ in is refused.
func (f *fields) multipart(req *call.Request) error {
	_, params, err := mime.ParseMediaType(req.Headers.Get("content-type"))
	boundary := params["boundary"]
	if err != nil || boundary == "" || len(params) != 1 {
		return malformed("the multipart body's content-type must have a boundary, and nothing else")
	}
	for i := range len(boundary) {
		if c := boundary[i]; !unreserved(c) && strings.IndexByte("'()+_,/:=?", c) < 0 || len(boundary) > 70 {
			return malformed("the multipart boundary has characters that parsers read differently; use letters, digits and dashes")
		}
	}
	// What stands before the first boundary and after the last is skipped by
	// some parsers and read by others.
	if !bytes.HasPrefix(req.Body, []byte("--"+boundary+"\r\n")) || !bytes.HasSuffix(bytes.TrimSuffix(req.Body, []byte("\r\n")), []byte("\r\n--"+boundary+"--")) {
		return malformed("the multipart body must begin with its boundary, end with its last one, and have nothing around them")
	}
	r := multipart.NewReader(bytes.NewReader(req.Body), boundary)
	for n := 0; ; n++ {
		part, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil || n == maxParts {
			return malformed("the multipart body can't be read, or has more than %d parts", maxParts)
		}
		data, err := io.ReadAll(part)
		if err != nil {
			return malformed("the multipart body can't be read")
		}
		if err := f.part(part.Header, data, boundary); err != nil {
			return err
		}
	}
}

func (f *fields) part(h textproto.MIMEHeader, data []byte, boundary string) error {
	for name, values := range h {
		switch {
		case len(values) != 1:
			return malformed("a part of the multipart body has the header %s more than once", printable(name))
		case name != "Content-Disposition" && name != "Content-Type":
			return malformed("a part of the multipart body has the header %s, which parsers heed or don't; leave it out", printable(name))
		}
	}
	// A line that begins like the boundary is one to some parsers.
	if bytes.Contains(data, []byte("\n--"+boundary)) || bytes.Contains(data, []byte("\r--"+boundary)) {
		return malformed("a part of the multipart body holds a line that looks like its boundary; choose another boundary")
	}
	name, file, err := disposition(h.Get("Content-Disposition"))
	if err != nil {
		return err
	}
	if strings.EqualFold(name, override) {
		return malformed("the form has %s, which makes some functions run another method than the one that was judged; leave it out", override)
	}
	if err := f.claim("form", name); err != nil {
		return err
	}
	var value any
	if file == nil {
		if !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0 {
			return malformed("the form's field %q is not plain UTF-8 text; send it as a file", printable(name))
		}
		if media := h.Get("Content-Type"); media != "" {
			if t, params, err := mime.ParseMediaType(media); err != nil || t != "text/plain" || params["charset"] != "" && !strings.EqualFold(params["charset"], "utf-8") {
				return malformed("the form's field %q has a content-type of its own, which functions read or don't; send it as a file", printable(name))
			}
		}
		value = string(data)
	} else {
		sum := sha256.Sum256(data)
		v := map[string]any{"filename": *file, "content_type": h.Get("Content-Type"), "size": int64(len(data)), "sha256": hex.EncodeToString(sum[:])}
		if len(data) <= maxShown && utf8.Valid(data) && bytes.IndexByte(data, 0) < 0 {
			v["content"] = string(data)
		}
		value = v
	}
	switch old := f.args[name].(type) {
	case nil:
		f.args[name] = value
	case []any:
		f.args[name] = append(old, value)
	default:
		f.args[name] = []any{old, value}
	}
	return nil
}

// disposition reads form-data; name="…"; filename="…". Only that form is taken:
// parsers differ in escapes, in parameters that stand twice, and in which of
// filename and filename* they believe.
func disposition(text string) (name string, file *string, err error) {
	bad := malformed("a part's content-disposition must be form-data; name=\"…\", and for a file filename=\"…\", each once, without escapes")
	rest, ok := strings.CutPrefix(text, "form-data")
	if !ok {
		return "", nil, bad
	}
	seen := map[string]string{}
	for rest != "" {
		rest = strings.TrimLeft(rest, " ")
		if rest, ok = strings.CutPrefix(rest, ";"); !ok {
			return "", nil, bad
		}
		key, after, ok := strings.Cut(strings.TrimLeft(rest, " "), "=\"")
		if !ok {
			return "", nil, bad
		}
		value, after, ok := strings.Cut(after, "\"")
		if _, twice := seen[key]; !ok || twice || key != "name" && key != "filename" || strings.ContainsAny(value, "\\\r\n\x00") || !utf8.ValidString(value) ||
			strings.Contains(value, "%22") || strings.Contains(strings.ToLower(value), "%0d") || strings.Contains(strings.ToLower(value), "%0a") {
			return "", nil, bad
		}
		seen[key], rest = value, after
	}
	name, named := seen["name"]
	if !named || name == "" {
		return "", nil, bad
	}
	if value, has := seen["filename"]; has {
		file = &value
	}
	return name, file, nil
}
