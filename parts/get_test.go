package parts

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeClient stands in for python3 and npm: it does what FAKE_MODE says and
// counts its runs, so a test sees what the room asked of it.
const fakeClient = `#!/bin/sh
echo run >> "$FAKE_RUNS"
echo "$@" >> "$FAKE_ARGS"
prev=; dest=
for a in "$@"; do
  case "$prev" in --dest|--pack-destination) dest="$a";; esac
  prev="$a"
done
case "$FAKE_MODE" in
  fail)
    echo "Looking in indexes: https://user:s3cret@mirror.corp.example.com/simple" >&2
    echo "HTTPSConnectionPool(host='index.example.org', port=443): refused" >&2
    echo "getaddrinfo ENOTFOUND registry.example.org" >&2
    echo "ERROR: no matching distribution found" >&2
    exit 1;;
  hang)
    head -c 10 "$FAKE_ARCHIVE" > "$dest/archive"
    echo up > "$FAKE_RUNS.hangs"
    while kill -0 $PPID 2>/dev/null; do sleep 0.02; done
    exit 1;;
  nothing) exit 0;;
esac
cp "$FAKE_ARCHIVE" "$dest/archive"
`

// world is one test's cache, fake clients and archive.
type world struct {
	t    *testing.T
	dir  string
	part Part
}

func newWorld(t *testing.T, client Client, archive []byte) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	for _, name := range []string{"python3", "npm"} {
		w.write("bin/"+name, []byte(fakeClient), 0o755)
	}
	w.write("archive", archive, 0o644)
	t.Setenv("PATH", filepath.Join(w.dir, "bin")+":/usr/bin:/bin")
	t.Setenv("CALLGATE_CACHE", filepath.Join(w.dir, "cache"))
	t.Setenv("FAKE_ARCHIVE", filepath.Join(w.dir, "archive"))
	t.Setenv("FAKE_RUNS", filepath.Join(w.dir, "runs"))
	t.Setenv("FAKE_ARGS", filepath.Join(w.dir, "args"))
	t.Setenv("FAKE_MODE", "")
	t.Setenv("CALLGATE_TOY", "")
	a := Archive{Package: "toy==1.0", Tags: []string{"manylinux_2_31_x86_64"}, Size: int64(len(archive)), File: "toy/bin/toy", FileSize: int64(len(toy))}
	if client == NPM {
		sum := sha512.Sum512(archive)
		a.Package, a.Tags, a.Integrity = "@toy/toy@1.0", nil, "sha512-"+base64.StdEncoding.EncodeToString(sum[:])
	} else {
		sum := sha256.Sum256(archive)
		a.SHA256 = hex.EncodeToString(sum[:])
	}
	w.part = Part{Name: "toy", Version: "1.0", Client: client, Env: "CALLGATE_TOY", Executable: true,
		Archives: map[string]Archive{runtime.GOOS + "/" + runtime.GOARCH: a}}
	return w
}

