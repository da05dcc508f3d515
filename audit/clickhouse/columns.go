package clickhouse

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	chcolumn "github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
)

// appendItems puts rows into out, whose columns are the fields of the rows'
// type in their order. It goes column by column: clickhouse-go's AppendStruct
// looks each field up by its name and boxes each value, which was a third of
// what shipping cost.
func appendItems(out driver.Batch, items []item) error {
	rows := make([]reflect.Value, len(items))
	for i, it := range items {
		rows[i] = reflect.ValueOf(it.row).Elem()
	}
	columns := out.Columns()
	if n := rows[0].NumField(); n != len(columns) {
		return fmt.Errorf("a row of %d fields for %d columns", n, len(columns))
	}
	for f, c := range columns {
		if err := appendColumn(out.Column(f), c, rows, f); err != nil {
			return fmt.Errorf("column %s: %w", c.Name(), err)
		}
	}
	return nil
}

// appendColumn puts one field of all rows into a column.
func appendColumn(out driver.BatchColumn, c chcolumn.Interface, rows []reflect.Value, f int) error {
	switch rows[0].Field(f).Addr().Interface().(type) {
	case *string:
		if strings.HasPrefix(string(c.Type()), "LowCardinality(") {
			return appendEach(out, each[string](rows, f))
		}
		return out.Append(all[string](rows, f))
	case *[]byte: // as a whole they would be copied once more
		for v := range each[[]byte](rows, f) {
			if err := out.AppendRow(*v); err != nil {
				return err
			}
		}
		return nil
	case *uuid.UUID:
		return out.Append(all[uuid.UUID](rows, f))
	case *time.Time:
		return out.Append(all[time.Time](rows, f))
	case **time.Time:
		return out.Append(all[*time.Time](rows, f))
	case *uint64:
		return out.Append(all[uint64](rows, f))
	case **uint64:
		return out.Append(all[*uint64](rows, f))
	case *uint32:
		return out.Append(all[uint32](rows, f))
	case **uint16:
		return out.Append(all[*uint16](rows, f))
	case **int64:
		return out.Append(all[*int64](rows, f))
	case *bool:
		return out.Append(all[bool](rows, f))
	case **bool:
		return out.Append(all[*bool](rows, f))
	case **string:
		return out.Append(all[*string](rows, f))
	case *[]string:
		return appendLists[string](out, rows, f)
	case *[]uint32:
		return appendLists[uint32](out, rows, f)
	case *map[string]string:
		for v := range each[map[string]string](rows, f) {
			if err := out.AppendRow((*sortedMap)(v)); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("no way to insert a %s", rows[0].Field(f).Type())
}

// each is a field of all rows.
func each[T any](rows []reflect.Value, f int) func(yield func(*T) bool) {
	return func(yield func(*T) bool) {
		for _, r := range rows {
			if !yield(r.Field(f).Addr().Interface().(*T)) {
				return
			}
		}
	}
}

// all copies a field of all rows.
func all[T any](rows []reflect.Value, f int) []T {
	list := make([]T, 0, len(rows))
	for v := range each[T](rows, f) {
		list = append(list, *v)
	}
	return list
}

// appendEach appends strings of which many are the same as the one before,
// which then needs no new box.
func appendEach(out driver.BatchColumn, values func(func(*string) bool)) error {
	var last string
	var boxed any = last
	for v := range values {
		if *v != last {
			last, boxed = *v, *v
		}
		if err := out.AppendRow(boxed); err != nil {
			return err
		}
	}
	return nil
}

// appendLists appends arrays, most of which are empty.
func appendLists[T any](out driver.BatchColumn, rows []reflect.Value, f int) error {
	var empty any = []T{}
	for v := range each[[]T](rows, f) {
		list := empty
		if len(*v) > 0 {
			list = *v
		}
		if err := out.AppendRow(list); err != nil {
			return err
		}
	}
	return nil
}

// sortedMap is a map as clickhouse-go takes it in an order of ours: in always
// the same one it compresses much better.
type sortedMap map[string]string

// Put is not used.
func (m *sortedMap) Put(key, value any) { (*m)[key.(string)] = value.(string) }

// Iterator goes through the map in the order of its keys.
func (m *sortedMap) Iterator() chcolumn.MapIterator {
	return &mapIterator{of: *m, keys: slices.Sorted(maps.Keys(*m)), at: -1}
}

type mapIterator struct {
	of   sortedMap
	keys []string
	at   int
}

func (i *mapIterator) Next() bool { i.at++; return i.at < len(i.keys) }
func (i *mapIterator) Key() any   { return i.keys[i.at] }
func (i *mapIterator) Value() any { return i.of[i.keys[i.at]] }
