package parts

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// cacheEnv moves the cache; without it, it is a directory "callgate" in the
// user's cache directory.
const cacheEnv = "CALLGATE_CACHE"

// Get returns the absolute path of the part's file on this machine. It takes
// the file that the part's environment variable names, else the one in the
// cache, else fetches it; fetching is done by one process at a time, and the
// others then find it in the cache.
//
// progress, if not nil, is called with a line for people whenever something is
// begun or goes on that may take over two seconds; it is called from the
// calling goroutine and from one other, never by both at once.
//
// An error says what was wanted, from which package, with which client, and
// how to supply the file by hand.
func Get(ctx context.Context, part Part, progress func(line string)) (string, error) {
	if given := os.Getenv(part.Env); part.Env != "" && given != "" {
		file, err := supplied(part, given)
		if err != nil {
			return "", fmt.Errorf("use %s from %s: %w", part.Name, part.Env, err)
		}
		return file, nil
	}
	if progress == nil {
		progress = func(string) {}
	}
	file, err := get(ctx, part, runtime.GOOS+"/"+runtime.GOARCH, progress)
	if err != nil {
		return "", fmt.Errorf("get %s %s: %w", part.Name, part.Version, err)
	}
	return file, nil
}

// supplied checks a file that somebody named, as far as one can without
// knowing what it should be.
func supplied(part Part, given string) (string, error) {
	file, err := filepath.Abs(given)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("there is no file %s: correct the variable or unset it", file)
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is not a file: correct the variable or unset it", file)
	case part.Executable && info.Mode()&0o111 == 0:
		return "", fmt.Errorf("%s can't be run: chmod +x it", file)
	}
	return file, nil
}

func get(ctx context.Context, part Part, platform string, progress func(string)) (string, error) {
	archive, err := part.archive(platform)
	if err != nil {
		return "", err
	}
	algorithm, sum, err := archive.digest()
	if err != nil {
		return "", err
	}
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	// The digest is part of the name: a new pin is a new directory, and an old
	// binary that still runs keeps its own.
	dir := filepath.Join(cache, fmt.Sprintf("%s-%s-%s-%s", part.Name, part.Version,
		strings.ReplaceAll(platform, "/", "-"), hex.EncodeToString(sum[:6])))
	c := cached{
		file: filepath.Join(dir, filepath.FromSlash(archive.inside())),
		want: marker{Digest: algorithm + ":" + hex.EncodeToString(sum), Size: archive.FileSize},
	}
	if c.valid() {
		return c.file, nil
	}

	lock := flock.New(dir+".lock", flock.SetPermissions(0o600))
	if err := acquire(ctx, lock, part, progress); err != nil {
		return "", err
	}
	defer lock.Unlock()
	if c.valid() { // another process fetched it meanwhile
		return c.file, nil
	}
	// What lies here now is a half-done job of a process that died, or was
	// damaged since: under the lock nobody else can be using it.
	if err := os.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("clear the cache: %w", err)
	}
	leftovers, err := filepath.Glob(dir + ".part-*")
	if err != nil {
		return "", fmt.Errorf("clear the cache: %w", err)
	}
	for _, left := range leftovers {
		if err := os.RemoveAll(left); err != nil {
			return "", fmt.Errorf("clear the cache: %w", err)
		}
	}
	// A name of its own: the client of a killed process may still be writing.
	work, err := os.MkdirTemp(filepath.Dir(dir), filepath.Base(dir)+".part-")
	if err != nil {
		return "", fmt.Errorf("prepare the cache: %w", err)
	}
	defer os.RemoveAll(work)

	fetched, err := download(ctx, part, archive, work, progress)
	if err != nil {
		return "", err
	}
	if err := verify(fetched, algorithm, sum, archive.Size); err != nil {
		return "", fmt.Errorf("the archive of package %s that %s fetched is not the pinned one: %w; nothing of it was used. Check the client's index or mirror, or supply the file by hand, %s",
			archive.Package, part.Client, err, part.byHand())
	}
	ready := filepath.Join(work, "ready")
	if err := os.Mkdir(ready, 0o755); err != nil {
		return "", fmt.Errorf("prepare the cache: %w", err)
	}
	target := filepath.Join(ready, filepath.FromSlash(archive.inside()))
	stop := beat(progress, fmt.Sprintf("unpacking %s %s (%s)", part.Name, part.Version, megabytes(max(archive.FileSize, archive.TreeSize))))
	if archive.Tree != "" {
		err = unpackTree(ctx, fetched, archive, ready)
	} else {
		err = unpack(ctx, fetched, archive, target, part.Executable)
	}
	stop()
	if err != nil {
		return "", fmt.Errorf("unpack %s: %w", archive.Package, err)
	}
	if err := c.mark(target); err != nil {
		return "", err
	}
	// The rename is what makes the part exist: whole, or not at all.
	if err := os.Rename(ready, dir); err != nil {
		return "", fmt.Errorf("move into the cache: %w", err)
	}
	return c.file, nil
}

