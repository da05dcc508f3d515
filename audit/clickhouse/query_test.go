package clickhouse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/callgate/callgate/call"
)

func TestQueryRendersTypes(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	for sql, want := range map[string]string{
		"1::UInt8":  `1`,
		"-7::Int64": `-7`,
		"toInt128('170141183460469231731687303715884105727')": `"170141183460469231731687303715884105727"`,
		"1.5":                           `1.5`,
		"nan":                           `"NaN"`,
		"toDecimal64(1.25, 2)":          `"1.25"`,
		"true":                          `true`,
		"NULL":                          `null`,
		"toNullable('x')":               `"x"`,
		"CAST(NULL AS Nullable(UInt8))": `null`,
		"'a\\0b'":                       `"a\u0000b"`,
		"unhex('ff00')":                 `"0xff00"`,
		"toFixedString('ab', 2)":        `"ab"`,
		"toUUID('018f0000-0000-7000-8000-000000000001')":       `"018f0000-0000-7000-8000-000000000001"`,
		"toDateTime64('2026-11-23 14:03:09.123456', 6, 'UTC')": `"2026-11-23T14:03:09.123456Z"`,
		"[1, 2]":        `[1,2]`,
		"[[NULL, 'a']]": `[[null,"a"]]`,
		"map('k', 2)":   `{"k":2}`,
		"tuple(1, 'a')": `[1,"a"]`,
		"CAST(tuple(1, 'a') AS Tuple(n UInt8, s String))": `{"n":1,"s":"a"}`,
		"CAST('unknown' AS Enum8('unknown' = 1))":         `"unknown"`,
		"toIPv4('10.0.0.1')":                              `"10.0.0.1"`,
		"toLowCardinality('lc')":                          `"lc"`,
	} {
		rows, err := db.Query(context.Background(), "SELECT "+sql+" AS v")
		if err != nil {
			t.Errorf("%s: %v", sql, err)
			continue
		}
		if !rows.Next() {
			t.Fatalf("%s: no row: %v", sql, rows.Err())
		}
		values, err := rows.Values()
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		got, err := json.Marshal(values[0])
		if err != nil || string(got) != want {
			t.Errorf("%s is %s (%v), want %s; type %s", sql, got, err, want, rows.Columns()[0].Type)
		}
		rows.Close()
	}
}

