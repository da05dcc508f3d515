package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"reflect"
)

// Ask runs a query of a user's own and hands over its rows one by one, so that
// memory does not grow with the result. columns is called once, before the
// first row. The values are of the types that clickhouse-go scans into, with
// pointers (of Nullable columns) resolved: nil is NULL.
func (d *DB) Ask(ctx context.Context, sql string, columns func(names []string) error, row func(values []any) error) (err error) {
	rows, err := d.conn.Query(ctx, sql)
	if err != nil {
		return fmt.Errorf("query: %w", explain(err))
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	if err := columns(rows.Columns()); err != nil {
		return err
	}
	types := rows.ColumnTypes()
	targets := make([]any, len(types))
	values := make([]any, len(types))
	for i, t := range types {
		targets[i] = reflect.New(t.ScanType()).Interface()
	}
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return fmt.Errorf("query: read a row: %w", err)
		}
		for i, t := range targets {
			v := reflect.ValueOf(t).Elem()
			for v.Kind() == reflect.Pointer && !v.IsNil() {
				v = v.Elem()
			}
			if values[i] = v.Interface(); v.Kind() == reflect.Pointer {
				values[i] = nil
			}
		}
		if err := row(values); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("query: %w", explain(err))
	}
	return nil
}
