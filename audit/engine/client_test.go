//go:build linux

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
)

var compressions = map[string]*clickhouse.Compression{
	"none":    nil,
	"lz4":     {Method: clickhouse.CompressionLZ4},
	"zstd":    {Method: clickhouse.CompressionZSTD, Level: 3},
	"gzip":    {Method: clickhouse.CompressionGZIP, Level: 3},
	"deflate": {Method: clickhouse.CompressionDeflate, Level: 3},
	"brotli":  {Method: clickhouse.CompressionBrotli, Level: 3},
}

// everything is a row of each type that the audit trail needs, and then some.
type everything struct {
	S    string            `ch:"s"`
	U    uuid.UUID         `ch:"u"`
	T    time.Time         `ch:"t"`
	M    map[string]string `ch:"m"`
	A    []string          `ch:"a"`
	N    *string           `ch:"n"`
	E    string            `ch:"e"`
	L    string            `ch:"l"`
	I    int64             `ch:"i"`
	F    float64           `ch:"f"`
	B    bool              `ch:"b"`
	X    [32]byte          `ch:"x"`
	J    *clickhouse.JSON  `ch:"j"`
	Pair []any             `ch:"pair"`
}

func TestClient(t *testing.T) {
	s := run(t, t.TempDir())
	c := s.client()
	s.exec(c, `CREATE DATABASE callgate`)
	for name, compression := range compressions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			of := *s
			of.t = t
			testTypes(&of, "types_"+name, compression)
		})
	}
}

