package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/config"
)

// trail is the audit trail of this process: the spool, and the way to
// ClickHouse where one is configured.
type trail struct {
	spool    *audit.Spool
	recorder audit.Recorder
	backlog  *audit.Backlog
	signer   *audit.Checkpointer
	db       *clickhouse.DB // nil: the trail stays in the spool
	shipper  *clickhouse.Shipper
	began    uint64 // the spool's first index of this process
}

func openTrail(cfg *config.Config, reg prometheus.Registerer, now func() time.Time, log *slog.Logger) (*trail, error) {
	spool, err := audit.Open(audit.SpoolConfig{Dir: cfg.Audit.Spool.Dir, MaxBytes: int64(cfg.Audit.Spool.MaxBytes), Log: log, Metrics: audit.NewMetrics(reg)})
	if err != nil {
		return nil, fmt.Errorf("open the audit spool: %w; calls can't be let through without it (audit.spool.dir)", err)
	}
	t := &trail{spool: spool, recorder: audit.Recorder{Spool: spool}, began: spool.Status().Durable}
	t.backlog = audit.NewBacklog(audit.BacklogConfig{Recorder: t.recorder, Log: log, Metrics: audit.NewBacklogMetrics(reg)})
	witness, err := openWitness(cfg.Audit.Ledger)
	if err != nil {
		return nil, errors.Join(err, spool.Close())
	}
	t.signer = audit.NewCheckpointer(audit.CheckpointerConfig{Spool: spool, Keys: LedgerKeys(cfg), Node: cfg.Node, Every: cfg.Audit.Ledger.Interval, Witness: witness, Now: now,
		Log: log, Metrics: audit.NewCheckpointMetrics(reg)})
	if cfg.Audit.ClickHouse.URL == "" {
		log.Warn("audit.clickhouse.url is not set; the trail stays in the spool, which is bounded")
		return t, nil
	}
	if t.db, err = OpenClickHouse(cfg); err != nil {
		return nil, errors.Join(err, spool.Close())
	}
	t.shipper = clickhouse.NewShipper(clickhouse.ShipperConfig{Spool: spool, DB: t.db, SettleAfter: cfg.Audit.ClickHouse.SettleAfter, Checkpoints: t.signer,
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

// LedgerKeys are the keys that sign the ledger of this replica.
func LedgerKeys(cfg *config.Config) audit.Keys {
	return audit.Keys{Path: cfg.Audit.Ledger.KeysFile, Name: "callgate/" + cfg.Node}
}

func openWitness(cfg config.Ledger) (audit.Witness, error) {
	u, err := url.Parse(cfg.Witness)
	switch {
	case cfg.Witness == "":
		return nil, nil
	case err == nil && (u.Scheme == "http" || u.Scheme == "https"):
		client, err := plainClient(cfg.WitnessCAFile)
		if err != nil {
			return nil, fmt.Errorf("audit.ledger.witness: %w", err)
		}
		return audit.HTTPWitness{URL: cfg.Witness, Client: client}, nil
	}
	return audit.FileWitness{Path: cfg.Witness}, nil
}

// hasStep tells whether ClickHouse shows a step of an approval, once it has all
// that this replica recorded before it was last started.
func (t *trail) hasStep(ctx context.Context, approval string, number int) (bool, error) {
	if shipped := max(t.shipper.Status().Shipped, t.spool.Status().First); shipped < t.began {
		return false, fmt.Errorf("%d events of before the start are not in ClickHouse yet, and it may be among them", t.began-shipped)
	}
	return t.db.HasStep(ctx, approval, number)
}

func (t *trail) run(ctx context.Context) error {
	if t.shipper == nil {
		<-ctx.Done()
		return nil
	}
	var g errgroup.Group
	g.Go(func() error { return t.shipper.Run(ctx) })
	g.Go(func() error {
		// A replica with little to do would keep content in its spool that
		// retention has long taken from ClickHouse.
		tick := time.NewTicker(rollEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				t.spool.Roll()
			}
		}
	})
	return g.Wait()
}

const rollEvery = time.Hour

// flush records what connections let through unrecorded, if it now can be.
func (t *trail) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainBound)
	defer cancel()
	return t.backlog.Flush(ctx)
}

// end puts a last signature under everything that was recorded.
func (t *trail) end(ctx context.Context, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainBound)
	defer cancel()
	if err := t.signer.End(ctx); err != nil {
		log.ErrorContext(ctx, "the end of the ledger could not be signed; the next start signs it", "error", err)
	}
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
		s := t.shipper.Status()
		if s.Shipped >= s.Durable && s.Unsettled == 0 && t.signer.Status().Pending == 0 || s.Away || s.Stopped != "" {
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
