package clickhouse

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/callgate/callgate/call"
)

// column is a column that a leg fills. Its type is given where a literal needs
// one; how says what to make of the new value v, if not just that.
type column struct{ name, typ, how string }

// A late leg brings no content into a row that lost it. ClickHouse applies a TTL
// to a part once: what came later would stay.
const (
	keepsContent = "isNull(erased) AND bodies_until > now()"
	unlessGone   = "if(" + keepsContent + ", %s, "
)

var answeredColumns = []column{
	{"http_status", "Nullable(UInt16)", "if(finished = 'seen', ifNull(http_status, %s), %[1]s)"},
	{"rpc_code", "Nullable(Int64)", ""}, {"rpc_message", "Nullable(String)", unlessGone + "`rpc_message`)"}, {"tool_error", "Nullable(Bool)", ""},
	{"response_headers", "Map(String, String)", ""}, {"response_type", "String", ""}, {"response_encoding", "String", ""},
	{"response_body", "String", unlessGone + "`response_body`)"}, {"response_body_tail", "String", unlessGone + "`response_body_tail`)"}, {"response_body_bytes", "Nullable(UInt64)", ""},
	{"response_body_truncated", "Bool", ""}, {"response_body_sum", "FixedString(32)", unlessGone + "`response_body_sum`)"}, {"response_salt", "FixedString(16)", unlessGone + "`response_salt`)"},
	{"masked.rule", "Array(String)", ""}, {"masked.type", "Array(String)", ""}, {"masked.path", "Array(String)", ""}, {"masked.count", "Array(UInt32)", ""},
	{"request_stream_masked.rule", "Array(String)", ""}, {"request_stream_masked.type", "Array(String)", ""}, {"request_stream_masked.path", "Array(String)", ""}, {"request_stream_masked.count", "Array(UInt32)", ""},
	{"original_sealed", "String", unlessGone + "`original_sealed`)"}, {"original_commitment", "String", ""},
	{"response_shadow", "Array(String)", ""}, {"withheld", "String", ""}, {"interrupted", "Bool", ""},
}

var finishedColumns = []column{
	{"http_status", "Nullable(UInt16)", "ifNull(%s, http_status)"},
	{"upstream_us", "Nullable(UInt64)", ""}, {"total_us", "Nullable(UInt64)", ""}, {"bytes_in", "Nullable(UInt64)", ""}, {"bytes_out", "Nullable(UInt64)", ""},
	{"response_flags", "Array(String)", ""}, {"response_details", "String", ""},
	{"upstream", "String", ""}, {"cluster", "String", ""}, {"upstream_attempts", "UInt32", ""}, {"upstream_error", "String", ""},
	{"envoy_node", "String", ""}, {"http_version", "String", ""}, {"tls_version", "String", ""},
}

// update completes rows with one kind of leg.
type update struct {
	leg     string
	columns []column
	rows    []completion
}

type completion struct {
	legStates
	row Row // with the leg's columns filled
}

func (u *update) add(st legStates, e *call.Event) {
	c := completion{legStates: st}
	c.row.add(e)
	u.rows = append(u.rows, c)
}

// Bounds on one statement.
const (
	rowsPerUpdate  = 100
	bytesPerUpdate = 256 << 10 // of bodies
	// A byte of a body is two in a statement, and the embedded engine takes
	// statements up to 4 MiB.
	bytesPerRowUpdate = 3 << 19
	// On a cluster a statement goes through a node of Keeper, which holds
	// 1 MiB; a byte of a body is two there.
	bytesPerClusterUpdate = 128 << 10
)

// statements are the lightweight updates of table, each of which may be run
// again. They make small patches; ALTER UPDATE would rewrite the parts. No
// statement holds more than about limit bytes of bodies.
func (u *update) statements(table, spool string, limit int) []string {
	var list []string
	for rest := u.rows; len(rest) > 0; {
		n, size := 0, 0
		for n < len(rest) && n < rowsPerUpdate && (n == 0 || size < bytesPerUpdate) {
			row := rest[n].row
			bytes := len(row.ResponseBody) + len(row.ResponseBodyTail) + len(row.OriginalSealed)
			if size+bytes > limit {
				break
			}
			size += bytes
			n++
		}
		if n == 0 {
			list = append(list, u.pieces(table, spool, rest[0], limit)...)
			n = 1
		} else {
			list = append(list, u.statement(table, spool, rest[:n], nil))
		}
		rest = rest[n:]
	}
	return list
}

