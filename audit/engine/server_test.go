//go:build linux

package engine

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// One engine serves the tests that leave it as they found it.
func TestHTTP(t *testing.T) {
	s := run(t, t.TempDir())
	// What makes an acknowledged insert survive a power cut.
	for _, setting := range []string{"fsync_after_insert", "fsync_part_directory"} {
		s.want(s.post("SELECT value FROM system.merge_tree_settings WHERE name = {s:String}", "param_s="+setting), "1\n")
	}
	for name, test := range map[string]func(*testing.T, *server){
		"formats":       testFormats,
		"ways to ask":   testWaysToAsk,
		"credentials":   testCredentials,
		"refusals":      testRefusals,
		"confinement":   testConfinement,
		"inserts":       testInserts,
		"mid-stream":    testMidStream,
		"held back":     testHeldBack,
		"memory cap":    testMemoryCap,
		"many settings": testSettings,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			of := *s
			of.t = t
			test(t, &of)
		})
	}
}

func testFormats(t *testing.T, s *server) {
	s.want(s.post("SELECT number, 'x' FROM numbers(2)"), "0\tx\n1\tx\n")
	s.want(s.post("SELECT 1 AS n FORMAT JSONEachRow"), `{"n":1}`+"\n")
	s.want(s.post("SELECT 1", "default_format=CSV"), "1\n")
	s.want(s.post("SELECT 1 WHERE 0", "default_format=Native"), "")
	s.want(s.post("SHOW DATABASES LIKE 'def%'"), "default\n")
	s.want(s.post("SELECT count() FROM numbers(0)"), "0\n")
	a := s.post("SELECT toString(number) FROM numbers(300000)", "default_format=TSV")
	if n := strings.Count(a.body, "\n"); n != 300000 || a.err != nil {
		t.Errorf("got %d lines (%v), want 300000", n, a.err)
	}
	a = s.post("SELECT 1", "default_format=JSON", "query_id=my-id")
	for name, want := range map[string]string{
		"Content-Type": "application/json; charset=UTF-8", "X-ClickHouse-Format": "JSON",
		"X-ClickHouse-Query-Id": "my-id", "X-ClickHouse-Server-Display-Name": "callgate",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if sum := a.header.Get("X-ClickHouse-Summary"); !strings.Contains(sum, `"read_rows":"1"`) {
		t.Errorf("summary is %s", sum)
	}
}

func testWaysToAsk(t *testing.T, s *server) {
	s.want(s.post("", "query=SELECT 2"), "2\n")
	s.want(s.post("+1", "query=SELECT 2"), "3\n")
	s.want(s.do(http.MethodGet, nil, nil, "query=SELECT 4"), "4\n")
	s.want(s.do(http.MethodGet, nil, nil), "Ok.\n")
	s.want(s.do(http.MethodHead, nil, nil, "query=SELECT 4"), "")
	s.want(s.post("SELECT {n:UInt8} + 1, {s:String}", "param_n=41", "param_s=it's"), "42\tit\\'s\n")
	s.want(s.post("SELECT currentDatabase()", "database=system"), "system\n")
	s.want(s.post("SELECT currentDatabase()"), "default\n")
	s.want(s.post("SELECT ';' -- no; second /* statement\n;"), ";\n")
	res, err := http.Get("http://" + s.Addr() + "/ping")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("ping: %s", res.Status)
	}
}

