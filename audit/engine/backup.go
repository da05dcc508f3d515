package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// backupForm is how a backup may be asked for: of a whole database, to one file
// in the engine's own directory for them. The general statement could write and
// read anywhere, also over the network.
var backupForm = regexp.MustCompile(`^(BACKUP DATABASE [A-Za-z_][A-Za-z0-9_]{0,62} TO|RESTORE ALL FROM) File\('[A-Za-z0-9_-]{1,100}\.tar'\)$`)

// BackupConfig says which running engine is backed up, and to where.
type BackupConfig struct {
	Path           string // the engine's data directory
	Addr           string // where it listens
	User, Password string
	Database       string
	To             string // file to make; To.sha256 is made beside it
}

// sumSuffix is of the file with a backup's SHA-256, as sha256sum writes it.
const sumSuffix = ".sha256"

// Backup copies a database of a running engine to one file: ClickHouse's own
// backup, as tar. The engine goes on meanwhile; the copy is of the moment at which
// it began.
func Backup(ctx context.Context, cfg BackupConfig) (err error) {
	for _, path := range []string{cfg.To, cfg.To + sumSuffix} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("back up to %s: it is there already; choose another name", path)
		}
	}
	dir := filepath.Join(cfg.Path, "callgate-backups")
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("back up: %w; --path must be the data directory of the engine that runs", err)
	}
	name := "backup-" + time.Now().UTC().Format("20060102-150405.000000000")
	name = strings.ReplaceAll(name, ".", "-") + ".tar"
	made := filepath.Join(dir, name)
	defer func() {
		if rerr := os.Remove(made); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("remove the engine's own copy: %w", rerr))
		}
	}()
	if _, err := ask(ctx, cfg.Addr, cfg.User, cfg.Password, "BACKUP DATABASE "+cfg.Database+" TO File('"+name+"')"); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	in, err := os.Open(made)
	if err != nil {
		return fmt.Errorf("back up: %w; is %s the data directory of the engine at %s?", err, cfg.Path, cfg.Addr)
	}
	defer in.Close()
	sum, err := copyTo(cfg.To, in)
	if err != nil {
		return fmt.Errorf("back up: %w", errors.Join(err, os.Remove(cfg.To)))
	}
	line := sum + "  " + filepath.Base(cfg.To) + "\n"
	if err := os.WriteFile(cfg.To+sumSuffix, []byte(line), 0o600); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	return nil
}

// copyTo writes in to a new file, durably, and returns its SHA-256 in hex.
func copyTo(path string, in io.Reader) (string, error) {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, h), in)
	if err == nil {
		err = out.Sync()
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return hex.EncodeToString(h.Sum(nil)), err
}

// RestoreConfig says which backup becomes which data directory.
type RestoreConfig struct {
	From string // a file that Backup made, with its .sha256 beside it
	// Engine is started on a new data directory and stopped again. Its Addr and
	// Password may be empty.
	Engine ProcessConfig
}

// Restored is a table that a backup held.
type Restored struct {
	Table string
	Rows  string
}

// Restore makes a data directory of a backup. The directory must not exist, or be
// empty; what was made is removed where restoring fails.
func Restore(ctx context.Context, cfg RestoreConfig, progress func(string)) (_ []Restored, err error) {
	path := cfg.Engine.Path
	if entries, err := os.ReadDir(path); err == nil && len(entries) > 0 {
		return nil, fmt.Errorf("restore to %s: it is not empty; choose a new directory", path)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("restore: %w", err)
	}
	want, err := os.ReadFile(cfg.From + sumSuffix)
	if err != nil {
		return nil, fmt.Errorf("restore: %w; it was made beside the backup, and tells a damaged one", err)
	}
	in, err := os.Open(cfg.From)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	defer in.Close()
	dir := filepath.Join(path, "callgate-backups")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}()
	copied := filepath.Join(dir, "restore.tar")
	sum, err := copyTo(copied, in)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	if have, _, _ := strings.Cut(string(want), " "); strings.TrimSpace(have) != sum {
		return nil, fmt.Errorf("restore: %s is damaged or another file: its SHA-256 is %s, it was %s", cfg.From, sum, strings.TrimSpace(have))
	}
	if cfg.Engine.Password == "" {
		// Nobody needs to know it: the engine stops when it has read the backup.
		cfg.Engine.Password = sum
	}
	if cfg.Engine.Addr == "" {
		cfg.Engine.Addr = "127.0.0.1:0"
	}
	p, err := Start(ctx, cfg.Engine, progress)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	query := func(sql string) (string, error) {
		return ask(ctx, p.Addr(), cfg.Engine.User, cfg.Engine.Password, sql)
	}
	if _, err := query("RESTORE ALL FROM File('restore.tar')"); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	if err := os.Remove(copied); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	tables, err := query("SELECT database || '.' || name, total_rows FROM system.tables WHERE database NOT IN ('system', 'INFORMATION_SCHEMA', 'information_schema') AND total_rows IS NOT NULL ORDER BY 1")
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	list := []Restored{}
	for line := range strings.Lines(tables) {
		table, rows, _ := strings.Cut(strings.TrimSpace(line), "\t")
		list = append(list, Restored{Table: table, Rows: rows})
	}
	return list, nil
}

// ask sends one statement to an engine and returns its answer.
func ask(ctx context.Context, addr, user, password, sql string) (string, error) {
	if user == "" {
		user = defaultUser
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/", strings.NewReader(sql))
	if err != nil {
		return "", fmt.Errorf("address %q: want host:port", addr)
	}
	req.SetBasicAuth(user, password)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("reach the engine: %w", err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return "", fmt.Errorf("read the engine's answer: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return "", errors.New(strings.TrimSpace(string(text)))
	}
	return string(text), nil
}