// testTypes writes rows of all types in batches and reads them back.
func testTypes(s *server, table string, compression *clickhouse.Compression) {
	t := s.t
	c := s.client(func(o *clickhouse.Options) {
		o.Compression = compression
		o.Auth.Database = "callgate"
	})
	s.exec(c, "CREATE TABLE "+table+` (
		s String, u UUID, t DateTime64(6, 'UTC'), m Map(LowCardinality(String), String), a Array(String),
		n Nullable(String), e Enum8('allow' = 1, 'deny' = 2), l LowCardinality(String), i Int64, f Float64, b Bool,
		x FixedString(32), j JSON, pair Tuple(String, UInt32)
	) ENGINE = MergeTree PARTITION BY toDate(t) ORDER BY (t, i)`)
	when := time.Date(2026, 11, 23, 12, 0, 0, 123456000, time.UTC)
	text := "null \x00, blank lines \n\n, not UTF-8 \xff\xfe, quote ' and \\"
	make := func(i int) everything {
		r := everything{
			S: text, U: uuid.NewSHA1(uuid.Nil, []byte(strconv.Itoa(i))), T: when, M: map[string]string{"k": text, "": ""},
			A: []string{"", text}, E: []string{"allow", "deny"}[i%2], L: "low" + strconv.Itoa(i%3), I: int64(i), F: 1.5, B: i%2 == 0,
			Pair: []any{"p", uint32(i)},
		}
		copy(r.X[:], fmt.Sprintf("%032d", i))
		if i%2 == 0 {
			r.N = &text
		}
		r.J = clickhouse.NewJSON()
		r.J.SetValueAtPath("args.id", int64(i))
		r.J.SetValueAtPath("args.name", "x")
		return r
	}
	const rows, each = 900, 300
	for from := 0; from < rows; from += each {
		batch, err := c.PrepareBatch(t.Context(), "INSERT INTO "+table)
		if err != nil {
			t.Fatal(err)
		}
		for i := from; i < from+each; i++ {
			r := make(i)
			if err := batch.Append(r.S, r.U, r.T, r.M, r.A, r.N, r.E, r.L, r.I, r.F, r.B, string(r.X[:]), r.J, r.Pair); err != nil {
				t.Fatal(err)
			}
		}
		if err := batch.Send(); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.count(c, "SELECT count() FROM "+table); n != rows {
		t.Fatalf("%d rows, want %d", n, rows)
	}
	result, err := c.Query(t.Context(), "SELECT s, u, t, m, a, n, e, l, i, f, b, x, pair, j.args.id::Int64 FROM "+table+" WHERE i >= {from:Int64} ORDER BY i",
		clickhouse.Named("from", 0))
	if err != nil {
		t.Fatal(err)
	}
	defer result.Close()
	i := 0
	for ; result.Next(); i++ {
		want := make(i)
		var got everything
		var x string
		var id int64
		if err := result.Scan(&got.S, &got.U, &got.T, &got.M, &got.A, &got.N, &got.E, &got.L, &got.I, &got.F, &got.B, &x, &got.Pair, &id); err != nil {
			t.Fatal(err)
		}
		copy(got.X[:], x)
		want.J = nil
		if id != int64(i) || !reflect.DeepEqual(got, want) {
			t.Fatalf("row %d: got %+v (id %d), want %+v", i, got, id, want)
		}
	}
	if err := result.Err(); err != nil || i != rows {
		t.Fatalf("%d rows read (%v), want %d", i, err, rows)
	}
	var whole clickhouse.JSON
	if err := c.QueryRow(t.Context(), "SELECT j FROM "+table+" WHERE i = 7").Scan(&whole); err != nil {
		t.Errorf("scan JSON: %v", err)
	} else if id, _ := clickhouse.ExtractJSONPathAs[int64](&whole, "args.id"); id != 7 {
		t.Errorf("JSON is %v", whole.NestedMap())
	}

	// Server-side parameters and settings.
	ctx := clickhouse.Context(t.Context(), clickhouse.WithParameters(clickhouse.Parameters{"n": "41", "s": "it's"}),
		clickhouse.WithSettings(clickhouse.Settings{"max_block_size": 1234}), clickhouse.WithQueryID("mine"))
	var n, size uint64
	var str string
	if err := c.QueryRow(ctx, "SELECT {n:UInt64} + 1, {s:String}, toUInt64(getSetting('max_block_size'))").Scan(&n, &str, &size); err != nil || n != 42 || str != "it's" || size != 1234 {
		t.Errorf("got %d %q %d, %v", n, str, size, err)
	}
	// Errors are the driver's own, before and in the middle of a result.
	var ex *clickhouse.Exception
	if err := c.Exec(t.Context(), "SELECT * FROM nosuch"); !errors.As(err, &ex) || ex.Code != 60 {
		t.Errorf("got %v, want code 60", err)
	}
	if _, err := c.Query(t.Context(), "SELEKT"); !errors.As(err, &ex) || ex.Code != 62 && ex.Code != 47 {
		t.Errorf("got %v, want a syntax error", err)
	}
	broken, err := c.Query(t.Context(), "SELECT number, throwIf(number = 500000) FROM numbers(1000000)")
	if err != nil {
		t.Fatal(err)
	}
	for broken.Next() {
	}
	if err := broken.Err(); !errors.As(err, &ex) || ex.Code != 395 {
		t.Errorf("got %v in mid-stream, want code 395", err)
	}
	broken.Close()
}

func TestWrongPassword(t *testing.T) {
	s := run(t, t.TempDir())
	c := s.client(func(o *clickhouse.Options) { o.Auth.Password = "guess" })
	var ex *clickhouse.Exception
	if err := c.Ping(t.Context()); !errors.As(err, &ex) || ex.Code != codeAuthentication {
		t.Errorf("got %v, want code %d", err, codeAuthentication)
	}
}

func TestParallelQueries(t *testing.T) {
	s := run(t, t.TempDir())
	c := s.client(func(o *clickhouse.Options) { o.MaxOpenConns = 16 })
	s.exec(c, "CREATE TABLE p (g UInt32, n UInt64) ENGINE = MergeTree ORDER BY (g, n)")
	var wg sync.WaitGroup
	for g := range 16 { // four times the engine's sessions
		wg.Go(func() {
			for round := range 5 {
				batch, err := c.PrepareBatch(t.Context(), "INSERT INTO p")
				if err != nil {
					t.Error(err)
					return
				}
				for n := range 100 {
					if err := batch.Append(uint32(g), uint64(round*100+n)); err != nil {
						t.Error(err)
					}
				}
				if err := batch.Send(); err != nil {
					t.Error(err)
				}
				var got uint64
				if err := c.QueryRow(t.Context(), "SELECT count() FROM p WHERE g = ?", g).Scan(&got); err != nil || got != uint64(100*(round+1)) {
					t.Errorf("writer %d sees %d rows after round %d: %v", g, got, round, err)
				}
			}
		})
	}
	wg.Wait()
}

// running counts the statements that the engine works on, but this one.
func running(s *server) string {
	return s.post("SELECT count() FROM system.processes WHERE query NOT LIKE '%system.processes%'").body
}

// eventually waits for the engine to notice; the test's own time-out bounds it.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for !holds() {
		if t.Context().Err() != nil {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A client that goes away frees the engine, whatever its statement does: an
// aggregation that yields nothing until its end, a result that nobody reads,
// an INSERT … SELECT, an INSERT whose data stop coming.
func TestCancelFreesTheEngine(t *testing.T) {
	s := run(t, t.TempDir())
	c := s.client()
	s.exec(c, "CREATE TABLE sink (n UInt64) ENGINE = MergeTree ORDER BY n")
	for name, start := range map[string]func(ctx context.Context) error{
		"aggregation": func(ctx context.Context) error {
			return c.QueryRow(ctx, "SELECT count() FROM numbers(1000000000000) WHERE cityHash64(number) % 7 = 1").Scan(new(uint64))
		},
		"insert select": func(ctx context.Context) error {
			return c.Exec(ctx, "INSERT INTO sink SELECT number FROM numbers(1000000000000) WHERE cityHash64(number) % 1000000000 = 1")
		},
		"unread result": func(ctx context.Context) error {
			rows, err := c.Query(ctx, "SELECT number FROM numbers(1000000000000)")
			if err != nil {
				return err
			}
			<-ctx.Done()
			rows.Close()
			return ctx.Err()
		},
		"stalled insert": func(ctx context.Context) error {
			stop := s.trickle(ctx, "1\n2\n")
			<-ctx.Done()
			stop()
			return ctx.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- start(ctx) }()
			eventually(t, "the statement runs", func() bool { return running(s) == "1\n" })
			cancel()
			if err := <-ended; err == nil {
				t.Error("the statement ended by itself")
			}
			eventually(t, "the engine is free", func() bool { return running(s) == "0\n" })
		})
	}
	if n := s.count(c, "SELECT count() FROM sink"); n != 0 {
		t.Errorf("%d rows came from inserts that were given up", n)
	}
}