func testCredentials(t *testing.T, s *server) {
	basic := func(user, pass string) http.Header {
		r := http.Request{Header: http.Header{}}
		r.SetBasicAuth(user, pass)
		return r.Header
	}
	headers := func(user, pass string) http.Header {
		return http.Header{"X-Clickhouse-User": {user}, "X-Clickhouse-Key": {pass}}
	}
	for name, c := range map[string]struct {
		header http.Header
		params []string
		code   int // 0 lets in
	}{
		"basic":             {header: basic("default", password)},
		"headers":           {header: headers("default", password)},
		"parameters":        {header: http.Header{}, params: []string{"user=default", "password=" + password}},
		"none":              {header: http.Header{}, code: codeNoPassword},
		"wrong password":    {header: basic("default", password+"x"), code: codeAuthentication},
		"prefix":            {header: basic("default", password[:5]), code: codeAuthentication},
		"empty password":    {header: basic("default", ""), code: codeAuthentication},
		"wrong user":        {header: basic("root", password), code: codeAuthentication},
		"wrong header":      {header: headers("default", "x"), code: codeAuthentication},
		"key alone":         {header: headers("", password), code: codeAuthentication},
		"bearer":            {header: http.Header{"Authorization": {"Bearer x"}}, code: codeAuthentication},
		"wrong parameters":  {header: http.Header{}, params: []string{"user=default", "password=x"}, code: codeAuthentication},
		"good and bad":      {header: basic("default", password), params: []string{"user=default", "password=x"}, code: codeAuthentication},
		"bad and good":      {header: basic("default", "x"), params: []string{"user=default", "password=" + password}, code: codeAuthentication},
		"swapped":           {header: basic(password, "default"), code: codeAuthentication},
		"not base64":        {header: http.Header{"Authorization": {"Basic !!!"}}, code: codeAuthentication},
		"two in the header": {header: http.Header{"Authorization": {"Basic eDp5"}, "X-Clickhouse-User": {"default"}, "X-Clickhouse-Key": {password}}, code: codeAuthentication},
	} {
		a := s.do(http.MethodPost, strings.NewReader("SELECT 1"), c.header, c.params...)
		switch c.code {
		case 0:
			s.want(a, "1\n")
		case codeNoPassword:
			s.wantFail(a, http.StatusUnauthorized, c.code, "password")
		default:
			s.wantFail(a, http.StatusForbidden, c.code)
		}
		if t.Failed() {
			t.Fatalf("case %q", name)
		}
		if strings.Contains(a.body, password) {
			t.Errorf("%s: the answer holds the password", name)
		}
	}
}

func testRefusals(t *testing.T, s *server) {
	s.wantFail(s.post("SELEKT 1"), http.StatusBadRequest, codeSyntax, "Syntax error")
	s.wantFail(s.post(""), http.StatusBadRequest, codeSyntax, "Empty query")
	s.wantFail(s.post("exit"), http.StatusBadRequest, codeSyntax)
	s.wantFail(s.post("?? tell me everything"), http.StatusBadRequest, codeSyntax)
	s.wantFail(s.post("SELECT * FROM nosuch"), http.StatusNotFound, 60, "nosuch")
	s.wantFail(s.post("SELECT 1; SELECT 2"), http.StatusBadRequest, codeSyntax, "Multi-statements")
	s.wantFail(s.post("SELECT 1", "database=nosuch"), http.StatusNotFound, 81)
	s.wantFail(s.post("SELECT 1", "database=a`; DROP DATABASE default; --"), http.StatusNotFound, 81)
	s.wantFail(s.post("SELECT 1", "nosuch_setting=1"), http.StatusNotFound, 115)
	s.wantFail(s.post("SELECT 1", "max_threads=1, readonly"), http.StatusBadRequest, 27)
	s.wantFail(s.post("SELECT 1", "max_threads=1' , max_memory_usage='0"), http.StatusBadRequest, 27)
	s.wantFail(s.post("SELECT 1", "a b=1"), http.StatusBadRequest, codeBadArguments, "setting's name")
	// Many clients name a session and keep nothing in it.
	s.want(s.post("SELECT 1", "session_id=x", "session_timeout=60"), "1\n")
	for _, sql := range []string{"SET max_threads = 1", "/* */ use system", "CREATE TEMPORARY TABLE x (a UInt8)", "CREATE OR REPLACE TEMPORARY TABLE x (a UInt8)"} {
		s.wantFail(s.post(sql, "session_id=x"), http.StatusNotImplemented, codeNotImplemented, "keeps no sessions")
	}
	s.wantFail(s.post("SELECT {x:UInt8}"), http.StatusBadRequest, 456)
	s.wantFail(s.do(http.MethodGet, nil, nil, "query=CREATE TABLE g (a UInt8) ENGINE=Memory"), http.StatusForbidden, codeReadonly, "use POST")
	s.wantFail(s.do(http.MethodGet, nil, nil, "query=INSERT INTO g VALUES (1)"), http.StatusForbidden, codeReadonly)
	s.wantFail(s.do(http.MethodDelete, nil, nil, "query=SELECT 1"), http.StatusNotImplemented, codeNotImplemented)
	s.wantFail(s.post(strings.Repeat("SELECT 1 UNION ALL ", maxQuery/19+1)), http.StatusRequestEntityTooLarge, codeTooLarge, "longer than")
	values := "http://" + s.Addr() + "/?user=default&user=root&password=x"
	res, err := http.Post(values, "", strings.NewReader("SELECT 1"))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode == http.StatusOK {
		t.Error("a doubled user was let in")
	}
}

