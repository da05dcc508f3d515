package protocol

import (
	"bytes"
	"compress/zlib"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/callgate/callgate/call"
)

// decoded reads requests whose body came in a content encoding (RFC 9110
// §8.4): it is decoded for judging, within the same bound as a plain one, and
// reaches the function as it came.
type decoded struct {
	Parser
	limit int64 // bytes
}

// Parse implements [Parser].
func (d decoded) Parse(req *call.Request) (Invocation, error) {
	values := req.Headers.Values("content-encoding")
	if len(values) != 1 {
		return d.Parser.Parse(req) // which refuses more than one
	}
	name := strings.ToLower(strings.TrimSpace(values[0]))
	if name == "" || name == "identity" {
		return d.Parser.Parse(req)
	}
	if length := req.Headers.Get("content-length"); length != "" && length != strconv.Itoa(len(req.Body)) {
		return Invocation{}, malformed("content-length is not the length of the body that arrived; send the whole body and its length in bytes")
	}
	body, err := d.decode(name, req.Body)
	if err != nil {
		return Invocation{}, err
	}
	plain := *req
	plain.Body = body
	plain.Headers = slices.DeleteFunc(slices.Clone(req.Headers), func(h call.Header) bool {
		return h.Name == "content-encoding" || h.Name == "content-length"
	})
	return d.Parser.Parse(&plain)
}

// decode undoes one encoding. What decoders differ in is refused: several
// streams in a row, bytes after the end, a checksum that is wrong.
func (d decoded) decode(name string, body []byte) ([]byte, error) {
	in := bytes.NewReader(body)
	var out io.Reader
	var err error
	switch name {
	case "gzip", "x-gzip":
		var z *gzip.Reader
		if z, err = gzip.NewReader(in); err == nil {
			z.Multistream(false)
			out = z
		}
	case "deflate":
		// RFC 9110 §8.4.1.2 means the zlib format; raw deflate, which some
		// send by mistake, does not begin like it.
		out, err = zlib.NewReader(in)
	case "br":
		out = brotli.NewReader(in)
	case "zstd":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(d.limit)+1<<20), zstd.WithDecoderMaxWindow(8<<20)); err == nil {
			defer z.Close()
			out = z
		}
	default:
		return nil, malformed("a request body in content-encoding %s is not accepted; send it plain, or in one of gzip, deflate, br, zstd", printable(name))
	}
	wrong := malformed("the body is not what content-encoding %s says; send it whole and in one piece", name)
	if err != nil {
		return nil, wrong
	}
	plain, err := io.ReadAll(io.LimitReader(out, d.limit+1))
	switch {
	case int64(len(plain)) > d.limit, errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded):
		return nil, &Error{Reason: call.ReasonBodyTooLarge, Message: "the decoded request body is over the connection's max_body; send less, or raise it"}
	case err != nil, in.Len() > 0:
		return nil, wrong
	}
	return plain, nil
}