func (w *world) write(name string, data []byte, mode os.FileMode) {
	w.t.Helper()
	file := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(file, data, mode); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) runs() int {
	raw, err := os.ReadFile(filepath.Join(w.dir, "runs"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	return bytes.Count(raw, []byte("\n"))
}

// change edits the pinned archive of the platform the test runs on.
func (w *world) change(edit func(*Archive)) {
	key := runtime.GOOS + "/" + runtime.GOARCH
	a := w.part.Archives[key]
	edit(&a)
	w.part.Archives[key] = a
}

func (w *world) get() (string, error) { return Get(w.t.Context(), w.part, nil) }

func (w *world) mustGet() string {
	w.t.Helper()
	file, err := w.get()
	if err != nil {
		w.t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	if string(got) != toy {
		w.t.Fatalf("%s holds %q, want %q", file, got, toy)
	}
	return file
}

func (w *world) mustFail(wants ...string) error {
	w.t.Helper()
	file, err := w.get()
	if err == nil {
		w.t.Fatalf("got %s, want an error", file)
	}
	for _, want := range wants {
		if !strings.Contains(err.Error(), want) {
			w.t.Errorf("error lacks %q:\n%v", want, err)
		}
	}
	// Whatever failed, nothing may be left that a later Get would take.
	filepath.WalkDir(filepath.Join(w.dir, "cache"), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasSuffix(path, ".lock") {
			w.t.Errorf("left behind: %s", path)
		}
		return nil
	})
	return err
}

const toy = "#!/bin/sh\necho toy\n"

type entry struct {
	name, body string
	link       bool
}

func zipOf(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		h.SetMode(0o644)
		if e.link {
			h.SetMode(0o777 | os.ModeSymlink)
		}
		f, err := z.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(e.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func tarballOf(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	w := tar.NewWriter(gz)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.body)), Typeflag: tar.TypeReg}
		if e.link {
			h.Typeflag, h.Linkname, h.Size, e.body = tar.TypeSymlink, e.body, 0, ""
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestFetchesOnceThenFromCache(t *testing.T) {
	for client, archive := range map[Client][]byte{
		Pip: zipOf(t, entry{name: "toy/__init__.py"}, entry{name: "toy/bin/toy", body: toy}),
		NPM: tarballOf(t, entry{name: "package.json", body: "{}"}, entry{name: "toy/bin/toy", body: toy}),
	} {
		t.Run(string(client), func(t *testing.T) {
			w := newWorld(t, client, archive)
			var lines []string
			file, err := Get(t.Context(), w.part, func(line string) { lines = append(lines, line) })
			if err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(file).Output(); err != nil || string(out) != "toy\n" {
				t.Errorf("running it: %q, %v", out, err)
			}
			if said := strings.Join(lines, "\n"); !strings.Contains(said, "fetching toy 1.0") || !strings.Contains(said, "unpacking toy 1.0") {
				t.Errorf("progress was %q", said)
			}
			if again := w.mustGet(); again != file || w.runs() != 1 {
				t.Errorf("second Get: %s after %d runs, want %s after 1", again, w.runs(), file)
			}
			args, err := os.ReadFile(filepath.Join(w.dir, "args"))
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range map[Client][]string{
				Pip: {"-m pip download", "--no-deps", "--only-binary=:all:", "--platform manylinux_2_31_x86_64", "toy==1.0"},
				NPM: {"pack", "--ignore-scripts", "@toy/toy@1.0"},
			}[client] {
				if !strings.Contains(string(args), want) {
					t.Errorf("the client was called with %q, without %q", args, want)
				}
			}
		})
	}
}

func TestDamagedCacheIsFetchedAgain(t *testing.T) {
	for name, damage := range map[string]func(file string) error{
		"shorter":     func(f string) error { return os.Truncate(f, 3) },
		"same length": func(f string) error { return os.WriteFile(f, []byte(strings.ToUpper(toy)), 0o755) },
		"no marker":   func(f string) error { return os.Remove(f + ".json") },
		"bad marker":  func(f string) error { return os.WriteFile(f+".json", []byte("{"), 0o644) },
		"a link": func(f string) error {
			if err := os.Rename(f, f+".old"); err != nil {
				return err
			}
			return os.Symlink(f+".old", f)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Pip, zipOf(t, entry{name: "toy/bin/toy", body: toy}))
			file := w.mustGet()
			if err := damage(file); err != nil {
				t.Fatal(err)
			}
			w.mustGet()
			if w.runs() != 2 {
				t.Errorf("the client ran %d times, want 2", w.runs())
			}
		})
	}
}

func TestOverride(t *testing.T) {
	w := newWorld(t, Pip, zipOf(t, entry{name: "toy/bin/toy", body: toy}))
	mine := filepath.Join(w.dir, "mine")
	t.Setenv("CALLGATE_TOY", mine)
	w.mustFail("CALLGATE_TOY", mine, "there is no file", "unset it")
	w.write("mine", []byte(toy), 0o644)
	w.mustFail("CALLGATE_TOY", "chmod +x")
	if err := os.Chmod(mine, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := w.mustGet(); got != mine {
		t.Errorf("got %s, want %s", got, mine)
	}
	t.Setenv("CALLGATE_TOY", w.dir)
	w.mustFail("is not a file")
	if w.runs() != 0 {
		t.Error("the client ran although a file was supplied")
	}
}

func TestWrongArchiveIsRefused(t *testing.T) {
	good := zipOf(t, entry{name: "toy/bin/toy", body: toy})
	t.Run("digest", func(t *testing.T) {
		w := newWorld(t, Pip, good)
		evil := bytes.Clone(good)
		evil[len(evil)-1] ^= 1
		w.write("archive", evil, 0o644)
		w.mustFail("toy==1.0", "pip", "is not the pinned one", "sha256", "nothing of it was used", "CALLGATE_TOY=")
	})
	t.Run("integrity", func(t *testing.T) {
		w := newWorld(t, NPM, tarballOf(t, entry{name: "toy/bin/toy", body: toy}))
		w.change(func(a *Archive) {
			sum := sha512.Sum512([]byte("another"))
			a.Integrity = "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
		})
		w.mustFail("@toy/toy@1.0", "npm", "is not the pinned one", "sha512")
	})
	t.Run("length", func(t *testing.T) {
		w := newWorld(t, Pip, good)
		w.write("archive", append(bytes.Clone(good), 0), 0o644)
		w.mustFail(fmt.Sprintf("it has %d bytes, want %d", len(good)+1, len(good)))
	})
}

// Even an archive whose digest was pinned may only give its one plain file of
// the pinned length.
func TestHostileArchives(t *testing.T) {
	for name, c := range map[string]struct {
		client  Client
		archive []byte
		file    string
		want    string
	}{
		"zip slip in the pin":   {client: Pip, archive: zipOf(t, entry{name: "../../toy", body: toy}), file: "../../toy", want: "bad path"},
		"absolute pin":          {client: Pip, archive: zipOf(t, entry{name: "/etc/toy", body: toy}), file: "/etc/toy", want: "bad path"},
		"only a climbing entry": {client: Pip, archive: zipOf(t, entry{name: "../toy/bin/toy", body: toy}), want: "is not in the archive"},
		"zip link":              {client: Pip, archive: zipOf(t, entry{name: "toy/bin/toy", body: "/etc/passwd", link: true}), want: "not a plain file"},
		"zip twice":             {client: Pip, archive: zipOf(t, entry{name: "toy/bin/toy", body: toy}, entry{name: "toy/bin/toy", body: toy}), want: "twice"},
		"zip longer":            {client: Pip, archive: zipOf(t, entry{name: "toy/bin/toy", body: toy + "x"}), want: "longer than the pinned"},
		"zip shorter":           {client: Pip, archive: zipOf(t, entry{name: "toy/bin/toy", body: toy[1:]}), want: "bytes, want"},
		"tar climbing":          {client: NPM, archive: tarballOf(t, entry{name: "../../toy/bin/toy", body: toy}), want: "is not in the archive"},
		"tar link":              {client: NPM, archive: tarballOf(t, entry{name: "toy/bin/toy", body: "/etc/passwd", link: true}), want: "not a plain file"},
		"tar bomb":              {client: NPM, archive: tarballOf(t, entry{name: "toy/bin/toy", body: strings.Repeat("\x00", 8<<20)}), want: "longer than the pinned"},
		"neither":               {client: NPM, archive: []byte("hello, this is not an archive"), want: "neither a zip nor a gzipped tar"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.client, c.archive)
			if c.file != "" {
				w.change(func(a *Archive) { a.File = c.file })
			}
			w.mustFail(c.want)
			if found, _ := filepath.Glob(filepath.Join(w.dir, "toy*")); len(found) != 0 {
				t.Errorf("escaped the cache: %v", found)
			}
		})
	}
}

