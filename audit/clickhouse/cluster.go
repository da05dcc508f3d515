package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"text/template"

	ch "github.com/ClickHouse/clickhouse-go/v2"
)

// Cluster says how the trail lies on a cluster of ClickHouse servers. The zero
// value is a single server.
//
// On a cluster each table is two: calls_local, replicated, holds the shard's
// rows, and calls, distributed, is what everybody reads and the shipper fills.
type Cluster struct {
	// Name is the cluster in the servers' remote_servers.
	Name string
	// Path is where a table's replicas meet in Keeper. {database} and {table}
	// are filled in here, other macros by each server. Default
	// "/clickhouse/tables/{shard}/{database}/{table}".
	Path string
	// Replica names a server among those. Default "{replica}".
	Replica string
	// Quorum is how many replicas of a shard must have an insert before it
	// counts: a number, or "auto" for the majority, which is the default.
	// With 1, rows that were taken and not yet copied die with their server.
	Quorum string
}

const (
	defaultReplicaPath = "/clickhouse/tables/{shard}/{database}/{table}"
	defaultReplica     = "{replica}"
	defaultQuorum      = "auto"
	// spoolBlock is how many events in a row one spool gives to one shard. All
	// rows of one insert lie in one such block, so that an insert is one part
	// on one shard: it happens whole or not at all there too. Never change it:
	// what is sent again must reach the shard that may have it.
	spoolBlock = 65536
)

// complete checks c and fills in the defaults.
func (c *Cluster) complete() error {
	if c.Name == "" {
		if *c != (Cluster{}) {
			return errors.New("replica_path, replica_name and insert_quorum mean something on a cluster only: set cluster to its name")
		}
		return nil
	}
	for _, d := range []struct {
		v   *string
		def string
	}{{&c.Path, defaultReplicaPath}, {&c.Replica, defaultReplica}, {&c.Quorum, defaultQuorum}} {
		if *d.v == "" {
			*d.v = d.def
		}
	}
	if !clusterName.MatchString(c.Name) {
		return fmt.Errorf("cluster %q: use letters, digits, '_', '-', '.' or a macro such as {cluster}", c.Name)
	}
	if !replicaPath.MatchString(c.Path) || !strings.Contains(c.Path, "{table}") {
		return fmt.Errorf("replica_path %q: want a path from / with {table} in it, such as %s", c.Path, defaultReplicaPath)
	}
	if !replicaName.MatchString(c.Replica) {
		return fmt.Errorf("replica_name %q: use letters, digits, '_', '-', '.' and macros such as {replica}", c.Replica)
	}
	if n, err := strconv.Atoi(c.Quorum); c.Quorum != defaultQuorum && (err != nil || n < 1 || n > 64) {
		return fmt.Errorf("insert_quorum %q: want auto or a number of replicas", c.Quorum)
	}
	return nil
}

var (
	clusterName = regexp.MustCompile(`^[A-Za-z0-9_.{}-]{1,100}$`)
	replicaPath = regexp.MustCompile(`^(/[A-Za-z0-9_.{}-]+)+$`)
	replicaName = regexp.MustCompile(`^[A-Za-z0-9_.{}-]+$`)
)

// schema renders DDL for one database. It is the one place that knows where
// tables live.
type schema struct {
	database string
	cluster  Cluster // complete
}

// local is the suffix of the tables that hold a shard's rows.
const local = "_local"

// render turns a statement of a migration into those that do it. What it may
// use: {{table "calls"}}, the table with the rows; {{engine "MergeTree"}}, its
// engine; {{deduplication}}, the table's settings that make an insert with a
// token idempotent; {{view "calls_by_day"}}, a view to make; {{from "calls"}},
// the table that is read.
func (s schema) render(statement string) ([]string, error) {
	sql, err := s.fill(statement, s.rows)
	if err != nil || s.cluster.Name == "" {
		return []string{sql}, err
	}
	statements := []string{sql}
	switch {
	case createsTable.MatchString(statement):
		name := tableName.FindStringSubmatch(statement)[1]
		statements = append(statements, fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s AS %s.%s%s\nENGINE = Distributed('%s', '%s', '%s%s', %s)",
			s.all(name), s.database, name, local, s.cluster.Name, s.database, name, local, shardBy(statement)))
	case altersColumns.MatchString(statement):
		sql, err := s.fill(statement, s.all)
		if err != nil {
			return nil, err
		}
		statements = append(statements, sql)
	}
	return statements, nil
}

var (
	createsTable = regexp.MustCompile(`^\s*CREATE TABLE`)
	tableName    = regexp.MustCompile(`{{table "(\w+)"}}`)
	// altersColumns tells the ALTERs that a distributed table must follow. How
	// a column is stored and for how long is the local table's affair.
	altersColumns = regexp.MustCompile(`^\s*ALTER TABLE[^;]*\b(ADD|DROP|RENAME|COMMENT) COLUMN\b`)
)