// pieces completes one row whose bodies are too long for a statement: they are
// put together in the row, which says unknown until it is whole. A piece is
// added only where the one before it ends, so a repetition changes nothing.
func (u *update) pieces(table, spool string, c completion, limit int) []string {
	var list []string
	bodies := map[string]bool{}
	for _, b := range []struct{ column, text string }{{"response_body", c.row.ResponseBody}, {"response_body_tail", c.row.ResponseBodyTail}, {"original_sealed", c.row.OriginalSealed}} {
		bodies[b.column] = true
		for at := 0; at == 0 || at < len(b.text); at += limit {
			piece := literal(b.text[at:min(at+limit, len(b.text))])
			set, where := piece, " AND "+keepsContent
			if at > 0 {
				set = "concat(" + b.column + ", " + piece + ")"
				where += fmt.Sprintf(" AND length(%s) = %d", b.column, at)
			}
			list = append(list, "UPDATE "+table+" SET "+b.column+" = "+set+u.where(spool, []completion{c})+where)
		}
	}
	return append(list, u.statement(table, spool, []completion{c}, bodies))
}

// statement fills all columns of a leg but those in without.
func (u *update) statement(table, spool string, rows []completion, without map[string]bool) string {
	var sql strings.Builder
	sql.WriteString("UPDATE " + table + " SET " + u.leg + " = 'seen'")
	for _, c := range u.columns {
		if without[c.name] {
			continue
		}
		values := make([]string, len(rows))
		for i := range rows {
			values[i] = "CAST(" + literal(rows[i].row.field(c.name)) + ", '" + c.typ + "')"
		}
		v := values[0]
		if len(rows) > 1 {
			v = "[" + strings.Join(values, ", ") + "][indexOf(CAST([" + uuids(idsOf(rows)) + "], 'Array(UUID)'), call_id)]"
		}
		if c.how != "" {
			v = fmt.Sprintf(c.how, v)
		}
		sql.WriteString(", `" + c.name + "` = " + v)
	}
	return sql.String() + u.where(spool, rows)
}

// where is the rows that still miss the leg.
func (u *update) where(spool string, rows []completion) string {
	first, last := rows[0].Time, rows[0].Time
	for _, r := range rows {
		if r.Time.Before(first) {
			first = r.Time
		}
		if r.Time.After(last) {
			last = r.Time
		}
	}
	return fmt.Sprintf(" WHERE spool = '%s' AND time BETWEEN %s AND %s AND %s = 'unknown' AND call_id IN (%s)",
		spool, instant(first), instant(last), u.leg, uuids(idsOf(rows)))
}

func idsOf(rows []completion) []uuid.UUID {
	ids := make([]uuid.UUID, len(rows))
	for i, r := range rows {
		ids[i] = r.CallID
	}
	return ids
}

// field is the value of the field for a column.
func (r *Row) field(column string) any {
	v := reflect.ValueOf(r).Elem()
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("ch") == column {
			return v.Field(i).Interface()
		}
	}
	return nil
}

// literal writes v as SQL. Strings go as hex, so that no byte of theirs can be
// taken for SQL.
func literal(v any) string {
	switch v := reflect.ValueOf(v); v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return "NULL"
		}
		return literal(v.Elem().Interface())
	case reflect.String:
		return "unhex('" + hex.EncodeToString([]byte(v.String())) + "')"
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Int64:
		return strconv.FormatInt(v.Int(), 10)
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.FormatUint(v.Uint(), 10)
	case reflect.Slice:
		list := make([]string, v.Len())
		for i := range list {
			list[i] = literal(v.Index(i).Interface())
		}
		return "[" + strings.Join(list, ", ") + "]"
	case reflect.Map:
		var list []string
		for _, k := range v.MapKeys() {
			list = append(list, literal(k.Interface()), literal(v.MapIndex(k).Interface()))
		}
		return "map(" + strings.Join(list, ", ") + ")"
	default:
		return "NULL"
	}
}