func TestClientTroubles(t *testing.T) {
	good := zipOf(t, entry{name: "toy/bin/toy", body: toy})
	t.Run("fails", func(t *testing.T) {
		w := newWorld(t, Pip, good)
		t.Setenv("FAKE_MODE", "fail")
		err := w.mustFail("get toy 1.0", "pip", "toy==1.0", "no matching distribution found", "CALLGATE_TOY=")
		for _, secret := range []string{"s3cret", "user:", "example.com", "example.org"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("error gives away %q:\n%v", secret, err)
			}
		}
	})
	t.Run("brings nothing", func(t *testing.T) {
		w := newWorld(t, NPM, good)
		t.Setenv("FAKE_MODE", "nothing")
		w.mustFail("npm brought 0 files")
	})
	t.Run("missing", func(t *testing.T) {
		for client, want := range map[Client]string{Pip: "python3 with pip is not on PATH", NPM: "npm is not on PATH"} {
			w := newWorld(t, client, good)
			t.Setenv("PATH", t.TempDir())
			w.mustFail(want, "install it", "CALLGATE_TOY=")
		}
	})
	t.Run("no such platform", func(t *testing.T) {
		w := newWorld(t, Pip, good)
		w.part.Archives = map[string]Archive{"plan9/mips": w.part.Archives[runtime.GOOS+"/"+runtime.GOARCH]}
		w.mustFail("has no package for "+runtime.GOOS, "only for plan9/mips", "CALLGATE_TOY=")
	})
	t.Run("cancelled", func(t *testing.T) {
		w := newWorld(t, Pip, good)
		t.Setenv("FAKE_MODE", "hang")
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			w.waitFor("runs.hangs")
			cancel()
		}()
		if _, err := Get(ctx, w.part, nil); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, want context.Canceled", err)
		}
	})
}