// Every session busy and given up, many times over: none may be lost.
func TestNoSessionIsLost(t *testing.T) {
	s := run(t, t.TempDir())
	c := s.client(func(o *clickhouse.Options) { o.MaxOpenConns = 32; o.MaxIdleConns = 32 })
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() {
				if err := c.QueryRow(ctx, "SELECT count() FROM numbers(1000000000000) WHERE cityHash64(number) % 7 = 1").Scan(new(uint64)); err == nil {
					t.Error("ended by itself")
				}
			})
		}
		time.Sleep(50 * time.Millisecond)
		cancel()
		wg.Wait()
	}
	var wg sync.WaitGroup
	for range 4 { // all sessions at once
		wg.Go(func() {
			if err := c.QueryRow(t.Context(), "SELECT sleep(0.1)").Scan(new(uint8)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// A huge result passes through: the engine's process must not hold it.
func TestHugeResultInBoundedMemory(t *testing.T) {
	s := run(t, t.TempDir())
	s.want(s.post("SELECT 1"), "1\n")
	before := resident(t, s.PID())
	const rows, width = 1_000_000, 1000 // 1 GB, which is more than may be held
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.Addr(),
		strings.NewReader(fmt.Sprintf("SELECT repeat('x', %d) FROM numbers(%d)", width, rows)))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("default", password)
	req.Header.Set("Accept-Encoding", "identity")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var got int64
	var peak uint64
	for {
		n, err := io.CopyN(io.Discard, res.Body, 50<<20)
		got += n
		peak = max(peak, resident(t, s.PID()))
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got != rows*(width+1) {
		t.Errorf("got %d bytes, want %d", got, rows*(width+1))
	}
	t.Logf("resident before %d MB, at most %d MB", before>>20, peak>>20)
	if grown := int64(peak) - int64(before); grown > 700<<20 {
		t.Errorf("grew by %d MB", grown>>20)
	}
}

// resident is a process's memory in bytes.
func resident(t *testing.T, pid int) uint64 {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseUint(strings.Fields(string(raw))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * uint64(os.Getpagesize())
}

// A batch sent again under the same token counts once, another token counts
// again, and no token is no memory of what came before, unless the rows are the
// same.
func TestDeduplicationToken(t *testing.T) {
	s := run(t, t.TempDir())
	c := s.client(func(o *clickhouse.Options) {
		o.Compression = &clickhouse.Compression{Method: clickhouse.CompressionLZ4}
	})
	s.exec(c, "CREATE TABLE d (n UInt64) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 100")
	send := func(token string, rows ...uint64) {
		t.Helper()
		ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"insert_deduplication_token": token}))
		batch, err := c.PrepareBatch(ctx, "INSERT INTO d")
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range rows {
			if err := batch.Append(n); err != nil {
				t.Fatal(err)
			}
		}
		if err := batch.Send(); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		token string
		rows  []uint64
		want  uint64
	}{
		{"spool-1", []uint64{1, 2, 3}, 3},
		{"spool-1", []uint64{1, 2, 3}, 3},
		{"spool-1", []uint64{4, 5}, 3}, // the token decides, not the rows
		{"spool-2", []uint64{1, 2, 3}, 6},
		{"spool-2", []uint64{1, 2, 3}, 6},
	} {
		send(step.token, step.rows...)
		if n := s.count(c, "SELECT count() FROM d"); n != step.want {
			t.Fatalf("%d rows after %+v", n, step)
		}
	}
}

// Corrections to rows, both ways.
func TestUpdates(t *testing.T) {
	s := run(t, t.TempDir())
	c := s.client()
	s.exec(c, "CREATE TABLE u (n UInt64, s String) ENGINE = MergeTree ORDER BY n SETTINGS enable_block_number_column = 1, enable_block_offset_column = 1")
	s.exec(c, "INSERT INTO u SELECT number, 'unknown' FROM numbers(1000)")
	s.exec(c, "UPDATE u SET s = 'light' WHERE n = 1")
	ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"mutations_sync": 2}))
	if err := c.Exec(ctx, "ALTER TABLE u UPDATE s = 'heavy' WHERE n = 2"); err != nil {
		t.Fatal(err)
	}
	for s_, want := range map[string]uint64{"light": 1, "heavy": 1, "unknown": 998} {
		if n := s.count(c, "SELECT count() FROM u WHERE s = '"+s_+"'"); n != want {
			t.Errorf("%d rows say %s, want %d", n, s_, want)
		}
	}
}
