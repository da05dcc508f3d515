package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
)

// EraseMost bounds the calls of one erasure.
const EraseMost = 100_000

// ErrEraseTooMany says that an erasure would take too many calls.
var ErrEraseTooMany = errors.New("too many calls for one erasure")

// Erasable lists the calls whose content an erasure would take: those in ids, or
// where that is empty those that f selects, which has no limit of its own. Calls
// of which all content is gone are left out; those of which an erasure that did
// not end left some are not. missing are those of ids that have no row.
func (d *DB) Erasable(ctx context.Context, f Filter, ids []uuid.UUID) (list, missing []uuid.UUID, err error) {
	if len(ids) > EraseMost {
		return nil, nil, fmt.Errorf("%w: %d are more than %d", ErrEraseTooMany, len(ids), EraseMost)
	}
	if len(ids) == 0 {
		where, args := f.where()
		sql := fmt.Sprintf("SELECT call_id FROM calls WHERE %s AND (%s) ORDER BY time LIMIT %d", where, callContent+halfErased(""), EraseMost+1)
		if list, err = d.ids(ctx, sql, args...); err == nil && len(list) > EraseMost {
			return nil, nil, fmt.Errorf("%w: more than %d are selected; take a shorter period", ErrEraseTooMany, EraseMost)
		}
		return list, nil, err
	}
	there := make(map[uuid.UUID]bool, len(ids))
	for part := range slices.Chunk(ids, idsPerQuery) {
		in := "call_id IN (" + uuids(part) + ")"
		found, err := d.ids(ctx, "SELECT call_id FROM calls WHERE "+in)
		if err != nil {
			return nil, nil, err
		}
		for _, id := range found {
			there[id] = true
		}
		left, err := d.ids(ctx, "SELECT call_id FROM calls WHERE "+in+" AND ("+callContent+halfErased(in)+") ORDER BY time")
		if err != nil {
			return nil, nil, err
		}
		list = append(list, left...)
	}
	for _, id := range ids {
		if !there[id] {
			there[id], missing = true, append(missing, id)
		}
	}
	return list, missing, nil
}

// HeldAmong are those calls among ids, or where that is empty among those that f
// selects, that were held for approval and whose content is gone from the row: an
// approval store may still have theirs.
func (d *DB) HeldAmong(ctx context.Context, f Filter, ids []uuid.UUID) ([]uuid.UUID, error) {
	const held = " AND approval_id != '' AND erased IS NOT NULL"
	if len(ids) == 0 {
		where, args := f.where()
		return d.ids(ctx, fmt.Sprintf("SELECT call_id FROM calls WHERE %s%s ORDER BY time LIMIT %d", where, held, EraseMost), args...)
	}
	var list []uuid.UUID
	for part := range slices.Chunk(ids, idsPerQuery) {
		found, err := d.ids(ctx, "SELECT call_id FROM calls WHERE call_id IN ("+uuids(part)+")"+held)
		if err != nil {
			return nil, err
		}
		list = append(list, found...)
	}
	return list, nil
}

// halfErased finds calls whose row lost its content and whose unjoined legs did
// not, because an erasure was interrupted.
func halfErased(in string) string {
	if in != "" {
		in += " AND "
	}
	return " OR call_id IN (SELECT call_id FROM events WHERE " + in + "unjoined AND (" + legContent + "))"
}

func (d *DB) ids(ctx context.Context, sql string, args ...any) ([]uuid.UUID, error) {
	rows, err := d.conn.Query(d.exact(ctx), sql, args...)
	if err != nil {
		return nil, fmt.Errorf("look for calls: %w", explain(err))
	}
	defer rows.Close()
	var list []uuid.UUID
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("look for calls: %w", err)
		}
		list = append(list, id)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("look for calls: %w", explain(err))
	}
	return list, nil
}

