package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/go-faster/city"
)

func TestInspect(t *testing.T) {
	for sql, want := range map[string]struct{ first, format, data, file string }{
		"SELECT 1":                                                           {first: "SELECT"},
		" -- x\n/* /* y */ */ (select 1":                                     {first: "SELECT"},
		"SELECT 1 FORMAT JSON":                                               {first: "SELECT", format: "JSON"},
		"SELECT 'a FORMAT b'":                                                {first: "SELECT"},
		"SELECT 1 INTO OUTFILE 'x'":                                          {first: "SELECT", file: "INTO OUTFILE"},
		"SELECT 'INTO OUTFILE', 1":                                           {first: "SELECT"},
		"INSERT INTO t FORMAT TSV\n1\t2":                                     {"INSERT", "TSV", "1\t2", ""},
		"insert into t format TSV 1":                                         {"INSERT", "TSV", "1", ""},
		"INSERT INTO t FORMAT TSV\n\n1":                                      {"INSERT", "TSV", "\n1", ""},
		"INSERT INTO t FORMAT TSV \r\n1":                                     {"INSERT", "TSV", "1", ""},
		"INSERT INTO t (a, b) VALUES (1, 'FORMAT')":                          {"INSERT", "Values", " (1, 'FORMAT')", ""},
		"INSERT INTO format FORMAT CSV\n1":                                   {"INSERT", "CSV", "1", ""},
		"INSERT INTO values VALUES (1)":                                      {"INSERT", "Values", " (1)", ""},
		"INSERT INTO table FORMAT CSV\n1":                                    {"INSERT", "CSV", "1", ""},
		"INSERT INTO db.format FORMAT CSV\n1":                                {"INSERT", "CSV", "1", ""},
		"INSERT INTO `a FORMAT b` FORMAT CSV\n1":                             {"INSERT", "CSV", "1", ""},
		"INSERT INTO t SETTINGS a='FORMAT x', b=1 FORMAT CSV\n1":             {"INSERT", "CSV", "1", ""},
		"INSERT INTO FUNCTION remote('h', db.t) VALUES (1)":                  {"INSERT", "Values", " (1)", ""},
		"INSERT INTO {t:Identifier} (a) FORMAT Native\n\x01\x02\n\nFORMAT X": {"INSERT", "Native", "\x01\x02\n\nFORMAT X", ""},
		"INSERT INTO t SELECT 1 FORMAT Null":                                 {first: "INSERT"},
		"INSERT INTO t WITH 1 AS x SELECT x":                                 {first: "INSERT"},
		"INSERT INTO t (format, values) SELECT 1, 2":                         {first: "INSERT"},
		"INSERT INTO t FROM INFILE 'x' FORMAT CSV":                           {first: "INSERT", file: "FROM INFILE"},
		"INSERT INTO t":                                                      {first: "INSERT"},
		"INSERT":                                                             {first: "INSERT"},
		"":                                                                   {},
		"$tag$ FORMAT":                                                       {},
		"SELECT $a$ ' $a$":                                                   {first: "SELECT"},
	} {
		st := inspect(sql)
		data := ""
		if st.data >= 0 {
			data = sql[st.data:]
		}
		if st.first != want.first || st.format != want.format || data != want.data || st.file != want.file {
			t.Errorf("%q: %+v with data %q, want %+v", sql, st, data, want)
		}
	}
}

// A text made of openings must not cost its length squared; here that would
// be minutes.
func TestScannerIsLinear(t *testing.T) {
	for _, piece := range []string{"$a$b", "/*", "'\\", "`x", "$", "(", "INTO ", "-- "} {
		inspect(strings.Repeat(piece, maxQuery/len(piece)))
	}
}