// Who may ask SQL must not thereby read the files of the user who runs the
// engine, write some, call other machines, or end the process.
func testConfinement(t *testing.T, s *server) {
	secret := filepath.Join(t.TempDir(), "secret.tsv")
	if err := os.WriteFile(secret, []byte("topsecret\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out.tsv")
	s.post("CREATE TABLE stolen (s String) ENGINE=MergeTree ORDER BY s")
	other, err := http.NewRequest(http.MethodGet, "http://"+s.Addr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		"SELECT file('" + secret + "')",
		"SELECT * FROM file('" + secret + "', 'LineAsString')",
		"SELECT * FROM `" + secret + "`",
		"SELECT * FROM default.`" + secret + "`",
		"SELECT * FROM format(Values, 's String', $$(file('" + secret + "'))$$)",
		"INSERT INTO stolen VALUES (file('" + secret + "'))",
		"INSERT INTO stolen FROM INFILE '" + secret + "' FORMAT LineAsString",
		"INSERT INTO stolen /* x */ FROM -- y\n INFILE '" + secret + "' FORMAT LineAsString",
		"INSERT INTO FUNCTION file('" + out + "', 'TSV', 's String') VALUES ('x')",
		"INSERT INTO TABLE FUNCTION file('" + out + "', 'TSV', 's String') SELECT 'x'",
		"SELECT 1 INTO OUTFILE '" + out + "'",
		"SELECT 1 INTO/**/OUTFILE '" + out + "'",
		"WITH 1 AS x SELECT x INTO OUTFILE '" + out + "' FORMAT TSV",
		"(SELECT 1) UNION ALL (SELECT 2) INTO OUTFILE '" + out + "'",
		"EXPLAIN SELECT 1 INTO OUTFILE '" + out + "'",
		"SHOW DATABASES INTO OUTFILE '" + out + "'",
		"CREATE TABLE f (s String) ENGINE=File(TSV, '" + secret + "')",
		"CREATE DATABASE fs ENGINE=Filesystem('" + filepath.Dir(secret) + "')",
		"CREATE DICTIONARY d (s String) PRIMARY KEY s SOURCE(FILE(path '" + secret + "' format 'LineAsString')) LAYOUT(FLAT()) LIFETIME(0)",
		"SELECT * FROM url('" + other.URL.String() + "/ping', LineAsString)",
		"SELECT * FROM remote('" + s.Addr() + "', system.one)",
		"SELECT * FROM s3('http://bucket." + s.Addr() + "/key', 'LineAsString')",
		"SELECT * FROM executable('cat', 'TSV', 's String')",
		"BACKUP DATABASE default TO File('" + out + "')",
		"ATTACH TABLE a FROM '" + filepath.Dir(secret) + "' (s String) ENGINE=MergeTree ORDER BY s",
		"CREATE USER mallory",
		"GRANT ALL ON *.* TO default",
		"SYSTEM SHUTDOWN",
		"SYSTEM KILL",
	} {
		a := s.post(sql)
		if a.status == http.StatusOK {
			t.Errorf("%s\nwas let through: %q", sql, a.body)
		}
		if strings.Contains(a.body, "topsecret") {
			t.Errorf("%s\ngave the secret away", sql)
		}
	}
	s.want(s.post("SELECT count() FROM stolen"), "0\n")
	if _, err := os.Stat(out); err == nil {
		t.Error("a file was written")
	}
	s.want(s.post("SELECT 1"), "1\n")
	if env := s.post("SELECT file('/proc/self/environ')"); strings.Contains(env.body, "HOME_SECRET") {
		t.Error("the parent's environment reached the engine")
	}
}

// What one request does to its session must not reach another's.
func TestNothingLeaksBetweenRequests(t *testing.T) {
	s := run(t, t.TempDir())
	before := s.post("SELECT getSetting('max_block_size'), currentDatabase()")
	for i := range 8 { // each of the four sessions, twice
		s.want(s.post("SELECT getSetting('max_block_size'), currentDatabase()", "database=system", fmt.Sprintf("max_block_size=%d", 1000+i)), fmt.Sprintf("%d\tsystem\n", 1000+i))
	}
	for range 8 {
		s.want(s.post("SELECT getSetting('max_block_size'), currentDatabase()"), before.body)
	}
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			switch i % 4 {
			case 0:
				s.want(s.post("SELECT getSetting('max_block_size')", fmt.Sprintf("max_block_size=%d", 1000+i)), fmt.Sprintf("%d\n", 1000+i))
			case 1:
				s.want(s.post("SET max_block_size = 7"), "")
			case 2:
				s.want(s.post("USE system"), "")
			case 3:
				s.wantFail(s.post("SELECT throwIf(1)", "max_block_size=9"), http.StatusInternalServerError, 395)
			}
		})
	}
	wg.Wait()
	for range 12 {
		s.want(s.post("SELECT getSetting('max_block_size'), currentDatabase()"), before.body)
	}
	s.wantFail(s.post("SELECT getSetting('param_x')", "param_x=1"), http.StatusNotFound, 115)
	s.wantFail(s.post("SELECT {x:String}"), http.StatusBadRequest, 456)
}