func TestCacheOpenToEverybodyIsRefused(t *testing.T) {
	w := newWorld(t, Pip, zipOf(t, entry{name: "toy/bin/toy", body: toy}))
	cache := filepath.Join(w.dir, "cache")
	if err := os.Mkdir(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(cache, 0o777); err != nil {
		t.Fatal(err)
	}
	w.mustFail("can be written by every user", "CALLGATE_CACHE")
}

func TestManyAtOnceFetchOnce(t *testing.T) {
	w := newWorld(t, Pip, zipOf(t, entry{name: "toy/bin/toy", body: toy}))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := Get(t.Context(), w.part, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if w.runs() != 1 {
		t.Errorf("the client ran %d times, want once", w.runs())
	}
}

// A process killed while it fetches must neither leave half a part nor keep
// the others waiting.
func TestKilledInTheMiddle(t *testing.T) {
	w := newWorld(t, Pip, zipOf(t, entry{name: "toy/bin/toy", body: toy}))
	if os.Getenv("PARTS_CHILD") != "" {
		w.part.Archives[runtime.GOOS+"/"+runtime.GOARCH] = Archive{Package: "toy==1.0",
			SHA256: os.Getenv("PARTS_SHA"), Size: 1, File: "toy/bin/toy", FileSize: int64(len(toy))}
		dir := os.Getenv("PARTS_CHILD")
		t.Setenv("CALLGATE_CACHE", filepath.Join(dir, "cache"))
		t.Setenv("FAKE_ARCHIVE", filepath.Join(dir, "archive"))
		t.Setenv("FAKE_RUNS", filepath.Join(dir, "runs"))
		t.Setenv("FAKE_ARGS", filepath.Join(dir, "args"))
		t.Setenv("FAKE_MODE", "hang")
		w.get()
		return
	}
	child := exec.Command(os.Args[0], "-test.run=^TestKilledInTheMiddle$")
	child.Env = append(os.Environ(), "PARTS_CHILD="+w.dir,
		"PARTS_SHA="+w.part.Archives[runtime.GOOS+"/"+runtime.GOARCH].SHA256)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	w.waitFor("runs.hangs")
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	child.Wait()
	if left, _ := filepath.Glob(filepath.Join(w.dir, "cache", "*.part-*")); len(left) == 0 {
		t.Fatal("the killed process left nothing behind: the test does not test what it says")
	}
	w.mustGet()
	if left, _ := filepath.Glob(filepath.Join(w.dir, "cache", "*.part-*")); len(left) != 0 {
		t.Errorf("not cleared away: %v", left)
	}
}

// waitFor returns once a file exists; the test's own time-out bounds it.
func (w *world) waitFor(name string) {
	for w.t.Context().Err() == nil {
		if _, err := os.Stat(filepath.Join(w.dir, name)); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func FuzzWithoutAddresses(f *testing.F) {
	f.Add("see https://user:s3cret@host/simple for more")
	f.Add("//u:p@h")
	f.Add("HTTPSConnectionPool(host='a.b', port=443)")
	f.Fuzz(func(t *testing.T, line string) {
		if out := withoutAddresses(line + " https://user:zzsecretzz@host.example/path"); strings.Contains(out, "zzsecretzz") {
			t.Errorf("%q leaves the password: %q", line, out)
		}
	})
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte("PK\x03\x04"))
	f.Add([]byte{0x1f, 0x8b, 8, 0})
	f.Fuzz(func(t *testing.T, archive []byte) {
		dir := t.TempDir()
		file := filepath.Join(dir, "archive")
		if err := os.WriteFile(file, archive, 0o600); err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(dir, "out")
		a := Archive{File: "toy", FileSize: 4}
		if unpack(t.Context(), file, a, target, false) == nil {
			if info, err := os.Stat(target); err != nil || info.Size() != a.FileSize {
				t.Errorf("unpacked without an error, but: %v, %v", info, err)
			}
		}
	})
}
