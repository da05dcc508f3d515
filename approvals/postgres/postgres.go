// Package postgres keeps approvals in PostgreSQL, for many replicas that share
// them. Each step is one transaction, durable when it returns. A decision wakes
// the replica whose caller waits by NOTIFY; see [Store.Watch].
//
// A [Store] can be made before the database is there, and outlives its going
// away: each step then fails, and those after its return succeed.
package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/callgate/callgate/approvals"
)

// Config is what a [Store] needs.
type Config struct {
	// URL is postgres://user@host:port/database, without a password. Of several
	// hosts, separated by commas, the one that takes writes is used.
	URL string
	// Password is asked for at each connection, so that it can change; nil:
	// there is none.
	Password func() (string, error)
	// TLS is spoken with every host; its ServerName is set to each. Nil: no TLS.
	TLS *tls.Config
	// MaxConnections bounds the pool. Default 10; one more listens.
	MaxConnections int
	Log            *slog.Logger
}

const (
	defaultConnections = 10
	dialTimeout        = 3 * time.Second
	// keepAlive finds out that a host vanished without a word.
	keepAlive = 15 * time.Second
	// The server gives up what is of no use any more: steps are bounded by
	// their callers at about as much.
	statementTimeout = 5 * time.Second
	lockTimeout      = 4 * time.Second
	idleTimeout      = 10 * time.Second // of an open transaction
	// retryMigration is how soon the schema is looked at again after that failed.
	retryMigration = time.Second
)

// Store implements [approvals.Store] and [approvals.Watcher].
type Store struct {
	pool *pgxpool.Pool
	cfg  *pgx.ConnConfig // of a connection outside the pool
	log  *slog.Logger

	migrated atomic.Bool
	schema   sync.Mutex // held while the schema is brought up to date
	failed   error      // of the last attempt, under schema
	failedAt time.Time

	seen       seen
	unvacuumed atomic.Bool // something was erased, and its place is not cleared
}

var (
	_ approvals.Store   = (*Store)(nil)
	_ approvals.Watcher = (*Store)(nil)
)

// New returns a Store. It fails only where the configuration is at fault: the
// database may be away.
func New(ctx context.Context, cfg Config) (*Store, error) {
	conf, err := poolConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("approval store: %w", err)
	}
	pool, err := pgxpool.NewWithConfig(ctx, conf)
	if err != nil {
		return nil, fmt.Errorf("approval store: %w", err)
	}
	s := &Store{pool: pool, cfg: conf.ConnConfig, log: cfg.Log}
	if err := conf.BeforeConnect(ctx, s.cfg); err != nil {
		s.log.ErrorContext(ctx, "approval store can't be logged in to", "error", err)
	}
	return s, nil
}

// Pool is a pool of connections as cfg describes them, for what else lies in the
// same database.
func Pool(ctx context.Context, cfg Config) (*pgxpool.Pool, error) {
	conf, err := poolConfig(cfg)
	if err != nil {
		return nil, err
	}
	return pgxpool.NewWithConfig(ctx, conf)
}

// poolConfig turns the configuration into the driver's. The environment's PG*
// variables and the files of libpq change nothing of what is set here.
func poolConfig(cfg Config) (*pgxpool.Config, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, errors.New("the url can't be read; write postgres://user@host:port/database")
	}
	if u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Host == "" || u.User.Username() == "" || strings.Trim(u.Path, "/") == "" {
		return nil, errors.New("the url must be postgres://user@host:port/database")
	}
	if _, has := u.User.Password(); has || u.RawQuery != "" {
		return nil, errors.New("the url must have neither a password nor parameters; there are settings for them")
	}
	query := url.Values{"sslmode": {"disable"}, "connect_timeout": {"3"}, "application_name": {"callgate"}}
	if strings.Contains(u.Host, ",") {
		query.Set("target_session_attrs", "read-write")
	}
	u.RawQuery = query.Encode()
	conf, err := pgxpool.ParseConfig(u.String())
	if err != nil {
		return nil, errors.New("the url can't be read; write postgres://user@host:port/database")
	}
	conf.MaxConns = int32(cfg.MaxConnections)
	if conf.MaxConns <= 0 {
		conf.MaxConns = defaultConnections
	}
	conf.MaxConnLifetime, conf.MaxConnLifetimeJitter, conf.MaxConnIdleTime = time.Hour, 10*time.Minute, 10*time.Minute
	conf.ConnConfig.Password = ""
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}
	conf.ConnConfig.DialFunc = dialer.DialContext
	conf.ConnConfig.TLSConfig = serverTLS(cfg.TLS, conf.ConnConfig.Host)
	for _, f := range conf.ConnConfig.Fallbacks {
		f.TLSConfig = serverTLS(cfg.TLS, f.Host)
	}
	conf.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) (err error) {
		if cfg.Password == nil {
			return nil
		}
		if c.Password, err = cfg.Password(); err != nil {
			return fmt.Errorf("read the database's password: %w", err)
		}
		return nil
	}
	conf.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		// Committed is durable, whatever the server's or the role's default says.
		_, err := c.Exec(ctx, fmt.Sprintf("SET statement_timeout = %d; SET lock_timeout = %d; SET idle_in_transaction_session_timeout = %d; SET synchronous_commit = on",
			statementTimeout.Milliseconds(), lockTimeout.Milliseconds(), idleTimeout.Milliseconds()))
		return err
	}
	return conf, nil
}

func serverTLS(base *tls.Config, host string) *tls.Config {
	if base == nil || strings.HasPrefix(host, "/") {
		return nil
	}
	c := base.Clone()
	c.ServerName = host
	return c
}