func testInserts(t *testing.T, s *server) {
	table := func(name string) {
		s.want(s.post("CREATE TABLE "+name+" (a UInt64, s String) ENGINE=MergeTree ORDER BY a"), "")
	}
	table("ins")
	nasty := "x\n\ny\x00z\\ ' \xff\xfe ;\n\nINSERT"
	// RowBinary: 8 bytes, then length and bytes.
	row := string([]byte{1, 0, 0, 0, 0, 0, 0, 0, byte(len(nasty))}) + nasty
	a := s.post(row, "query=INSERT INTO ins FORMAT RowBinary")
	s.want(a, "")
	if sum := a.header.Get("X-ClickHouse-Summary"); !strings.Contains(sum, `"written_rows":"1"`) {
		t.Errorf("summary is %s", sum)
	}
	s.want(s.post("INSERT INTO ins FORMAT RowBinary\n"+row), "")
	s.want(s.post("SELECT count() FROM ins WHERE s = unhex('"+fmt.Sprintf("%x", nasty)+"')"), "2\n")
	s.want(s.post("INSERT INTO ins (a, s) VALUES (10, 'x;y'), (11, toString(1+1));"), "")
	s.want(s.post("VALUES (12, 'body')", "query=INSERT INTO ins"), "")
	s.want(s.post("(13, 'body')", "query=INSERT INTO ins (a, s) VALUES"), "")
	s.want(s.post("INSERT INTO ins FORMAT JSONEachRow\n\n\n{\"a\":14,\"s\":\"j\"}\n\n\n{\"a\":15,\"s\":\"k\"}\n"), "")
	s.want(s.post("SELECT count() FROM ins WHERE a IN (14, 15)"), "2\n")
	s.want(s.post("SELECT a, s FROM ins WHERE a BETWEEN 10 AND 13 ORDER BY a"), "10\tx;y\n11\t2\n12\tbody\n13\tbody\n")
	s.want(s.post("", "query=INSERT INTO ins SELECT number + 100, 'sel' FROM numbers(5)"), "")
	s.want(s.post("SELECT count() FROM ins WHERE a >= 100"), "5\n")
	s.want(s.post("{\"a\":200,\"s\":\"p\"}", "query=INSERT INTO {t:Identifier} FORMAT JSONEachRow", "param_t=ins"), "")
	s.want(s.post("SELECT s FROM ins WHERE a = 200"), "p\n")
	s.want(s.post("", "query=INSERT INTO ins FORMAT TSV"), "")

	s.wantFail(s.post("nonsense\n", "query=INSERT INTO ins FORMAT TSV"), http.StatusBadRequest, 27)
	s.wantFail(s.post("x", "query=INSERT INTO nosuch FORMAT TSV"), http.StatusNotFound, 60)
	s.wantFail(s.post("x", "query=INSERT INTO ins FORMAT Nonsense"), http.StatusBadRequest, 73)
	s.wantFail(s.post("1\tx\n", "query=INSERT INTO ins FORMAT TSV SETTINGS max_threads=1"), http.StatusBadRequest, codeSyntax, "before FORMAT")
	// A format in which the data end too early must not commit.
	s.wantFail(s.post(row[:len(row)-1], "query=INSERT INTO ins FORMAT RowBinary"), http.StatusBadRequest, codeCannotReadAllData)

	// An error that only the last flush meets must still be told.
	s.want(s.post("CREATE TABLE checked (a UInt64, CONSTRAINT small CHECK a < 10) ENGINE=MergeTree ORDER BY a"), "")
	s.wantFail(s.post("50\n", "query=INSERT INTO checked FORMAT TSV"), http.StatusInternalServerError, 469)
	s.want(s.post("SELECT count() FROM checked"), "0\n")
}

