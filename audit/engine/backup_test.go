//go:build linux

package engine

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A backup of a running engine is whole up to some insert, and restores to an
// engine that answers the same; one that is not as it was made is refused.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	s := run(t, filepath.Join(t.TempDir(), "data"))
	c := s.client()
	s.exec(c, "CREATE DATABASE trail")
	s.exec(c, "CREATE TABLE trail.t (n UInt64, s String) ENGINE MergeTree ORDER BY n")
	s.exec(c, "CREATE VIEW trail.v AS SELECT count() AS rows FROM trail.t")
	s.exec(c, "INSERT INTO trail.t SELECT number, toString(number) FROM numbers(1000)")

	stop, inserted := make(chan struct{}), 1000
	var wg sync.WaitGroup
	wg.Go(func() {
		for at := 1000; ; at += 1000 {
			select {
			case <-stop:
				return
			default:
			}
			if a := s.post("INSERT INTO trail.t SELECT number, toString(number) FROM numbers(" + strconv.Itoa(at) + ", 1000)"); a.status != 200 {
				t.Errorf("insert: %s", a.body)
				return
			}
			inserted = at + 1000
		}
	})
	to := filepath.Join(t.TempDir(), "b.tar")
	cfg := BackupConfig{Path: s.path, Addr: s.Addr(), Password: password, Database: "trail", To: to}
	err := Backup(t.Context(), cfg)
	close(stop)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if err := Backup(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "there already") {
		t.Errorf("a second time: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(s.path, "callgate-backups")); err != nil || len(left) > 0 {
		t.Errorf("copies are left: %v, %v", left, err)
	}
	bad := cfg
	bad.To, bad.Password = to+".2", "wrong"
	if err := Backup(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "516") {
		t.Errorf("with a wrong password: %v", err)
	}

	restore := func(from, path string) ([]Restored, error) {
		return Restore(t.Context(), RestoreConfig{From: from, Engine: ProcessConfig{Config: Config{Path: path, MaxMemory: 512 << 20},
			Env: []string{childEnv + "=engine"}, Stderr: &buffer{}}}, func(line string) { t.Log(line) })
	}
	path := filepath.Join(t.TempDir(), "new")
	list, err := restore(to, path)
	if err != nil {
		t.Fatal(err)
	}
	r := run(t, path)
	rows := r.count(r.client(), "SELECT count() FROM trail.t")
	if rows < 1000 || rows > uint64(inserted) || rows%1000 != 0 || len(list) != 1 || list[0].Rows != strconv.FormatUint(rows, 10) {
		t.Errorf("restored %d rows of up to %d, told %v", rows, inserted, list)
	}
	if n := r.count(r.client(), "SELECT rows FROM trail.v"); n != rows {
		t.Errorf("the view tells %d", n)
	}
	if n := r.count(r.client(), "SELECT max(n) + 1 FROM trail.t"); n != rows {
		t.Errorf("%d rows up to %d", rows, n)
	}

	data, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := os.ReadFile(to + sumSuffix)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(data)
	flipped[len(flipped)/2] ^= 1
	for name, edit := range map[string]struct {
		data, sum []byte
		want      string
	}{
		"cut short":    {data[:len(data)/2], sum, "damaged"},
		"a bit":        {flipped, sum, "damaged"},
		"no sum":       {data, nil, sumSuffix},
		"another sum":  {data, []byte("abc\n"), "damaged"},
		"not a backup": {[]byte("x"), []byte("2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881  b.tar\n"), "restore"},
	} {
		from := filepath.Join(t.TempDir(), "b.tar")
		if err := os.WriteFile(from, edit.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if edit.sum != nil {
			if err := os.WriteFile(from+sumSuffix, edit.sum, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(t.TempDir(), "new")
		if _, err := restore(from, path); err == nil || !strings.Contains(err.Error(), edit.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: something is left", name)
		}
	}
	if _, err := restore(to, s.path); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("over other data: %v", err)
	}

	// SQL reaches nothing but the engine's own directory.
	for _, sql := range []string{
		"BACKUP DATABASE trail TO File('../x.tar')", "BACKUP DATABASE trail TO File('/tmp/x.tar')", "BACKUP DATABASE trail TO File('x.zip')",
		"BACKUP DATABASE trail TO S3('http://127.0.0.1:1/b/x.tar', 'a', 'b')", "BACKUP ALL TO Disk('default', 'x.tar')",
		"BACKUP DATABASE trail TO File('x.tar') SETTINGS base_backup = S3('http://127.0.0.1:1/b', 'a', 'b')", "/**/BACKUP DATABASE trail TO File('x.tar')",
		"RESTORE DATABASE trail FROM URL('http://127.0.0.1:1/x.tar')", "BACKUP DATABASE trail TO File('x.tar'); SELECT 1",
	} {
		if a := s.post(sql); a.status == 200 {
			t.Errorf("%s: %s", sql, a.body)
		}
	}
}