// Close closes the connections. Holds that are open stay so.
func (s *Store) Close() error {
	s.pool.Close()
	return nil
}

// Check tells whether the database can be reached and has the schema.
func (s *Store) Check(ctx context.Context) error { return s.ready(ctx) }

// errInDoubt is that the connection broke between COMMIT and its answer.
var errInDoubt = errors.New("the connection to the database broke before it said whether this is done; look before it is tried again")

// on runs do on a connection of the pool, and once more where that proves dead
// without do having changed anything: the pool finds out that a connection died
// only by using it, unless it lay idle for a while. Errors of do that are
// errInDoubt are final.
func (s *Store) on(ctx context.Context, do func(*pgxpool.Conn) error) error {
	dead := false
	once := func(c *pgxpool.Conn) error {
		err := do(c)
		dead = err != nil && c.Conn().IsClosed()
		return err
	}
	err := s.pool.AcquireFunc(ctx, once)
	if !dead || errors.Is(err, errInDoubt) || ctx.Err() != nil {
		return err
	}
	s.pool.Reset() // what killed it will have killed the others
	return s.pool.AcquireFunc(ctx, once)
}

// within runs do in a transaction. What do has sent when it returns nil is
// committed together with the transaction, in one round trip. Where the
// connection dies before that, do runs once more; where it dies between COMMIT
// and its answer, do runs once more only if it has a proof, and that does not
// hold.
func (s *Store) within(ctx context.Context, do func(*transaction) error) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	var doubt *proof // of what is not known to have been done
	err := s.on(ctx, func(c *pgxpool.Conn) error {
		again := doubt != nil
		if again {
			done, err := doubt.holds(ctx, c)
			if done || err != nil {
				return err
			}
			doubt = nil
		}
		tx := &transaction{conn: c.Conn(), batch: &pgx.Batch{}}
		tx.batch.Queue("BEGIN")
		err := do(tx)
		if err == nil {
			tx.batch.Queue("COMMIT")
			err = tx.send(ctx, nil)
			if err != nil && c.Conn().IsClosed() && !pgconn.SafeToRetry(err) {
				if again || tx.proof == nil {
					return fmt.Errorf("%w: %w", errInDoubt, err)
				}
				doubt = tx.proof
			}
		}
		if err != nil && !c.Conn().IsClosed() && c.Conn().PgConn().TxStatus() != 'I' {
			// The caller may be gone; the connection must be fit for others.
			bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			if _, undo := c.Exec(bound, "ROLLBACK"); undo != nil {
				_ = c.Conn().Close(bound) // which undoes it too
			}
		}
		return err
	})
	if err != nil && doubt != nil {
		return fmt.Errorf("%w: %w", errInDoubt, err)
	}
	return err
}

// transaction gathers statements until one is needed that answers.
type transaction struct {
	conn  *pgx.Conn
	batch *pgx.Batch
	proof *proof // nil: none
}

// proof is a query with a row in its answer if, and only if, the transaction was
// committed. The server's own pg_xact_status is none: after a crash it gives a
// transaction's number to another.
type proof struct {
	sql  string
	args []any
}

func (p *proof) holds(ctx context.Context, c *pgxpool.Conn) (bool, error) {
	err := c.QueryRow(ctx, p.sql, p.args...).Scan()
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

func (t *transaction) provedBy(sql string, args ...any) { t.proof = &proof{sql, args} }

func (t *transaction) exec(sql string, args ...any) { t.batch.Queue(sql, args...) }

// send sends what is gathered; read gets the rows of the last statement.
func (t *transaction) send(ctx context.Context, read func(pgx.Rows) error) error {
	batch := t.batch
	t.batch = &pgx.Batch{}
	results := t.conn.SendBatch(ctx, batch)
	for i := range batch.Len() {
		if i < batch.Len()-1 || read == nil {
			if _, err := results.Exec(); err != nil {
				return errors.Join(err, closed(results))
			}
			continue
		}
		rows, err := results.Query()
		if err == nil {
			err = read(rows)
			rows.Close()
		}
		if err = errors.Join(err, rows.Err()); err != nil {
			return errors.Join(err, closed(results))
		}
	}
	return results.Close()
}

// closed closes results whose error is known already.
func closed(results pgx.BatchResults) error {
	_ = results.Close()
	return nil
}

// query asks with one statement and reads its rows.
func (t *transaction) query(ctx context.Context, read func(pgx.Rows) error, sql string, args ...any) error {
	t.exec(sql, args...)
	return t.send(ctx, read)
}

// rows reads rows outside a transaction. read may run twice, each time with the
// rows from the first one on.
func (s *Store) rows(ctx context.Context, read func(pgx.Rows) error, sql string, args ...any) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	return s.on(ctx, func(c *pgxpool.Conn) error {
		rows, err := c.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		err = read(rows)
		rows.Close()
		return errors.Join(err, rows.Err())
	})
}

// exec runs one statement and tells how many rows it changed. It may run twice,
// and must not do more then; what it tells is of the second time.
func (s *Store) exec(ctx context.Context, sql string, args ...any) (n int, err error) {
	if err := s.ready(ctx); err != nil {
		return 0, err
	}
	err = s.on(ctx, func(c *pgxpool.Conn) error {
		tag, err := c.Exec(ctx, sql, args...)
		n = int(tag.RowsAffected())
		return err
	})
	return n, err
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// plain makes a text that PostgreSQL takes; only where it is to be read by
// people is it made of what is not.
func plain(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func instant(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

// isCode reports whether the server gave an error of this code.
func isCode(err error, code string) bool {
	var known *pgconn.PgError
	return errors.As(err, &known) && known.Code == code
}