func TestQueryOnlyReads(t *testing.T) {
	t.Parallel()
	db, cfg := database(t)
	for _, sql := range []string{
		"DROP TABLE calls", "TRUNCATE TABLE events", "INSERT INTO schema_migrations (version) VALUES (9999)",
		"UPDATE calls SET subject = 'x' WHERE 1", "SET readonly = 0", "DROP TABLE calls SETTINGS readonly = 0",
		"SELECT 1; DROP TABLE calls", "INSERT INTO schema_migrations (version) SETTINGS readonly = 0 VALUES (9999)",
	} {
		rows, err := db.Query(context.Background(), sql)
		if err == nil {
			for rows.Next() {
			}
			err = rows.Err()
			rows.Close()
		}
		if err == nil {
			t.Errorf("%s went through", sql)
		}
	}
	have, err := db.applied(context.Background(), db.conn)
	if err != nil || have[9999] {
		t.Errorf("changed: %v, %v", have, err)
	}
	_, err = openDB(t, cfg).Query(context.Background(), "DROP TABLE calls")
	if err == nil || !strings.Contains(err.Error(), "may only read") {
		t.Errorf("error is %v", err)
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for v, want := range map[any]string{
		"a\x1b[2Jb\n\u202ec\x9b": `a\x1b[2Jb\n\u202ec\x9b`, "ünï": "ünï", nil: "", int64(3): "3", true: "true",
		time.Date(2026, 1, 2, 3, 4, 5, 600000, time.UTC): "2026-01-02T03:04:05.0006Z",
	} {
		if got := Text(v); got != want && !(v == "a\x1b[2Jb\n\u202ec\x9b" && strings.HasPrefix(got, `a\x1b[2Jb\n\u202ec`)) {
			t.Errorf("%q is %q, want %q", v, got, want)
		}
	}
	if got := Text([]any{"a\x1b", nil}); got != `["a\u001b",null]` {
		t.Error(got)
	}
}

func TestCalls(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	r := ship(t, db, newSpool(t, t.TempDir()), time.Minute)
	var ids []uuid.UUID
	for i := range 5 {
		d := decided(t)
		d.Decided.Started = time.Now().Add(time.Duration(i-5) * time.Minute)
		d.Decided.Function = fmt.Sprintf("f%d", i)
		if i == 3 {
			d.Decided.Decision = call.Decision{Outcome: call.Deny, Reason: call.ReasonNoRule}
			d.Decided.Identity = call.Identity{Subject: "o'neil'); DROP TABLE calls; --"}
		}
		ids = append(ids, d.CallID)
		r.append(d)
	}
	eventually(t, db, "5", "SELECT toString(count()) FROM calls")
	for name, c := range map[string]struct {
		f    Filter
		want string
	}{
		"all":        {Filter{}, "f4 f3 f2 f1 f0"},
		"limit":      {Filter{Limit: 2}, "f4 f3"},
		"since":      {Filter{Since: time.Now().Add(-150 * time.Second)}, "f4 f3"},
		"until":      {Filter{Until: time.Now().Add(-210 * time.Second)}, "f1 f0"},
		"actor":      {Filter{Identity: "bot", Limit: 1}, "f4"},
		"subject":    {Filter{Identity: "o'neil'); DROP TABLE calls; --"}, "f3"},
		"issuer":     {Filter{Identity: "https://idp.example|ada", Limit: 1}, "f4"},
		"its actor":  {Filter{Identity: "https://idp.example|bot", Limit: 1}, "f4"},
		"no issuer":  {Filter{Identity: "https://other.example|ada"}, ""},
		"far actor":  {Filter{Identity: "|cron"}, ""},
		"injection":  {Filter{Function: "' OR 1=1 --"}, ""},
		"function":   {Filter{Function: "f2", Connection: "crm", Session: "s-1"}, "f2"},
		"denied":     {Filter{Decision: "denied"}, "f3"},
		"allowed":    {Filter{Decision: "allowed"}, "f4 f2 f1 f0"},
		"outcome":    {Filter{Decision: "hold→allow", Rule: "big"}, "f4 f2 f1 f0"},
		"reason":     {Filter{Reason: "no_rule"}, "f3"},
		"no session": {Filter{Session: "s-2"}, ""},
	} {
		list, err := db.Calls(context.Background(), c.f)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var got []string
		for _, s := range list {
			got = append(got, s.Function)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", name, got, c.want)
		}
	}
	if row, err := db.Call(context.Background(), ids[2]); err != nil || row.Function != "f2" || row.ActorSubjects[1] != "cron" {
		t.Errorf("%+v, %v", row, err)
	}
	if list, err := db.Entries(context.Background(), ids[2]); err != nil || len(list) != 1 || list[0].Kind != "decided" || list[0].Index != 2 || list[0].Inserted.IsZero() {
		t.Errorf("%+v, %v", list, err)
	}
	for _, id := range []uuid.UUID{uuid.New(), {}} {
		if _, err := db.Call(context.Background(), id); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// What a caller sent can't drive the terminal of who reads JSON, and is the
// same JSON still.
func TestEscapeJSON(t *testing.T) {
	t.Parallel()
	in := "a\x1b\u009b\u202e\u2066\x7fü\u200b"
	doc, err := json.Marshal(map[string]string{in: in})
	if err != nil {
		t.Fatal(err)
	}
	out := EscapeJSON(append(doc, '\n'))
	if strings.ContainsAny(string(out), "\x1b\u009b\u202e\u2066\x7f\u200b") || !strings.HasSuffix(string(out), "\n") {
		t.Errorf("%q", out)
	}
	var back map[string]string
	if err := json.Unmarshal(out, &back); err != nil || back[in] != in {
		t.Errorf("%q is read as %q: %v", out, back, err)
	}
}

// A row's JSON loses no byte and no digit.
func TestRowJSON(t *testing.T) {
	t.Parallel()
	status := uint16(200)
	data, err := json.Marshal(Row{Subject: "ü", Args: `{"n":12345678901234567890.5}`, RequestBody: "\xff\x00", HTTPStatus: &status,
		RequestBodySum: strings.Repeat("\x0f", 32), ResponseBodySum: noSum, RequestSalt: noSalt, ResponseSalt: noSalt, RequestHeaders: map[string]string{"x": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"subject":"ü"`, `"args":{"n":12345678901234567890.5}`, `"request_body":"0xff00"`, `"http_status":200`, `"bytes_in":null`,
		`"request_body_sha256":"` + strings.Repeat("0f", 32) + `"`, `"response_body_sha256":""`, `"request_headers":{"x":"1"}`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%s not in %s", want, data)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"":                          "http(s)://",
		"ftp://h":                   "http(s)://",
		"http://":                   "names no host",
		"http://user:secret@h":      "set username and password",
		"https://h":                 "ca_file",
		"clickhouse://h\x7f:secret": "can't be parsed",
	} {
		_, err := Open(Config{URL: url, CAFile: "/nowhere/ca.pem"})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", url, err)
		}
	}
	if _, err := Open(Config{URL: "http://h", Database: "a; DROP"}); err == nil {
		t.Error("took a database name that is SQL")
	}
}

// The password may rotate while the process runs.
func TestPassword(t *testing.T) {
	t.Parallel()
	_, cfg := database(t)
	right, err := cfg.Password()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Password = func() (string, error) { return "pa55", nil }
	err = openDB(t, cfg).Ping(context.Background())
	if err == nil || !strings.Contains(err.Error(), "clickhouse.password") || strings.Contains(err.Error(), "pa55") {
		t.Errorf("wrong password: %v", err)
	}
	given := "pa55"
	cfg.Password = func() (string, error) { return given, nil }
	db := openDB(t, cfg)
	if err := db.Ping(context.Background()); err == nil {
		t.Error("wrong password passed")
	}
	given = right
	if err := db.Ping(context.Background()); err != nil {
		t.Errorf("rotated: %v", err)
	}
}

func TestCallsOfLongAgo(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	now := time.Now().UTC()
	var rows []Row
	for i, hours := range []time.Duration{2, 50, 500, 5000} {
		e := decided(t)
		e.Time, e.Decided.Started = now.Add(-hours*time.Hour), now.Add(-hours*time.Hour)
		e.Decided.Function = fmt.Sprintf("h%d", hours)
		rows = append(rows, *newRow(&e, "spool", uint64(i)))
	}
	fill(t, db, "calls", rows)
	for name, c := range map[string]struct {
		f    Filter
		want string
	}{
		"one":            {Filter{Limit: 1}, "h2"},
		"two":            {Filter{Limit: 2}, "h2 h50"},
		"three":          {Filter{Limit: 3}, "h2 h50 h500"},
		"all":            {Filter{}, "h2 h50 h500 h5000"},
		"more":           {Filter{Limit: MaxCalls + 1}, "h2 h50 h500 h5000"},
		"old":            {Filter{Function: "h5000", Limit: 1}, "h5000"},
		"before":         {Filter{Until: now.Add(-490 * time.Hour), Limit: 1}, "h500"},
		"long before":    {Filter{Until: now.Add(-500 * time.Hour), Limit: 1}, "h5000"},
		"since":          {Filter{Since: now.Add(-60 * time.Hour)}, "h2 h50"},
		"of a session":   {Filter{Session: "s-1", Limit: 3}, "h2 h50 h500"},
		"of who acted":   {Filter{Identity: "https://idp.example|bot", Limit: 3}, "h2 h50 h500"},
		"of who did not": {Filter{Identity: "https://idp.example|cron"}, ""},
	} {
		list, err := db.Calls(context.Background(), c.f)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var got []string
		for _, s := range list {
			got = append(got, s.Function)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", name, got, c.want)
		}
	}
}