// shardBy is the key that tells a row's shard. Rows of a spool go by blocks of
// it; see spoolBlock. What has no place in a spool is spread evenly.
func shardBy(create string) string {
	switch {
	case strings.Contains(create, "\n    spool_index "):
		return fmt.Sprintf("cityHash64(spool, intDiv(spool_index, %d))", spoolBlock)
	case strings.Contains(create, "\n    spool "):
		return "cityHash64(spool)"
	}
	return "rand()"
}

func (s schema) fill(statement string, table func(string) string) (string, error) {
	t, err := template.New("").Option("missingkey=error").Funcs(template.FuncMap{
		"table": table,
		"view":  s.all,
		"from":  func(name string) string { return s.database + "." + name },
		"engine": func(name string) (string, error) {
			of := tableName.FindStringSubmatch(statement)
			switch {
			case s.cluster.Name == "":
				return name, nil
			case of == nil:
				return "", errors.New("an engine without a table")
			}
			path := strings.NewReplacer("{database}", s.database, "{table}", of[1]+local).Replace(s.cluster.Path)
			return fmt.Sprintf("Replicated%s('%s', '%s')", name, path, s.cluster.Replica), nil
		},
		"deduplication": func() string {
			if s.cluster.Name == "" {
				return "non_replicated_deduplication_window = 10000"
			}
			return "replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800"
		},
	}).Parse(statement)
	if err != nil {
		return "", err
	}
	var sql strings.Builder
	if err := t.Execute(&sql, nil); err != nil {
		return "", err
	}
	return strings.TrimSpace(sql.String()), nil
}

// rows is a table that holds rows, in DDL and UPDATE.
func (s schema) rows(name string) string {
	if s.cluster.Name == "" {
		return s.database + "." + name
	}
	return s.all(name + local)
}

// all is a table or view that is read, in DDL.
func (s schema) all(name string) string { return s.database + "." + name + s.onCluster() }

func (s schema) onCluster() string {
	if s.cluster.Name == "" {
		return ""
	}
	return " ON CLUSTER '" + s.cluster.Name + "'"
}

// clustered tells whether the trail lies on a cluster.
func (d *DB) clustered() bool { return d.cfg.Cluster.Name != "" }

// exact makes reads see all that was ever taken. What was sent is decided by
// what is there, so a replica that lags must say so rather than answer.
func (d *DB) exact(ctx context.Context) context.Context {
	if !d.clustered() || d.cfg.Cluster.Quorum == "1" {
		return ctx
	}
	return ch.Context(ctx, ch.WithSettings(ch.Settings{"select_sequential_consistency": 1}))
}

// settings are those of every statement.
func (cfg Config) settings() ch.Settings {
	if cfg.Cluster.Name == "" {
		return nil
	}
	s := ch.Settings{
		// A distributed table takes part in IN and JOIN as a whole.
		"distributed_product_mode": "global",
		// A shard that is away is an error, never a smaller answer.
		"skip_unavailable_shards": 0,
		// An insert is acknowledged when it is in its shard, on as many
		// replicas as configured.
		"distributed_foreground_insert": 1,
	}
	if cfg.Cluster.Quorum != "1" {
		s["insert_quorum"] = cfg.Cluster.Quorum
		// Reads are exact only if inserts with a quorum follow each other.
		s["insert_quorum_parallel"] = 0
	}
	return s
}

// schema is where d's tables live.
func (d *DB) schema() schema { return schema{d.cfg.Database, d.cfg.Cluster} }

// update runs lightweight updates, in order. Their table is one that
// schema.rows named: a distributed table can't be updated. On a cluster what
// was updated has to be looked at afterwards, since a replica that is away is
// not waited for.
func (d *DB) update(ctx context.Context, statements []string) error {
	for _, sql := range statements {
		// What is in a statement must not outlive its row in system.query_log.
		set := ch.Settings{"max_query_size": len(sql) + 1<<20, "max_ast_elements": 1_000_000, "log_queries": 0}
		if d.clustered() {
			set["distributed_ddl_task_timeout"] = ddlSeconds
			set["distributed_ddl_output_mode"] = "null_status_on_timeout"
		}
		if err := d.conn.Exec(ch.Context(ctx, ch.WithSettings(set)), sql); err != nil {
			return err
		}
	}
	return nil
}

// ddlSeconds is how long the servers of a cluster are waited for.
const ddlSeconds = 30

// updateBytes bounds the bodies in an update; 0 is no bound.
func (d *DB) updateBytes() int {
	if d.clustered() {
		return bytesPerClusterUpdate
	}
	return bytesPerRowUpdate
}