// cacheDir returns the cache's directory, made if need be. It must belong to
// nobody else: what is in it gets executed.
func cacheDir() (string, error) {
	dir := os.Getenv(cacheEnv)
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find the cache directory: %w: set %s", err, cacheEnv)
		}
		dir = filepath.Join(user, "callgate")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the cache directory: %w: set %s to a directory that can be written", err, cacheEnv)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return "", fmt.Errorf("look at the cache directory: %w", err)
	}
	if info.Mode().Perm()&0o002 != 0 {
		return "", fmt.Errorf("the cache directory %s can be written by every user of this machine, and what is in it gets executed: chmod o-w it, or set %s to another directory", dir, cacheEnv)
	}
	return dir, nil
}

// marker lies beside a cached file and says what it was unpacked from. The
// time is the file's own: a file that was touched since is not trusted.
type marker struct {
	Digest   string `json:"archive"`
	Size     int64  `json:"size"`
	Modified int64  `json:"modified_unix_ns"`
}

type cached struct {
	file string
	want marker
}

func (c cached) valid() bool {
	raw, err := os.ReadFile(c.file + ".json")
	if err != nil {
		return false
	}
	var m marker
	if json.Unmarshal(raw, &m) != nil || m.Digest != c.want.Digest {
		return false
	}
	info, err := os.Lstat(c.file)
	return err == nil && info.Mode().IsRegular() &&
		info.Size() == c.want.Size && m.Size == c.want.Size &&
		info.ModTime().UnixNano() == m.Modified
}

// mark writes the marker for a freshly unpacked file.
func (c cached) mark(file string) error {
	info, err := os.Lstat(file)
	if err != nil {
		return fmt.Errorf("look at the unpacked file: %w", err)
	}
	m := c.want
	m.Modified = info.ModTime().UnixNano()
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".json", raw, 0o644); err != nil {
		return fmt.Errorf("mark the unpacked file: %w", err)
	}
	return nil
}

// acquire waits for the part's lock; a process that dies releases it.
func acquire(ctx context.Context, lock *flock.Flock, part Part, progress func(string)) error {
	ok, err := lock.TryLock()
	if err == nil && !ok {
		stop := beat(progress, fmt.Sprintf("waiting for another process that is fetching %s %s", part.Name, part.Version))
		_, err = lock.TryLockContext(ctx, 50*time.Millisecond)
		stop()
	}
	if err != nil {
		return fmt.Errorf("lock the cache: %w", err)
	}
	return nil
}

// beat says a line now and again every five seconds until it is stopped.
func beat(progress func(string), line string) (stop func()) {
	progress(line)
	begun := time.Now()
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				progress(fmt.Sprintf("%s, %d s so far", line, int(time.Since(begun).Seconds())))
			}
		}
	}()
	return func() { close(quit); <-done }
}

func megabytes(n int64) string {
	if n < 1e6 {
		return fmt.Sprintf("%d kB", (n+999)/1000)
	}
	return fmt.Sprintf("%d MB", (n+999_999)/1_000_000)
}