// Erase removes the content of calls from ClickHouse: arguments, path, error text
// and bodies, with the salts that the ledger's commitments need, so that nothing
// of it can be told from these. It rewrites the parts concerned and returns when
// that is done; ClickHouse removes the old files some minutes later. It may be
// repeated, and costs little where nothing is left to take.
func (d *DB) Erase(ctx context.Context, ids []uuid.UUID) error {
	for part := range slices.Chunk(ids, idsPerQuery) {
		if err := d.rewrite(ctx, tableCalls, part, callContent, erasedCall); err != nil {
			return err
		}
		if err := d.eraseLegs(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// eraseLegs removes content that lies beside the unjoined events of calls.
func (d *DB) eraseLegs(ctx context.Context, ids []uuid.UUID) error {
	return d.rewrite(ctx, tableEvents, ids, legContent, erasedEvent)
}

const (
	legContent  = "aside != '' OR body_head != '' OR body_tail != ''"
	erasedEvent = "aside = '', body_head = '', body_tail = ''"

	callContent = "erased IS NULL OR args != '' OR path != '' OR rpc_message IS NOT NULL OR request_body != '' OR request_body_tail != '' OR response_body != '' OR response_body_tail != '' OR original_sealed != '' " +
		"OR request_body_sum != toFixedString('', 32) OR response_body_sum != toFixedString('', 32) OR request_salt != toFixedString('', 16) OR response_salt != toFixedString('', 16)"
	erasedCall = "args = '', path = '', rpc_message = NULL, request_body = '', request_body_tail = '', response_body = '', response_body_tail = '', original_sealed = '', " +
		"request_body_sum = toFixedString('', 32), response_body_sum = toFixedString('', 32), " +
		"request_salt = toFixedString('', 16), response_salt = toFixedString('', 16), erased = ifNull(erased, now())"
)

// rewrites bounds how often content is looked for and taken.
const rewrites = 5

// rewrite sets columns of the rows of calls that fit a condition, which none does
// afterwards, in the partitions that have such rows. A late leg may be written
// into a row at the same moment, so it looks again.
func (d *DB) rewrite(ctx context.Context, table string, ids []uuid.UUID, condition, set string) error {
	where := "call_id IN (" + uuids(ids) + ") AND (" + condition + ")"
	for range rewrites {
		days, err := d.days(ctx, table, where)
		if err != nil || len(days) == 0 {
			return err
		}
		var statements []string
		for _, day := range days {
			alter := "ALTER TABLE " + d.schema().rows(table)
			if table == tableCalls {
				// An update that is still kept beside its part would bring
				// back what is taken.
				statements = append(statements, alter+" APPLY PATCHES IN PARTITION '"+day+"'")
			}
			statements = append(statements, alter+" UPDATE "+set+" IN PARTITION '"+day+"' WHERE "+where)
		}
		for _, sql := range statements {
			set := ch.Settings{"mutations_sync": 2, "max_query_size": len(sql) + 1<<20, "max_ast_elements": 1_000_000}
			if err := d.conn.Exec(ch.Context(ctx, ch.WithSettings(set)), sql); err != nil {
				return fmt.Errorf("erase in %s: %w", table, explain(err))
			}
		}
	}
	return fmt.Errorf("erase in %s: content is still there after %d rewrites", table, rewrites)
}

// days are the partitions of a table that have rows that fit.
func (d *DB) days(ctx context.Context, table, where string) ([]string, error) {
	rows, err := d.conn.Query(d.exact(ctx), "SELECT DISTINCT toDate(time) FROM "+table+" WHERE "+where)
	if err != nil {
		return nil, fmt.Errorf("look for what to erase in %s: %w", table, explain(err))
	}
	defer rows.Close()
	var days []string
	for rows.Next() {
		var day time.Time
		if err := rows.Scan(&day); err != nil {
			return nil, fmt.Errorf("look for what to erase in %s: %w", table, err)
		}
		days = append(days, day.Format(time.DateOnly))
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("look for what to erase in %s: %w", table, explain(err))
	}
	return days, nil
}
