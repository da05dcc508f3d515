package clickhouse

import (
	"bytes"
	"context"
	"database/sql/driver"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	chdriver "github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Column is one column of a result.
type Column struct {
	Name string
	Type string // as ClickHouse names it
}

// Rows is a result that is read as it comes. Close must be called.
type Rows struct {
	rows    chdriver.Rows
	columns []Column
	into    []any // pointers that Scan fills
}

// Query runs one statement that may only read, and streams its result.
// Unqualified table names mean those of the trail.
func (d *DB) Query(ctx context.Context, sql string) (*Rows, error) {
	// 2: reads only, but clickhouse-go may still set what it needs.
	rows, err := d.conn.Query(ch.Context(ctx, ch.WithSettings(ch.Settings{"readonly": 2})), sql)
	if err != nil {
		return nil, fmt.Errorf("query: %w", explainQuery(err))
	}
	r := &Rows{rows: rows}
	for _, t := range rows.ColumnTypes() {
		r.columns = append(r.columns, Column{Name: t.Name(), Type: t.DatabaseTypeName()})
		r.into = append(r.into, reflect.New(t.ScanType()).Interface())
	}
	return r, nil
}

func explainQuery(err error) error {
	var e *ch.Exception
	if errors.As(err, &e) && e.Code == codeReadonly {
		return fmt.Errorf("%w; queries may only read: use a ClickHouse client to change anything", err)
	}
	return explain(err)
}

// Columns are the result's columns.
func (r *Rows) Columns() []Column { return r.columns }

// Next moves to the next row; false at the end or on an error.
func (r *Rows) Next() bool { return r.rows.Next() }

// Values is the current row, each value as encoding/json writes it well: nil,
// bool, numbers, string, time.Time, []any or map[string]any. Integers over 64
// bits and decimals are strings. Strings that are not UTF-8 are hex with "0x"
// before it.
func (r *Rows) Values() ([]any, error) {
	if err := r.rows.Scan(r.into...); err != nil {
		return nil, fmt.Errorf("read result: %w", err)
	}
	values := make([]any, len(r.into))
	for i, p := range r.into {
		values[i] = plain(reflect.ValueOf(p).Elem())
	}
	return values, nil
}

// Err is what ended the result early, if anything did.
func (r *Rows) Err() error {
	if err := r.rows.Err(); err != nil {
		return fmt.Errorf("read result: %w", explainQuery(err))
	}
	return nil
}

// Close ends the query, also in ClickHouse.
func (r *Rows) Close() error { return r.rows.Close() }

// plain turns a value of clickhouse-go's into one that Values may return.
func plain(v reflect.Value) any {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return nil
		}
		if v.Kind() == reflect.Pointer && v.Type() != reflect.TypeFor[*time.Time]() && v.Type().Implements(reflect.TypeFor[fmt.Stringer]()) {
			break
		}
		v = v.Elem()
	}
	switch x := v.Interface().(type) {
	case time.Time:
		return x
	case string:
		return text([]byte(x))
	case fmt.Stringer: // UUID, Decimal, IPv4, big.Int …
		return x.String()
	case driver.Valuer:
		if y, err := x.Value(); err == nil {
			if _, same := y.(driver.Valuer); !same {
				return plain(reflect.ValueOf(y))
			}
		}
	}
	switch v.Kind() {
	case reflect.Bool:
		return v.Bool()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return v.Int()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return v.Uint()
	case reflect.Float32, reflect.Float64:
		if f := v.Float(); !math.IsNaN(f) && !math.IsInf(f, 0) {
			return f
		}
		return fmt.Sprint(v.Float())
	case reflect.String:
		return text([]byte(v.String()))
	case reflect.Slice, reflect.Array:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = plain(v.Index(i))
		}
		return list
	case reflect.Map:
		m := make(map[string]any, v.Len())
		for it := v.MapRange(); it.Next(); {
			m[Text(plain(it.Key()))] = plain(it.Value())
		}
		return m
	case reflect.Invalid:
		return nil
	default:
		return text([]byte(fmt.Sprint(v.Interface())))
	}
}

func text(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return "0x" + hex.EncodeToString(b)
}

// timeLayout has as many digits as the trail's columns.
const timeLayout = "2006-01-02T15:04:05.999999Z07:00"

// Text renders a value that Values returned for a person or for CSV. Control
// characters are escaped, so that what a caller sent can't drive a terminal.
func Text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case time.Time:
		return v.Format(timeLayout)
	case string:
		return escape(v)
	case []any, map[string]any:
		b, err := json.Marshal(v)
		if err != nil {
			return escape(fmt.Sprint(v))
		}
		return escape(string(b))
	default:
		return fmt.Sprint(v)
	}
}

// harmless reports whether r can't drive a terminal or turn the direction of
// text.
func harmless(r rune) bool {
	return r >= 0x20 && r < 0x7f || r > 0x9f && r != '\u2028' && r != '\u2029' && r != '\ufeff' &&
		(r < '\u200b' || r > '\u200f') && (r < '\u202a' || r > '\u202e') && (r < '\u2066' || r > '\u2069')
}

// escape writes control characters, and those that turn the direction of
// text, as Go does in string literals.
func escape(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !harmless(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case harmless(r):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// EscapeJSON writes the same characters in a JSON document as \u escapes,
// which changes nothing for who reads it as JSON. They can stand only in its
// strings; the white space between its tokens stays.
func EscapeJSON(doc []byte) []byte {
	dangerous := func(r rune) bool { return !harmless(r) && r != '\n' && r != '\t' && r != '\r' }
	if bytes.IndexFunc(doc, dangerous) < 0 {
		return doc
	}
	out := make([]byte, 0, len(doc)+16)
	for len(doc) > 0 {
		r, n := utf8.DecodeRune(doc)
		if dangerous(r) {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = append(out, doc[:n]...)
		}
		doc = doc[n:]
	}
	return out
}
