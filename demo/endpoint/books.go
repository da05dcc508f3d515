package endpoint

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite" // with the driver "sqlite"
	limits "modernc.org/sqlite/lib"
)

const (
	queryTime = 5 * time.Second
	maxRows   = 1000     // of one query's result
	maxCell   = 64 << 10 // bytes of a statement, a text or a row
	maxPages  = 4096     // of 4 KiB each, the whole database
)

// Customer is a customer as the services return one.
type Customer struct {
	ID         string  `json:"id"`
	Name       string  `json:"name"`
	Email      string  `json:"email"`
	Phone      string  `json:"phone"`
	CardNumber string  `json:"card_number"`
	IBAN       string  `json:"iban"`
	Balance    float64 `json:"balance"`
	Account    string  `json:"account"` // a UUID, which no detector may take for something else
	Since      string  `json:"since"`
}

// Refund is a refund as asked for and, with an ID, as made.
type Refund struct {
	ID       string  `json:"id,omitempty" jsonschema:"the refund's id"`
	Customer string  `json:"customer" jsonschema:"the customer's id, such as c-1"`
	Amount   float64 `json:"amount" jsonschema:"how much, more than 0"`
	Currency string  `json:"currency" jsonschema:"ISO 4217 code, such as EUR"`
	Reason   string  `json:"reason" jsonschema:"why"`
}

// Rows are a query's result.
type Rows struct {
	Columns []string `json:"columns"`
	Rows    [][]any  `json:"rows"`
}

const schema = `
create table customers (
  id text primary key, name text, email text, phone text, card_number text,
  iban text, balance real, account text, since text);
insert into customers values
  ('c-1', 'Ada Example', 'ada@example.com', '+49 30 901820', '4242 4242 4242 4242', 'DE89 3704 0044 0532 0130 00', 1250.00, '7b0f3a52-4d1e-4c59-9f06-2a6a1d4be001', '2019-04-01T09:30:00Z'),
  ('c-2', 'Ben Sample', 'ben@example.org', '+44 20 7946 0958', '5555-5555-5555-4444', 'GB82 WEST 1234 5698 7654 32', 80.50, '7b0f3a52-4d1e-4c59-9f06-2a6a1d4be002', '2021-11-15T14:00:00Z'),
  ('c-3', 'Cleo Muster', 'cleo@example.net', '+1 202 555 0143', '378282246310005', 'FR14 2004 1010 0505 0001 3M02 606', 0.00, '7b0f3a52-4d1e-4c59-9f06-2a6a1d4be003', '2024-02-29T08:15:00Z');
create table orders (id integer primary key, customer text, total real, placed text);
insert into orders values (1, 'c-1', 129.90, '2026-01-10'), (2, 'c-1', 19.00, '2026-02-03'), (3, 'c-2', 80.50, '2026-02-05');
`

var errNoCustomer = errors.New("there is no such customer")

// books is what the REST service and the MCP server work on, each its own: a
// database in memory that really runs what it is given, "drop table" included,
// but reaches no file.
type books struct {
	refunds atomic.Int64

	mu sync.Mutex // one query at a time
	// conn is the database: in memory, one belongs to its connection, and a
	// pool would quietly replace a broken one by a database with nothing in it.
	conn *sql.Conn
}

func openBooks() (_ *books, err error) {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return nil, fmt.Errorf("open the books: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open the books: %w", err), db.Close())
		}
	}()
	ctx := context.Background() // the books stay open as long as the process
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	for limit, most := range map[int]int{
		limits.SQLITE_LIMIT_ATTACHED: 0, // "attach" and "vacuum into" would write files
		limits.SQLITE_LIMIT_LENGTH:   maxCell,
	} {
		if _, err := sqlite.Limit(conn, limit, most); err != nil {
			return nil, err
		}
	}
	if _, err := conn.ExecContext(ctx, fmt.Sprintf("pragma max_page_count = %d;", maxPages)+schema); err != nil {
		return nil, err
	}
	return &books{conn: conn}, nil
}

const customerColumns = `select id, name, email, phone, card_number, iban, balance, account, since from customers `

func (b *books) customers(ctx context.Context, where string, args ...any) ([]Customer, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	b.mu.Lock()
	defer b.mu.Unlock()
	rows, err := b.conn.QueryContext(ctx, customerColumns+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := []Customer{}
	for rows.Next() {
		var c Customer
		if err := rows.Scan(&c.ID, &c.Name, &c.Email, &c.Phone, &c.CardNumber, &c.IBAN, &c.Balance, &c.Account, &c.Since); err != nil {
			return nil, err
		}
		found = append(found, c)
	}
	return found, rows.Err()
}

// customer finds one by id, errNoCustomer where there is none.
func (b *books) customer(ctx context.Context, id string) (Customer, error) {
	found, err := b.customers(ctx, "where id = ?", id)
	if err != nil {
		return Customer{}, err
	}
	if len(found) == 0 {
		return Customer{}, errNoCustomer
	}
	return found[0], nil
}

// search finds customers by a part of their name or e-mail address.
func (b *books) search(ctx context.Context, part string) ([]Customer, error) {
	like := "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(part) + "%"
	return b.customers(ctx, `where name like ? escape '\' or email like ? escape '\' order by id limit 100`, like, like)
}

func (b *books) refund(ctx context.Context, r Refund) (Refund, error) {
	if !(r.Amount > 0) { // also not a number
		return Refund{}, errors.New("amount must be more than 0")
	}
	if len(r.Currency) != 3 {
		return Refund{}, errors.New("currency must be an ISO 4217 code of three letters, such as EUR")
	}
	if _, err := b.customer(ctx, r.Customer); err != nil {
		return Refund{}, err
	}
	r.ID = fmt.Sprintf("r-%d", b.refunds.Add(1))
	return r, nil
}

// run runs any SQL.
func (b *books) run(ctx context.Context, query string) (Rows, error) {
	if strings.TrimSpace(query) == "" {
		return Rows{}, errors.New("query is empty")
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	b.mu.Lock()
	defer b.mu.Unlock()
	rows, err := b.conn.QueryContext(ctx, query)
	if err != nil {
		return Rows{}, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return Rows{}, err
	}
	result := Rows{Columns: append([]string{}, columns...), Rows: [][]any{}}
	for rows.Next() && len(result.Rows) < maxRows {
		row, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return Rows{}, err
		}
		for i, cell := range row {
			if f, ok := cell.(float64); ok && math.IsInf(f, 0) {
				row[i] = fmt.Sprint(f) // JSON has no infinity
			}
		}
		result.Rows = append(result.Rows, row)
	}
	return result, rows.Err()
}
