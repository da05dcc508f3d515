package clickhouse

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/callgate/callgate/call"
)

// clusterConfig makes the shared engine a cluster of one, as far as it can be:
// distributed tables work, since it finds itself to be the shard; replicated
// tables can be made and take nothing, since it has no port for other replicas;
// and statements ON CLUSTER have no queue to go through.
var clusterConfig = map[string]string{
	"config.d/cluster.xml": `<clickhouse>
  <tcp_port>9000</tcp_port>
  <zookeeper><implementation>testkeeper</implementation></zookeeper>
  <macros><shard>01</shard><replica>a</replica></macros>
  <remote_servers><trail><shard><internal_replication>true</internal_replication>
    <replica><host>127.0.0.1</host><port>9000</port></replica></shard></trail></remote_servers>
</clickhouse>`,
	"users.d/grants.xml": `<clickhouse><users><default><grants replace="replace"><query>GRANT ALL ON *.*</query></grants></default></users></clickhouse>`,
}

var (
	onCluster  = regexp.MustCompile(` ON CLUSTER 'trail'`)
	replicated = regexp.MustCompile(`Replicated(\w+)\('[^']+', '[^']+'\)`)
	window     = regexp.MustCompile(`replicated_deduplication_window = (\d+), replicated_deduplication_window_seconds = \d+`)
)

// alone is what one server does of a statement for a cluster.
func alone(sql string) string {
	sql = onCluster.ReplaceAllString(sql, "")
	sql = replicated.ReplaceAllString(sql, "$1")
	return window.ReplaceAllString(sql, "non_replicated_deduplication_window = $1")
}

// oneServerCluster is cfg with the trail on the cluster that the shared engine
// is. What the engine can't do is done by a proxy on the way: it takes
// ON CLUSTER and the replication out of statements. Inserts and queries through
// distributed tables are real.
func oneServerCluster(t testing.TB, cfg Config) Config {
	t.Helper()
	target, err := url.Parse(cfg.URL)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		for _, verb := range []string{"CREATE", "ALTER", "DROP VIEW", "UPDATE", "DELETE"} {
			if !bytes.HasPrefix(body, []byte(verb)) {
				continue
			}
			if !onCluster.Match(body) {
				t.Errorf("not for the whole cluster: %.200s", body)
			}
			if len(body) > 1<<20 {
				t.Errorf("%d bytes are too many for a node of Keeper: %.200s", len(body), body)
			}
			body = []byte(alone(string(body)))
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	cfg.URL, cfg.Cluster = server.URL, Cluster{Name: "trail"}
	return cfg
}

// What is true of one server is true of distributed tables.
func TestCluster(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"Migrate": TestMigrate, "Copy": TestCopy, "OneCompleteRow": TestOneCompleteRow, "LateLeg": TestLateLeg, "LegsOnOtherSpools": TestLegsOnOtherSpools,
		"LateLegOnAnotherSpool": TestLateLegOnAnotherSpool, "UnknownOutcomes": TestUnknownOutcomes,
		"StateLost": TestStateLost, "Views": TestViews, "ApprovalsHistory": TestApprovalsHistory, "Tail": TestTail, "Completeness": TestCompleteness, "LocalTables": testLocalTables,
	} {
		t.Run(name, test)
	}
}

// A distributed table has the columns of the one below it.
func testLocalTables(t *testing.T) {
	t.Parallel()
	db, cfg := database(t)
	eventually(t, db, "[]", `SELECT toString(groupArray(tuple(t, name, n))) FROM (
		SELECT replaceRegexpOne(table, '_local$', '') AS t, name, type, default_kind, comment, count() AS n FROM system.columns
		WHERE database = ? AND table IN (SELECT replaceRegexpOne(name, '_local$', '') FROM system.tables WHERE database = ? AND name LIKE '%\\_local')
			OR database = ? AND table LIKE '%\\_local'
		GROUP BY ALL HAVING n != 2)`, cfg.Database, cfg.Database, cfg.Database)
	eventually(t, db, "0", "SELECT toString(count()) FROM system.tables WHERE database = ? AND engine LIKE '%MergeTree' AND name NOT LIKE '%\\_local'", cfg.Database)
}

