package clickhouse

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/callgate/callgate/call"
)

// fill puts rows into a table.
func fill[T any](t *testing.T, db *DB, table string, rows []T) {
	t.Helper()
	batch, err := db.conn.PrepareBatch(context.Background(), insertInto(db.cfg.Database, table, rows[0]))
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		if err := batch.AppendStruct(&rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Send(); err != nil {
		t.Fatal(err)
	}
}

// viewCalls are calls with known answers; their ids count from 1.
func viewCalls(now time.Time) []Row {
	day := 24 * time.Hour
	var rows []Row
	add := func(ago time.Duration, subject, function string, change func(*Row)) {
		d := call.Event{Time: now.Add(-ago), Decided: &call.DecidedEvent{
			Identity:   call.Identity{Issuer: "idp", Subject: subject, Kind: call.Human},
			Connection: "crm", Protocol: call.HTTP, Function: function,
			Decision: call.Decision{Outcome: call.Allow, Rule: "reads", Reason: call.ReasonRule},
			Took:     100 * time.Microsecond, Source: "10.0.0.1:1",
		}}
		d.CallID = uuid.UUID{15: byte(len(rows) + 1)}
		r := newRow(&d, "spool", uint64(len(rows)))
		status, total, upstream, bytes := uint16(200), uint64(2000), uint64(1000), uint64(50)
		r.HTTPStatus, r.TotalMicros, r.UpstreamMicros, r.BytesIn, r.BytesOut, r.ResponseBodyBytes = &status, &total, &upstream, &bytes, &bytes, &bytes
		r.Answered, r.Finished = LegSeen, LegSeen
		if change != nil {
			change(r)
		}
		rows = append(rows, *r)
	}
	deny := func(rule string, reason call.Reason) func(*Row) {
		return func(r *Row) {
			r.Decision, r.Allowed, r.Rule, r.Reason, r.Message = string(call.Deny), false, rule, string(reason), "no: "+rule
			r.Answered, r.Finished, r.HTTPStatus, r.TotalMicros, r.UpstreamMicros, r.BytesOut, r.ResponseBodyBytes = LegNone, LegNone, nil, nil, nil, nil, nil
		}
	}
	for i := range 100 { // ids 1 to 100: 1 to 100 ms
		add(time.Hour+time.Duration(i)*time.Second, "ada", "get", func(r *Row) {
			total, upstream := uint64(i+1)*1000, uint64(i+1)*500
			r.TotalMicros, r.UpstreamMicros = &total, &upstream
			if i == 99 { // held for a minute, which is not its fault
				total += 60_000_000
				r.HoldMicros = 60_000_000
			}
		})
	}
	add(40*day, "ada", "get", nil)             // 101
	add(50*day, "bob", "export", nil)          // 102: dormant
	add(40*day, "bob", "get", func(r *Row) {}) // 103: dormant
	rows[len(rows)-1].Rule = "old"
	add(2*day, "eve", "drop", deny("no drops", call.ReasonRule))     // 104
	add(2*day, "mallory", "drop", deny("no drops", call.ReasonRule)) // 105
	add(time.Minute, "", "", deny("", call.ReasonInvalidToken))      // 106
	add(3*time.Hour, "ada", "search", func(r *Row) {                 // 107
		r.MaskedRules, r.MaskedTypes = []string{"cards", "cards", "keys"}, []string{"card", "card", "secret"}
		r.MaskedPaths, r.MaskedCounts = []string{"$.a", "$.b", ""}, []uint32{2, 1, 5}
	})
	add(3*time.Hour, "ada", "search", func(r *Row) { // 108
		status, code, failed := uint16(200), int64(-32000), true
		r.HTTPStatus, r.RPCCode, r.ToolError = &status, &code, &failed
	})
	add(2*time.Hour, "ada", "search", func(r *Row) { // 109
		status := uint16(502)
		r.HTTPStatus, r.UpstreamError = &status, "refused"
	})
	add(3*time.Hour, "ada", "export", func(r *Row) { // 110
		bytes := uint64(5 << 20)
		r.BytesOut, r.ResponseBodyBytes, r.ResponseType = &bytes, &bytes, "text/csv"
		r.Finished = LegUnknown
		r.Acting, r.ActorIssuers, r.ActorSubjects = "bot", []string{"idp", "idp"}, []string{"bot", "cron"}
		r.Shadow = []string{"no exports", "nights"}
	})
	return rows
}

// Each view, against data whose answers are known.
func TestViews(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	now := time.Now()
	fill(t, db, tableCalls, viewCalls(now))
	var steps []approvalRow
	step := func(id, step string, ago time.Duration, expires time.Duration) {
		until := now.Add(expires)
		steps = append(steps, approvalRow{Time: now.Add(-ago), ApprovalID: id, CallID: uuid.UUID{15: 7}, Step: step, By: "idp|" + step, Rule: "big", Function: "refund",
			Expires: &until, Binding: noSum, Spool: "spool", Index: uint64(len(steps))})
	}
	step("a1", "asked", time.Hour, time.Hour)
	step("a1", "approved", time.Hour-10*time.Second, time.Hour)
	step("a1", "used", time.Hour-11*time.Second, time.Hour)
	step("a2", "asked", time.Hour, time.Hour)
	step("a2", "refused", time.Hour-30*time.Second, time.Hour)
	step("a3", "asked", 5*time.Minute, time.Hour)
	step("a4", "asked", 5*time.Minute, -time.Minute)
	step("a5", "asked", 4*time.Minute, time.Hour)
	step("a5", "approved", time.Minute, time.Hour) // by one of two
	steps[len(steps)-1].State = "open"
	steps[len(steps)-1].Number = 2
	again := steps[len(steps)-1] // recorded by another replica too
	again.Spool = "other"
	steps = append(steps, again)
	step("a6", "broke_glass", time.Minute, time.Hour)
	step("a7", "broke_glass", time.Minute, time.Hour)
	step("a7", "reviewed", time.Minute, time.Hour)
	fill(t, db, tableApprovals, steps)

	date := now.Add(-48 * time.Hour).UTC().Format(time.DateOnly)
	id := func(n int) string { return uuid.UUID{15: byte(n)}.String() }
	covered := map[string]bool{}
	for _, c := range []struct {
		view, args, columns, where string
		want                       []string
	}{
		{"who_used_what", "days = 7", "subject, acting, function, calls, let_through, refused", "subject IN ('ada', 'eve')",
			[]string{`["ada","ada","get",100,100,0]`, `["ada","ada","search",3,3,0]`, `["ada","bot","export",1,1,0]`, `["eve","eve","drop",1,0,1]`}},
		{"who_used_what", "days = 60", "calls", "subject = 'ada' AND function = 'get'", []string{`[101]`}},
		{"denials_by_rule", "days = 7", "toString(day), rule, reason, function, calls, identities, last_message", "rule != ''",
			[]string{`["` + date + `","no drops","rule","drop",2,2,"no: no drops"]`}},
		{"denials_by_rule", "days = 1", "rule, reason, calls, last_call_id", "1", []string{`["","invalid_token",1,"` + id(106) + `"]`}},
		{"slow_functions", "days = 7", "connection, function, calls, p50_ms, p95_ms, p99_ms, max_ms, p95_upstream_ms, p95_authz_ms, held", "function = 'get'",
			[]string{`["crm","get",100,51,96,100,100,48,0.1,1]`}},
		{"secrets_seen", "days = 7", "type, rule, function, calls, hidden, identities, paths, last_call_id", "1",
			[]string{`["card","cards","search",2,3,1,["$.a","$.b"],"` + id(107) + `"]`, `["secret","keys","search",1,5,1,[""],"` + id(107) + `"]`}},
		{"dormant_grants", "days = 90, idle = 30", "subject, function, calls, idle_days, last_rule", "1", []string{`["bob","export",1,50,"reads"]`, `["bob","get",1,40,"old"]`}},
		{"dormant_grants", "days = 45, idle = 30", "subject, function", "1", []string{`["bob","get"]`}},
		{"dormant_rules", "days = 90, idle = 30", "rule, calls, let_through, idle_days", "1", []string{`["old",1,1,40]`}},
		{"first_seen", "days = 7", "subject, function, calls, first_call_id, first_decision", "subject != ''", []string{
			`["ada","export",1,"` + id(110) + `","allow"]`, `["ada","search",3,"` + id(107) + `","allow"]`, `["eve","drop",1,"` + id(104) + `","deny"]`, `["mallory","drop",1,"` + id(105) + `","deny"]`}},
		{"errors_by_function", "days = 7", "function, calls, failed_calls, failed_percent, http_5xx, http_4xx, rpc_errors, tool_errors, unreachable, withheld_responses, last_failure_id", "1",
			[]string{`["search",3,2,66.67,1,0,1,1,1,0,"` + id(109) + `"]`}},
		{"pending_approvals", "", "approval_id, held_call_id, held_by_rule, held_function, waiting_s BETWEEN 240 AND 900, approved_so_far", "1",
			[]string{`["a3","` + id(7) + `","big","refund",1,0]`, `["a5","` + id(7) + `","big","refund",1,1]`}},
		{"approval_steps", "", "approval_id, step, number, spool", "approval_id IN ('a1', 'a5')",
			[]string{`["a1","approved",0,"spool"]`, `["a1","asked",0,"spool"]`, `["a1","used",0,"spool"]`, `["a5","approved",2,"other"]`, `["a5","asked",0,"spool"]`}},
		{"open_reviews", "", "approval_id, broke_call_id, held_by_rule, broke_function, broke_by", "1", []string{`["a6","` + id(7) + `","big","refund","idp|broke_glass"]`}},
		{"time_to_decision", "days = 7", "held_by_rule, held_function, approvals, approved_ones, refused_ones, undecided, p50_s, p95_s, decided_by", "1",
			[]string{`["big","refund",5,1,1,3,30,30,["idp|approved","idp|refused"]]`}},
		{"unknown_legs", "days = 7", "call_id, function, subject, answer_unknown, finish_unknown", "1", []string{`["` + id(110) + `","export","ada",0,1]`}},
		{"volume_per_hour", "days = 1", "sum(calls), sum(refused), sum(held), sum(sent_bytes), min(hour = toStartOfHour(hour))", "1", []string{`[105,1,1,5248030,1]`}},
		{"large_exports", "days = 7, bytes = 1048576", "call_id, subject, acting, function, exported_bytes, response_type", "1", []string{`["` + id(110) + `","ada","bot","export",5242880,"text/csv"]`}},
		{"delegations", "days = 7", "subject, acted, calls, refused, functions", "1", []string{`["ada","bot for cron",1,0,1]`}},
		{"shadow_rules", "days = 7", "shadow_rule, function, calls, let_through, last_call_id", "1", []string{`["nights","export",1,1,"` + id(110) + `"]`, `["no exports","export",1,1,"` + id(110) + `"]`}},
	} {
		covered[c.view] = true
		name := c.view
		if c.args != "" {
			name += "(" + c.args + ")"
		}
		rows, err := db.Query(context.Background(), fmt.Sprintf("SELECT %s FROM %s WHERE %s", c.columns, name, c.where))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for rows.Next() {
			values, err := rows.Values()
			if err != nil {
				t.Fatal(err)
			}
			line, err := json.Marshal(values)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(line))
		}
		if err := rows.Err(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		rows.Close()
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s gives\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
	var views []string
	if err := db.conn.QueryRow(context.Background(), "SELECT groupArray(name) FROM system.tables WHERE database = currentDatabase() AND engine = 'View'").Scan(&views); err != nil {
		t.Fatal(err)
	}
	for _, v := range views {
		if !covered[v] {
			t.Errorf("nobody has checked what %s answers", v)
		}
	}
}
