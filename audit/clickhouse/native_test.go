package clickhouse

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/ClickHouse/ch-go/compress"
	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
)

// nativeRevision is the protocol that the native server of tests speaks: the
// last whose blocks are the same, but for a prefix, as in the format Native.
const nativeRevision = 54453

// blockInfo is that prefix.
var blockInfo = []byte{1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0}

// nativeServer speaks ClickHouse's native protocol before the shared engine,
// which has only HTTP. So the client's half is tested whole, settings, data
// and errors included; the server's half is a stand-in with a real engine. It
// returns its address.
func nativeServer(t testing.TB, secure *tls.Config) string {
	t.Helper()
	engine := "http://" + sharedEngine(t) + "/"
	l := listen(t)
	addr := l.Addr().String()
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			ctx, cancel := context.WithCancel(ctx)
			context.AfterFunc(ctx, func() { conn.Close() })
			s := &nativeSession{ctx: ctx, engine: engine, conn: conn, in: chproto.NewReader(conn)}
			go func() {
				defer cancel()
				s.serve() // ends with the connection
			}()
		}
	}()
	return addr
}

type nativeSession struct {
	ctx    context.Context
	engine string
	conn   net.Conn
	in     *chproto.Reader
	out    chproto.Buffer
	hello  chproto.ClientHello
}

func (s *nativeSession) flush() error {
	_, err := s.conn.Write(s.out.Buf)
	s.out.Reset()
	return err
}

func (s *nativeSession) exception(err error) error {
	e := chproto.Exception{Code: 1001, Name: "DB::Exception", Message: err.Error()}
	var of *engineError
	if errors.As(err, &of) {
		e.Code = chproto.Error(of.code)
	}
	chproto.ServerCodeException.Encode(&s.out)
	e.EncodeAware(&s.out, nativeRevision)
	return s.flush()
}

func (s *nativeSession) serve() error {
	if code, err := s.in.UVarInt(); err != nil || chproto.ClientCode(code) != chproto.ClientCodeHello {
		return fmt.Errorf("no hello: %d, %w", code, err)
	}
	if err := s.hello.Decode(s.in); err != nil {
		return err
	}
	// A server refuses strangers, and those who ask for a database that is
	// not there, before anything else.
	if _, err := s.ask("SELECT 1", nil, nil); err != nil {
		return s.exception(err)
	}
	hello := chproto.ServerHello{Name: "ClickHouse", Major: 26, Minor: 7, Revision: nativeRevision, Timezone: "UTC", DisplayName: "test"}
	hello.EncodeAware(&s.out, nativeRevision)
	for {
		if err := s.flush(); err != nil {
			return err
		}
		code, err := s.in.UVarInt()
		if err != nil {
			return err
		}
		switch chproto.ClientCode(code) {
		case chproto.ClientCodePing:
			chproto.ServerCodePong.Encode(&s.out)
		case chproto.ClientCodeCancel:
		case chproto.ClientCodeQuery:
			var q chproto.Query
			if err := q.DecodeAware(s.in, nativeRevision); err != nil {
				return err
			}
			if err := s.query(q); err != nil {
				return err
			}
		default:
			return fmt.Errorf("packet %d", code)
		}
	}
}

var nativeInsert = regexp.MustCompile(`(?is)^\s*INSERT INTO (\S+)\s*\(([^)]*)\)\s*(SETTINGS [^()]*)?(VALUES|FORMAT Native)?\s*$`)

func (s *nativeSession) query(q chproto.Query) error {
	squeezed := q.Compression == chproto.CompressionEnabled
	if _, _, err := s.data(squeezed); err != nil { // external tables end here
		return err
	}
	into := nativeInsert.FindStringSubmatch(q.Body)
	if into == nil {
		result, err := s.ask(q.Body, nil, q.Settings)
		if err != nil {
			return s.exception(err)
		}
		return s.answer(result, squeezed)
	}
	sample, err := s.sample(into[1], into[2], q.Settings)
	if err != nil {
		return s.exception(err)
	}
	if err := s.send(sample, squeezed); err != nil {
		return err
	}
	if err := s.flush(); err != nil {
		return err
	}
	var rows bytes.Buffer
	for {
		block, columns, err := s.data(squeezed)
		if err != nil {
			return err
		}
		if columns == 0 {
			break
		}
		rows.Write(block[len(blockInfo):])
	}
	if rows.Len() > 0 {
		if _, err := s.ask(fmt.Sprintf("INSERT INTO %s (%s) FORMAT Native", into[1], into[2]), rows.Bytes(), q.Settings); err != nil {
			return s.exception(err)
		}
	}
	chproto.ServerCodeEndOfStream.Encode(&s.out)
	return nil
}

