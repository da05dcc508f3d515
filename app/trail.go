package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/config"
)

// trail is the audit trail of this process: the spool, and the way to
// ClickHouse where one is configured.
type trail struct {
	spool    *audit.Spool
	recorder audit.Recorder
	db       *clickhouse.DB // nil: the trail stays in the spool
	shipper  *clickhouse.Shipper
}

func openTrail(cfg *config.Config, reg prometheus.Registerer, log *slog.Logger) (*trail, error) {
	spool, err := audit.Open(audit.SpoolConfig{Dir: cfg.Audit.Spool.Dir, MaxBytes: int64(cfg.Audit.Spool.MaxBytes), Log: log, Metrics: audit.NewMetrics(reg)})
	if err != nil {
		return nil, fmt.Errorf("open the audit spool: %w; calls can't be let through without it (audit.spool.dir)", err)
	}
	t := &trail{spool: spool, recorder: audit.Recorder{Spool: spool}}
	if cfg.Audit.ClickHouse.URL == "" {
		log.Warn("audit.clickhouse.url is not set; the trail stays in the spool, which is bounded")
		return t, nil
	}
	if t.db, err = OpenClickHouse(cfg); err != nil {
		return nil, errors.Join(err, spool.Close())
	}
	t.shipper = clickhouse.NewShipper(clickhouse.ShipperConfig{Spool: spool, DB: t.db, SettleAfter: cfg.Audit.ClickHouse.SettleAfter,
		Log: log, Metrics: clickhouse.NewMetrics(reg)})
	return t, nil
}

// OpenClickHouse prepares connections to the ClickHouse of a configuration. It
// contacts nobody.
func OpenClickHouse(cfg *config.Config) (*clickhouse.DB, error) {
	ch := cfg.Audit.ClickHouse
	if ch.URL == "" {
		return nil, errors.New("audit.clickhouse.url is not set; name the ClickHouse that holds the trail")
	}
	db, err := clickhouse.Open(ClickHouse(cfg))
	if err != nil {
		return nil, fmt.Errorf("audit.clickhouse: %w", err)
	}
	return db, nil
}

// ClickHouse maps what a configuration says about ClickHouse.
func ClickHouse(cfg *config.Config) clickhouse.Config {
	ch := cfg.Audit.ClickHouse
	return clickhouse.Config{URL: ch.URL, Database: ch.Database, Username: ch.Username, Password: ch.Password.Read, CAFile: ch.CAFile,
		Cluster: clickhouse.Cluster{Name: ch.Cluster, Path: ch.ReplicaPath, Replica: ch.ReplicaName, Quorum: ch.InsertQuorum}}
}

func (t *trail) run(ctx context.Context) error {
	if t.shipper == nil {
		<-ctx.Done()
		return nil
	}
	return t.shipper.Run(ctx)
}

// ready reports why calls could not be decided now.
func (t *trail) ready() error {
	if s := t.spool.Status(); s.Err != nil {
		return fmt.Errorf("the audit spool does not take records: %w", s.Err)
	}
	return nil
}

// drainBound is how long a stop waits for ClickHouse to take what is spooled;
// what it does not is shipped after the next start.
const drainBound = 3 * time.Second

func (t *trail) drain() {
	if t.shipper == nil {
		return
	}
	for deadline := time.Now().Add(drainBound); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if s := t.shipper.Status(); s.Shipped >= s.Durable && s.Unsettled == 0 || s.Away || s.Stopped != "" {
			return
		}
	}
}

func (t *trail) close() error {
	var errs []error
	if t.db != nil {
		errs = append(errs, t.db.Close())
	}
	return errors.Join(append(errs, t.spool.Close())...)
}