// A row whose bodies are too long for a statement to a cluster is put together
// from pieces, and again if that was broken off anywhere.
func TestLateLegInPieces(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	r := ship(t, db, newSpool(t, t.TempDir()), 20*time.Millisecond)
	d := decided(t, call.Answered)
	r.append(d)
	eventually(t, db, "unknown", "SELECT toString(answered) FROM calls")
	r.stop()
	text := strings.Repeat("0123456789abcdef\x00'\xff", 5000)
	a := answered(d, text)
	a.Answered.Body.Tail = []byte(text[:777])
	u := &update{leg: "answered", columns: answeredColumns}
	u.add(legStates{CallID: d.CallID, Time: clamp(d.Decided.Started)}, &a)
	pieces := u.statements(db.schema().rows(tableCalls), r.spool.ID(), 10_000)
	if len(pieces) != 10+1+10+1 {
		t.Fatalf("%d pieces", len(pieces))
	}
	for _, broken := range []int{1, 4, len(pieces) - 1} {
		if err := db.update(context.Background(), pieces[:broken]); err != nil {
			t.Fatal(err)
		}
		eventually(t, db, "unknown", "SELECT toString(answered) FROM calls")
	}
	// Each server of a shard may do each piece.
	var all []string
	for _, p := range pieces {
		all = append(all, p, p)
	}
	if err := db.update(context.Background(), all); err != nil {
		t.Fatal(err)
	}
	eventually(t, db, strings.Replace(strings.Replace(wantResponse(text), "seen seen", "seen none", 1), " 4000 2000 100 200 ['UF','DC'] via_upstream 10.1.1.1:80 crm HTTP/2", "", 1),
		strings.Replace(response, "' ', toString(total_us), ' ', toString(upstream_us), ' ',\n\ttoString(bytes_in), ' ', toString(bytes_out), ' ', toString(response_flags), ' ', response_details, ' ', upstream, ' ', cluster, ' ', http_version)", "'')", 1), d.CallID)
	eventually(t, db, text[:777], "SELECT response_body_tail FROM calls")
	eventually(t, db, "sealed\x00"+text, "SELECT original_sealed FROM calls WHERE length(original_commitment) = 32")
}

// No piece of a late leg comes into a row that was erased meanwhile.
func TestLateLegInPiecesErased(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	r := ship(t, db, newSpool(t, t.TempDir()), 20*time.Millisecond)
	d := decided(t, call.Answered)
	r.append(d)
	eventually(t, db, "unknown", "SELECT toString(answered) FROM calls")
	r.stop()
	a := answered(d, strings.Repeat("secret", 5000))
	u := &update{leg: "answered", columns: answeredColumns}
	u.add(legStates{CallID: d.CallID, Time: clamp(d.Decided.Started)}, &a)
	pieces := u.statements(db.schema().rows(tableCalls), r.spool.ID(), 10_000)
	if err := db.update(context.Background(), pieces[:1]); err != nil {
		t.Fatal(err)
	}
	if err := db.Erase(context.Background(), []uuid.UUID{d.CallID}); err != nil {
		t.Fatal(err)
	}
	if err := db.update(context.Background(), pieces); err != nil {
		t.Fatal(err)
	}
	eventually(t, db, "seen 0 0", "SELECT concat(toString(answered), ' ', toString(length(response_body)), ' ', toString(response_salt = toFixedString('', 16) ? 0 : 1)) FROM calls")
}

var rewrite = flag.Bool("update", false, "rewrite golden files and generated pages")

// golden compares text with a file, or rewrites that.
func golden(t *testing.T, file, text string) {
	t.Helper()
	if *rewrite {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != text {
		t.Errorf("%s is out of date; look at the change and run 'make golden'. New:\n%s", file, text)
	}
}

func TestDDL(t *testing.T) {
	t.Parallel()
	conn := openDB(t, Config{URL: "http://" + sharedEngine(t), Password: func() (string, error) { return password, nil }, Database: "default"}).conn
	for file, cluster := range map[string]Cluster{"schema.sql": {}, "cluster.sql": {Name: "trail"}} {
		cfg := Config{Cluster: cluster}
		var out strings.Builder
		if err := DDL(&out, cfg); err != nil {
			t.Fatal(err)
		}
		golden(t, filepath.Join("../../deploy/clickhouse", file), out.String())
		// What is printed is what is run, and the engine can read all of it.
		list, err := Migrations(cfg)
		if err != nil {
			t.Fatal(err)
		}
		rest := out.String()
		for _, m := range list {
			statements := m.Statements
			if m.Version > 0 {
				statements = append(statements, m.done(defaultDatabase))
			}
			for _, sql := range statements {
				before, after, ok := strings.Cut(rest, sql+";\n")
				if !ok || strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(before), fmt.Sprintf("-- %04d %s", m.Version, m.Name))) != "" {
					t.Fatalf("the printed DDL lacks\n%s\nat\n%s", sql, before)
				}
				rest = after
				var formatted string
				if err := conn.QueryRow(context.Background(), "SELECT formatQuery(?)", sql).Scan(&formatted); err != nil {
					t.Errorf("%s\n%v", sql, err)
				}
				// Every statement but INSERT is for all servers.
				if cluster.Name != "" && !strings.HasPrefix(sql, "INSERT") && !strings.Contains(formatted, "ON CLUSTER trail") {
					t.Errorf("not for the whole cluster:\n%s", formatted)
				}
			}
		}
		if strings.TrimSpace(rest) != "" {
			t.Errorf("the printed DDL also has\n%s", rest)
		}
	}
}

