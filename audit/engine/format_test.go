//go:build linux

package engine

import (
	"bytes"
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pierrec/lz4/v4"
)

// A result of several blocks is one result in every format: one heading, one
// document.
func TestFormatsOfSeveralBlocks(t *testing.T) {
	t.Parallel()
	s := run(t, filepath.Join(t.TempDir(), "data"))
	const n = 20_000
	const sql = "SELECT number AS \"a\"\"\nb\", toString(number) AS s FROM numbers(20000) SETTINGS max_block_size = 5000 FORMAT "
	get := func(format string) string {
		t.Helper()
		a := s.post(sql + format)
		if a.status != 200 {
			t.Fatalf("%s: %s", format, a.body)
		}
		return a.body
	}
	for format, heading := range map[string]int{"CSV": 0, "CSVWithNames": 1, "CSVWithNamesAndTypes": 2} {
		rows, err := csv.NewReader(strings.NewReader(get(format))).ReadAll()
		if err != nil || len(rows) != n+heading || rows[n+heading-1][1] != strconv.Itoa(n-1) {
			t.Errorf("%s: %d rows, %v", format, len(rows), err)
		}
	}
	for format, lines := range map[string]int{"TSV": n, "TabSeparatedWithNames": n + 1, "TSVWithNamesAndTypes": n + 2, "JSONEachRow": n, "JSONCompactEachRowWithNames": n + 1,
		"JSONCompactEachRowWithNamesAndTypes": n + 2, "TSKV": n} {
		if got := strings.Count(get(format), "\n"); got != lines {
			t.Errorf("%s: %d lines, want %d", format, got, lines)
		}
	}
	for _, format := range []string{"JSON", "JSONCompact", "JSONColumns", "JSONStrings"} {
		var doc any
		if err := json.Unmarshal([]byte(get(format)), &doc); err != nil {
			t.Errorf("%s: %v", format, err)
		}
	}
	for _, format := range []string{"XML", "Markdown"} {
		if got := strings.Count(get(format), "<?xml") + strings.Count(get(format), "|-"); got > 3 {
			t.Errorf("%s: %d beginnings", format, got)
		}
	}
	for format, head := range map[string]int{"RowBinary": 0, "RowBinaryWithNames": 1, "RowBinaryWithNamesAndTypes": 2} {
		body := []byte(get(format))
		at := 0
		if head > 0 {
			at = binaryHeading(body, head)
		}
		rows := uint64(0)
		for at+9 <= len(body) && binary.LittleEndian.Uint64(body[at:]) == rows {
			rows++
			at += 9 + int(body[at+8])
		}
		if rows != n || at != len(body) {
			t.Errorf("%s: %d rows, then something else", format, rows)
		}
	}
	for _, format := range []string{"Parquet", "Arrow", "ORC"} {
		body := get(format)
		if magic := body[:4]; strings.Count(body, magic) > 2 {
			t.Errorf("%s: %d files", format, strings.Count(body, magic))
		}
	}

	// What can't be streamed is bounded, and the engine lives on.
	s.wantFail(s.post("SELECT repeat('x', 1000) FROM numbers(1000000) FORMAT JSON"), 500, 241)
	s.want(s.post("SELECT 1"), "1\n")
	if a := s.post("SELECT repeat('x', 1000) FROM numbers(300000) FORMAT TSV"); a.status != 200 || len(a.body) != 1001*300000 {
		t.Errorf("a result that is streamed is bounded: %d, %d bytes", a.status, len(a.body))
	}
}

// Python's driver sends what it inserts as LZ4 frames.
func TestBodyInLZ4(t *testing.T) {
	t.Parallel()
	s := run(t, filepath.Join(t.TempDir(), "data"))
	s.exec(s.client(), "CREATE TABLE l (n UInt64) ENGINE MergeTree ORDER BY n")
	var body bytes.Buffer
	z := lz4.NewWriter(&body)
	for i := range 10_000 {
		fmt.Fprintf(z, "%d\n", i)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	header := http.Header{"Content-Encoding": {"lz4"}, "X-Clickhouse-User": {"default"}, "X-Clickhouse-Key": {password}}
	if a := s.do(http.MethodPost, bytes.NewReader(body.Bytes()), header, "query=INSERT INTO l FORMAT TSV"); a.status != 200 {
		t.Fatal(a.body)
	}
	if n := s.count(s.client(), "SELECT count() FROM l"); n != 10_000 {
		t.Errorf("%d rows", n)
	}
	if a := s.do(http.MethodPost, bytes.NewReader(body.Bytes()[:100]), header, "query=INSERT INTO l FORMAT TSV"); a.status == 200 {
		t.Error("a frame that breaks off is taken")
	}
}

func FuzzHeading(f *testing.F) {
	f.Add("RowBinaryWithNames", []byte("\x02\x01a\x01bxyz"))
	f.Add("CSVWithNamesAndTypes", []byte("\"a\n\",b\n\"c\",d\n1,2\n"))
	f.Fuzz(func(t *testing.T, format string, piece []byte) {
		if n := headingOf(format, piece); n < 0 || n > len(piece) {
			t.Errorf("a heading of %d bytes in %d", n, len(piece))
		}
		j := newJoiner(format)
		if got := j.next(piece); string(got) != string(piece) {
			t.Error("the first piece is not passed on whole")
		}
	})
}