// An INSERT's data come out as they went in, wherever the URL's part, the
// body's head and the data meet.
func TestReadInputKeepsData(t *testing.T) {
	for _, size := range []int{0, 1, headSize - 40, headSize, headSize + 1, 3 * headSize} {
		data := strings.Repeat("ab\n\n\x00;", size/6+1)[:size]
		for name, c := range map[string]struct{ query, body string }{
			"in the URL":  {"INSERT INTO t FORMAT TSV", data},
			"in the body": {"", "INSERT INTO t FORMAT TSV\n" + data},
			"split":       {"INSERT INTO t", "FORMAT TSV\n" + data},
			"comment":     {"INSERT INTO t -- x", "FORMAT TSV\n" + data},
			"long head":   {"", "INSERT INTO t /*" + strings.Repeat("x", 2*headSize) + "*/ FORMAT TSV\n" + data},
		} {
			in, err := readInput(c.query, strings.NewReader(c.body))
			if err != nil {
				t.Errorf("%s, %d bytes: %v", name, size, err)
				continue
			}
			if in.data == nil || in.st.format != "TSV" || !strings.HasPrefix(in.sql, "INSERT INTO t") || strings.Contains(in.sql, "FORMAT") {
				t.Errorf("%s, %d bytes: %.50q %+v", name, size, in.sql, in.st)
				continue
			}
			got, err := io.ReadAll(in.data)
			if err != nil || string(got) != data {
				t.Errorf("%s: %d bytes of data came out as %d (%v)", name, size, len(got), err)
			}
		}
	}
}

func FuzzInspect(f *testing.F) {
	for _, seed := range []string{"SELECT 1", "INSERT INTO t (a) FORMAT TSV\n1", "INSERT INTO t VALUES (1)", "/* /*", "'\\", "$a$b$a$", "INSERT INTO t FROM INFILE 'x'"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		st := inspect(sql)
		if st.data >= 0 && (st.first != "INSERT" || st.head > st.data || st.data > len(sql) || st.format == "") {
			t.Errorf("%q: %+v", sql, st)
		}
		in, err := readInput("", strings.NewReader(sql))
		if err != nil {
			t.Fatalf("%q: %v", sql, err)
		}
		if in.data != nil {
			got, err := io.ReadAll(in.data)
			if err != nil || !strings.HasSuffix(sql, string(got)) {
				t.Errorf("%q: data %q, %v", sql, got, err)
			}
		}
	})
}

func FuzzParseRequest(f *testing.F) {
	f.Add("query=SELECT+1&database=x&param_a=1&max_threads=1", "x")
	f.Add("compress=1&network_compression_method=ZSTD&network_zstd_compression_level=3", "")
	f.Add("a%00=1&session_id=%ff", "\xff")
	f.Fuzz(func(t *testing.T, raw, header string) {
		values, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		r, err := parseRequest(values, http.Header{"X-Clickhouse-Query-Id": {header}, "X-Clickhouse-Format": {header}})
		var e *exception
		if err != nil {
			if !errors.As(err, &e) || e.httpStatus() < 400 {
				t.Errorf("%q: %v", raw, err)
			}
			return
		}
		// Nothing but names and literals may reach the SET.
		sql := set(append(r.settings, param{"log_comment", "x"}))
		s := &scanner{sql: sql}
		var tokens []string
		for tok := s.next(); tok.kind != end; tok = s.next() {
			tokens = append(tokens, s.text(tok))
		}
		dots := 0
		for _, setting := range r.settings {
			dots += 2 * strings.Count(setting.name, ".")
		}
		if want := 1 + 4*(len(r.settings)+1) - 1; len(tokens) > want+dots {
			t.Errorf("%q became %q, %d tokens, want %d", raw, sql, len(tokens), want)
		}
	})
}

func FuzzLiteral(f *testing.F) {
	f.Add("it's", "a`b")
	f.Add("\\", "\\`")
	f.Fuzz(func(t *testing.T, value, name string) {
		for _, text := range []string{literal(value), identifier(name)} {
			s := &scanner{sql: text}
			if tok := s.next(); tok.kind != quoted || tok.end != len(text) {
				t.Errorf("%q is not one quoted token", text)
			}
		}
	})
}

// frame packs data as a client would.
func frame(t testing.TB, method compress.Method, data string) []byte {
	t.Helper()
	w := compress.NewWriter(compress.Level(3), method)
	if err := w.Compress([]byte(data)); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(w.Data)
}

