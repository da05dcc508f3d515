package engine

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
)

// Config is what an embedded engine needs.
type Config struct {
	// Path is the data directory, made if it does not exist. One process at a
	// time can have it.
	Path string
	// Library is the engine's shared library; see the function Library.
	Library string
	// Addr is where to listen, host:port; port 0 takes a free one. The default
	// is 127.0.0.1:8123. Listener, if set, is used in its place, and closed at
	// the end.
	Addr     string
	Listener net.Listener
	// User and Password are asked of every client. The user's default is
	// "default"; the password must not be empty.
	User, Password string
	// MaxMemory caps what queries, merges and caches may take together, in
	// bytes; the default is 1 GiB. One query may take half of it. The code
	// itself comes on top, about 200 MB.
	MaxMemory int64
	// Connections is how many statements run at a time; the default is 8.
	Connections int
	// Log gets what the front has to say; nil discards it.
	Log *slog.Logger
}

const (
	defaultAddr        = "127.0.0.1:8123"
	defaultUser        = "default"
	defaultMemory      = 1 << 30
	defaultConnections = 8
	// minMemory is what the engine needs to start and do anything useful.
	minMemory = 256 << 20
)

// complete checks the configuration and fills in the defaults.
func (c *Config) complete() error {
	if c.Path == "" {
		return errors.New("no data directory: set the path")
	}
	// The engine resolves a relative path against other places than we do, and
	// with directory fsyncs on fails every insert.
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return fmt.Errorf("data directory %s: %w", c.Path, err)
	}
	c.Path = path
	if c.Library == "" {
		return errors.New("no engine library: engine.Library finds or fetches it")
	}
	if c.Library, err = filepath.Abs(c.Library); err != nil {
		return fmt.Errorf("engine library: %w", err)
	}
	if c.Password == "" {
		return errors.New("no password: whoever reaches the engine's port would read every call; set one")
	}
	if c.User == "" {
		c.User = defaultUser
	}
	if c.Addr == "" {
		c.Addr = defaultAddr
	}
	if c.MaxMemory == 0 {
		c.MaxMemory = defaultMemory
	}
	if c.MaxMemory < minMemory {
		return fmt.Errorf("a memory cap of %d bytes is too little: the engine needs at least %d", c.MaxMemory, minMemory)
	}
	if c.Connections == 0 {
		c.Connections = defaultConnections
	}
	if c.Connections < 1 || c.Connections > 256 {
		return fmt.Errorf("%d connections: from 1 to 256 make sense", c.Connections)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// take makes the data directory this process's own until the lock is released;
// a process that dies releases it.
func take(path string) (*flock.Flock, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	file := filepath.Join(path, "callgate.lock")
	lock := flock.New(file, flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the data directory %s: %w", path, err)
	}
	if !ok {
		owner := "another process"
		if pid, err := os.ReadFile(file); err == nil && len(bytes.TrimSpace(pid)) > 0 {
			owner = "process " + string(bytes.TrimSpace(pid))
		}
		return nil, fmt.Errorf("the data directory %s is in use by %s: stop it, or choose another path", path, owner)
	}
	if err := os.WriteFile(file, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the data directory %s: %w", path, err), lock.Unlock())
	}
	return lock, nil
}

// grants is all that the engine lets SQL do: data and schema of its own
// tables. Not granted, so refused by the engine itself: files, URLs and other
// servers as sources or targets, users and grants, dictionaries, and
// SYSTEM SHUTDOWN.
const grants = "GRANT SHOW, SELECT, INSERT, ALTER, CREATE DATABASE, CREATE TABLE, CREATE VIEW, CREATE TEMPORARY TABLE, " +
	"CREATE ARBITRARY TEMPORARY TABLE, CREATE FUNCTION, DROP FUNCTION, DROP, UNDROP TABLE, TRUNCATE, OPTIMIZE, KILL QUERY, " +
	"SYSTEM MERGES, SYSTEM FLUSH LOGS, SYSTEM DROP CACHE, BACKUP ON *.*"

// configure writes the engine's own configuration beside its data and returns
// the arguments to start it with. Without an explicit one it would take any
// config.xml that lies in the working or the home directory.
func (c *Config) configure() ([]string, error) {
	dir := filepath.Join(c.Path, "callgate-config")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the engine's configuration: %w", err)
	}
	if err := os.MkdirAll(c.tmp(), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory for results that are held back: %w", err)
	}
	if err := os.MkdirAll(c.backups(), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory for backups: %w", err)
	}
	users := filepath.Join(dir, "users.xml")
	half := c.MaxMemory / 2
	err := write(users, fmt.Sprintf(`<clickhouse>
  <profiles><default>
    <max_memory_usage>%d</max_memory_usage>
    <max_bytes_before_external_group_by>%d</max_bytes_before_external_group_by>
    <max_bytes_before_external_sort>%d</max_bytes_before_external_sort>
  </default></profiles>
  <users><default>
    <password></password>
    <networks><ip>::/0</ip></networks>
    <profile>default</profile>
    <quota>default</quota>
    <grants><query>%s</query></grants>
  </default></users>
  <quotas><default></default></quotas>
</clickhouse>
`, half, half/2, half/2, grants))
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "config.xml")
	cache := c.MaxMemory / 16
	// An insert is acknowledged only after its bytes and its directory entry
	// are on disk, whatever its table says about it.
	err = write(config, fmt.Sprintf(`<clickhouse>
  <users_config>%s</users_config>
  <max_server_memory_usage>%d</max_server_memory_usage>
  <mark_cache_size>%d</mark_cache_size>
  <primary_index_cache_size>%d</primary_index_cache_size>
  <index_mark_cache_size>%d</index_mark_cache_size>
  <uncompressed_cache_size>0</uncompressed_cache_size>
  <query_condition_cache_size>%d</query_condition_cache_size>
  <backups>
    <allowed_path>%s</allowed_path>
    <allow_concurrent_backups>false</allow_concurrent_backups>
  </backups>
  <merge_tree>
    <fsync_after_insert>1</fsync_after_insert>
    <fsync_part_directory>1</fsync_part_directory>
  </merge_tree>
</clickhouse>
`, escape(users), c.MaxMemory, cache, cache, cache, cache/4, escape(c.backups())))
	if err != nil {
		return nil, err
	}
	return []string{"clickhouse", "--path=" + c.Path, "--config-file=" + config}, nil
}

// backups is where backups are made; nothing else can be written by SQL.
func (c *Config) backups() string { return filepath.Join(c.Path, "callgate-backups") }

// tmp is where results are held back.
func (c *Config) tmp() string { return filepath.Join(c.Path, "callgate-tmp") }

func write(file, content string) error {
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		return fmt.Errorf("write the engine's configuration: %w", err)
	}
	return nil
}

func escape(s string) string {
	var b strings.Builder
	// Writing to memory can't fail.
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}