// sample is the empty block that tells a client the types of an insert.
func (s *nativeSession) sample(table, columns string, set []chproto.Setting) ([]byte, error) {
	described, err := s.ask("DESCRIBE TABLE "+table+" FORMAT TSVRaw", nil, set)
	if err != nil {
		return nil, err
	}
	types := map[string]string{}
	for _, line := range strings.Split(string(described), "\n") {
		if f := strings.Split(line, "\t"); len(f) > 1 {
			types[f[0]] = f[1]
		}
	}
	names := strings.Split(columns, ",")
	var b chproto.Buffer
	b.PutInt(len(names))
	b.PutInt(0)
	for _, name := range names {
		name = strings.Trim(strings.TrimSpace(name), "`")
		if types[name] == "" {
			return nil, &engineError{16, "no such column in table " + table + ": " + name}
		}
		b.PutString(name)
		b.PutString(types[name])
	}
	return b.Buf, nil
}

// answer sends a result in the format Native.
func (s *nativeSession) answer(result []byte, squeezed bool) error {
	if len(result) == 0 {
		result = []byte{0, 0}
	}
	in := &slow{r: bytes.NewReader(result)}
	r := chproto.NewReader(in)
	for in.n < len(result) {
		start := in.n
		block := proto.NewBlock()
		if err := block.Decode(r, 0); err != nil {
			return fmt.Errorf("decode the engine's answer: %w", err)
		}
		if err := s.send(result[start:in.n], squeezed); err != nil {
			return err
		}
	}
	chproto.ServerCodeEndOfStream.Encode(&s.out)
	return nil
}

// send sends one block that has no prefix yet.
func (s *nativeSession) send(block []byte, squeezed bool) error {
	chproto.ServerCodeData.Encode(&s.out)
	s.out.PutString("")
	data := append(bytes.Clone(blockInfo), block...)
	if squeezed {
		w := compress.NewWriter(compress.LevelZero, compress.LZ4)
		if err := w.Compress(data); err != nil {
			return err
		}
		data = w.Data
	}
	s.out.PutRaw(data)
	return nil
}

// data reads one packet of data.
func (s *nativeSession) data(squeezed bool) (block []byte, columns int, err error) {
	code, err := s.in.UVarInt()
	if err != nil {
		return nil, 0, err
	}
	if chproto.ClientCode(code) != chproto.ClientCodeData {
		return nil, 0, fmt.Errorf("packet %d where data were to come", code)
	}
	if _, err := s.in.Str(); err != nil { // the table's name
		return nil, 0, err
	}
	if squeezed {
		s.in.EnableCompression()
		defer s.in.DisableCompression()
	}
	in := &slow{r: s.in, keep: true}
	b := proto.NewBlock()
	err = b.Decode(chproto.NewReader(in), nativeRevision)
	return in.kept, len(b.Columns), err
}

// slow reads one byte at a time, so that nobody who buffers takes more than
// asked for.
type slow struct {
	r    io.Reader
	n    int
	keep bool
	kept []byte
}

func (s *slow) Read(p []byte) (int, error) {
	n, err := s.r.Read(p[:min(1, len(p))])
	s.n += n
	if s.keep {
		s.kept = append(s.kept, p[:n]...)
	}
	return n, err
}

// engineError is an exception of the engine.
type engineError struct {
	code int
	text string
}

func (e *engineError) Error() string { return e.text }

// ask sends a statement to the engine.
func (s *nativeSession) ask(sql string, data []byte, set []chproto.Setting) ([]byte, error) {
	values := url.Values{"default_format": {"Native"}, "query": {sql}}
	body := data
	if data == nil {
		values.Del("query")
		body = []byte(sql)
	}
	if s.hello.Database != "" {
		values.Set("database", s.hello.Database)
	}
	for _, v := range set {
		values.Set(v.Key, v.Value)
	}
	req, err := http.NewRequestWithContext(s.ctx, http.MethodPost, s.engine+"?"+values.Encode(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth(s.hello.User, s.hello.Password)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		code, _ := strconv.Atoi(resp.Header.Get("X-Clickhouse-Exception-Code"))
		return nil, &engineError{code, string(answer)}
	}
	return answer, nil
}

// native is cfg over the native protocol.
func native(t testing.TB, cfg Config) Config {
	t.Helper()
	cfg.URL = "clickhouse://" + nativeServer(t, nil)
	return cfg
}