func TestFrames(t *testing.T) {
	texts := []string{"", "x", strings.Repeat("callgate ", 300_000)}
	for _, method := range []compress.Method{compress.None, compress.LZ4, compress.LZ4HC, compress.ZSTD} {
		var stream bytes.Buffer
		for _, text := range texts {
			stream.Write(frame(t, method, text))
		}
		r := newFrameReader(bytes.NewReader(stream.Bytes()))
		got, err := io.ReadAll(r)
		r.Close()
		if err != nil || string(got) != strings.Join(texts, "") {
			t.Errorf("method %v: %d bytes, %v", method, len(got), err)
		}
		var out bytes.Buffer
		w, err := newFrameWriter(&out, map[compress.Method]string{compress.None: "NONE", compress.LZ4: "LZ4", compress.LZ4HC: "LZ4HC", compress.ZSTD: "ZSTD"}[method], 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range texts {
			if _, err := io.WriteString(w, text); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.flush(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(compress.NewReader(&out)); string(got) != strings.Join(texts, "") {
			t.Errorf("writing with method %v: %d bytes, %v", method, len(got), err)
		}
	}
}

// forge makes a frame with a right checksum and whatever lies inside.
func forge(method byte, size uint32, data []byte) []byte {
	b := make([]byte, frameHeader, frameHeader+len(data))
	b[frameChecksum] = method
	binary.LittleEndian.PutUint32(b[frameChecksum+1:], uint32(len(data)+9))
	binary.LittleEndian.PutUint32(b[frameChecksum+5:], size)
	b = append(b, data...)
	sum := city.CH128(b[frameChecksum:])
	binary.LittleEndian.PutUint64(b[0:], sum.Low)
	binary.LittleEndian.PutUint64(b[8:], sum.High)
	return b
}

func TestHostileFrames(t *testing.T) {
	good := frame(t, compress.LZ4, strings.Repeat("abc", 1000))
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	promise := bytes.Clone(good[:frameHeader])
	binary.LittleEndian.PutUint32(promise[frameChecksum+1:], maxFrame)
	huge := bytes.Clone(promise)
	binary.LittleEndian.PutUint32(huge[frameChecksum+1:], 1<<32-1)
	short := bytes.Clone(promise)
	binary.LittleEndian.PutUint32(short[frameChecksum+1:], 3)
	// More zeros than any frame may hold, in one that says it holds ten bytes.
	bomb := frame(t, compress.ZSTD, strings.Repeat("\x00", maxFrame+(1<<20)))[frameHeader:]
	for name, c := range map[string]struct {
		raw  []byte
		code int
	}{
		"flipped bit":        {flipped, codeChecksum},
		"ends in the header": {good[:10], codeCannotReadAllData},
		"ends in the data":   {good[:len(good)-1], codeCannotReadAllData},
		"empty promise":      {promise, codeCannotReadAllData},
		"too long":           {huge, codeTooLarge},
		"shorter than short": {short, codeTooLarge},
		"too long unpacked":  {forge(methodLZ4, 1<<31, []byte("x")), codeTooLarge},
		"impossible ratio":   {forge(methodLZ4, maxFrame, []byte("xxxx")), codeDecompress},
		"no LZ4":             {forge(methodLZ4, 4, []byte("\xff\xff\xff\xff")), codeDecompress},
		"no ZSTD":            {forge(methodZSTD, 4, []byte("none")), codeDecompress},
		"other length":       {forge(methodNone, 4, []byte("abc")), codeDecompress},
		"unknown method":     {forge(0x91, 3, []byte("abc")), codeDecompress},
		"ZSTD bomb":          {forge(methodZSTD, 10, bomb), codeDecompress},
	} {
		r := newFrameReader(bytes.NewReader(c.raw))
		_, err := io.ReadAll(r)
		r.Close()
		var e *exception
		if !errors.As(err, &e) || e.code != c.code {
			t.Errorf("%s: got %v, want code %d", name, err, c.code)
		}
	}
}

func FuzzFrames(f *testing.F) {
	for _, method := range []compress.Method{compress.None, compress.LZ4, compress.ZSTD} {
		f.Add(frame(f, method, "callgate callgate"), true)
	}
	f.Add(forge(methodLZ4, 100, []byte("abc")), false)
	f.Fuzz(func(t *testing.T, raw []byte, repair bool) {
		if repair && len(raw) > frameHeader {
			raw = forge(raw[frameChecksum], binary.LittleEndian.Uint32(raw[frameChecksum+5:])%(1<<20), raw[frameHeader:])
		}
		r := newFrameReader(bytes.NewReader(raw))
		defer r.Close()
		if _, err := io.ReadAll(r); err != nil {
			var e *exception
			if !errors.As(err, &e) {
				t.Errorf("not numbered: %v", err)
			}
		}
	})
}