// The engine takes the replicated tables as they are: engine, path, macros and
// all settings. What it can't do with them is replicate.
func TestReplicatedTables(t *testing.T) {
	t.Parallel()
	cfg := Config{URL: "http://" + sharedEngine(t), Password: func() (string, error) { return password, nil }, Database: "t_replicated", Cluster: Cluster{Name: "trail"}}
	list, err := Migrations(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Cluster = Cluster{}
	db := openDB(t, cfg)
	outside, err := db.connect("")
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	n := 0
	for _, m := range list {
		for _, sql := range m.Statements {
			if !strings.HasPrefix(sql, "CREATE DATABASE") && !strings.HasPrefix(sql, "CREATE TABLE") {
				continue // ALTER would wait for replication
			}
			if err := outside.Exec(context.Background(), onCluster.ReplaceAllString(sql, "")); err != nil {
				t.Errorf("%s\n%v", sql, err)
			}
			n += strings.Count(sql, "ENGINE = Replicated")
		}
	}
	eventually(t, db, fmt.Sprintf("%d ['/clickhouse/tables/01/t_replicated/calls_local','a']", n),
		`SELECT concat(toString(count()), ' ', toString(anyIf([zookeeper_path, replica_name], table = 'calls_local'))) FROM system.replicas WHERE database = 't_replicated'`)
	if err := outside.Exec(context.Background(), "DROP DATABASE t_replicated"); err != nil {
		t.Fatal(err)
	}
}

func TestClusterConfig(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]Cluster{
		"set cluster to its name": {Quorum: "2"}, "cluster \"a'b\"": {Name: "a'b"}, "replica_path \"/x\"": {Name: "c", Path: "/x"},
		"replica_path \"/x'/{table}\"": {Name: "c", Path: "/x'/{table}"}, "replica_name \"a'\"": {Name: "c", Replica: "a'"},
		"insert_quorum \"all\"": {Name: "c", Quorum: "all"}, "insert_quorum \"0\"": {Name: "c", Quorum: "0"},
	} {
		if _, err := Open(Config{URL: "http://127.0.0.1:1", Cluster: c}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", c, err, want)
		}
		if _, err := Migrations(Config{Cluster: c}); err == nil {
			t.Errorf("%+v was rendered", c)
		}
	}
}

// A cluster's inserts count when a quorum has them; what the shipper asks sees
// them.
func TestClusterSettings(t *testing.T) {
	t.Parallel()
	const always = "map[distributed_foreground_insert:1 distributed_product_mode:global %sskip_unavailable_shards:0]"
	for quorum, want := range map[string]string{"": fmt.Sprintf(always, "insert_quorum:auto insert_quorum_parallel:0 "), "1": fmt.Sprintf(always, "")} {
		db := openDB(t, Config{URL: "http://127.0.0.1:1", Cluster: Cluster{Name: "c", Quorum: quorum}})
		if got := fmt.Sprint(db.cfg.settings()); got != want {
			t.Errorf("quorum %q has %s, want %s", quorum, got, want)
		}
	}
}

// All rows of an insert go to one partition of one shard, by the same key that
// the distributed tables have.
func TestInsertsKeepToAShard(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 23, 59, 59, 0, time.UTC)
	var items []item
	for i := uint64(spoolBlock - 2); i < spoolBlock+2; i++ {
		items = append(items, item{index: i, time: now}, item{index: i, time: now.Add(time.Second)})
	}
	var got []string
	for _, b := range batches(tableCalls, items, false) {
		for _, it := range b.items {
			if day(it.time) != day(b.items[0].time) || it.index/spoolBlock != b.items[0].index/spoolBlock {
				t.Errorf("%d of %s lies with %d of %s", it.index, it.time, b.items[0].index, b.items[0].time)
			}
		}
		got = append(got, fmt.Sprint(len(b.items)))
	}
	if want := "2 2 2 2"; strings.Join(got, " ") != want {
		t.Errorf("batches of %s, want %s", got, want)
	}
	list, err := Migrations(Config{Cluster: Cluster{Name: "trail"}})
	if err != nil {
		t.Fatal(err)
	}
	keyed := 0
	for _, m := range list {
		for _, sql := range m.Statements {
			keyed += strings.Count(sql, fmt.Sprintf("cityHash64(spool, intDiv(spool_index, %d)))", spoolBlock))
		}
	}
	if keyed != 3 {
		t.Errorf("%d tables have the key, want events, calls and approvals", keyed)
	}
}