func testMidStream(t *testing.T, s *server) {
	a := s.post("SELECT number, throwIf(number = 5000000) FROM numbers(10000000)")
	tag := a.header.Get("X-ClickHouse-Exception-Tag")
	if a.status != http.StatusOK || a.err == nil || len(tag) != 16 {
		t.Fatalf("got %d, read error %v, tag %q; want a broken-off 200 with a tag", a.status, a.err, tag)
	}
	last := a.body[max(0, len(a.body)-1000):]
	for _, want := range []string{"\r\n__exception__\r\n" + tag + "\r\nCode: 395.", tag + "\r\n__exception__\r\n"} {
		if !strings.Contains(last, want) {
			t.Errorf("the end lacks %q:\n%q", want, last)
		}
	}
	// The same, awaited whole, has a status of its own.
	s.wantFail(s.post("SELECT number, throwIf(number = 5000000) FROM numbers(10000000)", "wait_end_of_query=1"), http.StatusInternalServerError, 395)
}

func testHeldBack(t *testing.T, s *server) {
	for _, rows := range []int{0, 10, 3_000_000} {
		a := s.post(fmt.Sprintf("SELECT number FROM numbers(%d)", rows), "wait_end_of_query=1")
		if n := strings.Count(a.body, "\n"); n != rows || a.status != http.StatusOK || a.err != nil {
			t.Errorf("got %d rows, %d (%v), want %d", n, a.status, a.err, rows)
		}
	}
	left, err := os.ReadDir(filepath.Join(s.path, "callgate-tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func testMemoryCap(t *testing.T, s *server) {
	s.wantFail(s.post("SELECT length(groupArray(number)) FROM numbers(1000000000)"), http.StatusInternalServerError, 241, "limit exceeded")
	// The cap of the whole can't be lifted by a setting.
	s.wantFail(s.post("SELECT length(groupArray(number)) FROM numbers(1000000000)", "max_memory_usage=0"), http.StatusInternalServerError, 241, "limit exceeded")
	s.want(s.post("SELECT 1"), "1\n")
}

func testSettings(t *testing.T, s *server) {
	s.want(s.post("SELECT getSetting('max_result_rows')", "max_result_rows=5", "result_overflow_mode=throw"), "5\n")
	s.wantFail(s.post("SELECT number FROM numbers(10)", "max_result_rows=5", "result_overflow_mode=throw"), http.StatusInternalServerError, 396)
	s.wantFail(s.post("SELECT sleepEachRow(1) FROM numbers(100) SETTINGS max_block_size=1", "max_execution_time=1"), http.StatusRequestTimeout, 159)
	s.want(s.post("SELECT getSetting('insert_deduplication_token')", "insert_deduplication_token=a'b\\c"), "a\\'b\\\\c\n")
}
