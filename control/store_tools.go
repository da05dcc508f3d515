package control

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/callgate/callgate/call/tool"
)

// tools lists those of a connection, or of all where it is "", by connection and
// name.
func (s *Store) tools(ctx context.Context, connection string) ([]Tool, error) {
	rows, err := s.db.Read.QueryContext(ctx, `SELECT connection, name, accepted, offered, author, reason, accepted_at, offered_at FROM tools
		WHERE ? = '' OR connection = ? ORDER BY connection, name`, connection, connection)
	if err != nil {
		return nil, fmt.Errorf("list tools: %w", err)
	}
	defer rows.Close()
	var out []Tool
	for rows.Next() {
		var t Tool
		var accepted, offered []byte
		var acceptedAt, offeredAt int64
		if err := rows.Scan(&t.Connection, &t.Name, &accepted, &offered, &t.Author, &t.Reason, &acceptedAt, &offeredAt); err != nil {
			return nil, fmt.Errorf("list tools: %w", err)
		}
		for text, into := range map[*[]byte]*tool.Definition{&accepted: &t.Accepted, &offered: &t.Offered} {
			if len(*text) > 0 {
				if *into, err = tool.Read(*text); err != nil {
					return nil, fmt.Errorf("read tool %s of %s: %w", t.Name, t.Connection, err)
				}
			}
		}
		t.AcceptedAt, t.OfferedAt = fromNanos(acceptedAt), fromNanos(offeredAt)
		out = append(out, t)
	}
	return out, rows.Err()
}

// asked tells which connections' tools were asked for before.
func (s *Store) asked(ctx context.Context) (map[string]bool, error) {
	rows, err := s.db.Read.QueryContext(ctx, `SELECT connection FROM tool_servers`)
	if err != nil {
		return nil, fmt.Errorf("list tool servers: %w", err)
	}
	defer rows.Close()
	out := map[string]bool{}
	for rows.Next() {
		var c string
		if err := rows.Scan(&c); err != nil {
			return nil, fmt.Errorf("list tool servers: %w", err)
		}
		out[c] = true
	}
	return out, rows.Err()
}

// putTools writes what changed of a connection's tools, whole or not at all.
func (s *Store) putTools(ctx context.Context, connection string, list []Tool, first int64) error {
	err := s.db.Within(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO tool_servers (connection, first) VALUES (?, ?) ON CONFLICT (connection) DO NOTHING`, connection, first); err != nil {
			return err
		}
		for _, t := range list {
			if err := putTool(ctx, tx, connection, t); err != nil {
				return fmt.Errorf("%s: %w", t.Name, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store tools of %s: %w", connection, err)
	}
	return nil
}

func putTool(ctx context.Context, tx *sql.Tx, connection string, t Tool) (err error) {
	if t.Accepted.Text == nil && t.Offered.Text == nil {
		// Neither offered nor accepted: nothing is left to know.
		_, err = tx.ExecContext(ctx, `DELETE FROM tools WHERE connection = ? AND name = ?`, connection, t.Name)
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO tools (connection, name, accepted, offered, author, reason, accepted_at, offered_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (connection, name) DO UPDATE SET accepted = excluded.accepted, offered = excluded.offered, author = excluded.author,
		reason = excluded.reason, accepted_at = excluded.accepted_at, offered_at = excluded.offered_at`,
		connection, t.Name, blob(t.Accepted), blob(t.Offered), t.Author, t.Reason, nanos(t.AcceptedAt), nanos(t.OfferedAt))
	return err
}

func blob(d tool.Definition) []byte {
	if d.Text == nil {
		return []byte{}
	}
	return d.Text
}
