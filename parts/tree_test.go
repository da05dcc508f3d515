package parts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const tool = "#!/bin/sh\ncat \"$(dirname \"$0\")/../share/said\"\n"

// treeWorld has an archive whose folder toy/inst is wanted, of two files.
func treeWorld(t *testing.T, entries ...entry) *world {
	w := newWorld(t, Pip, zipOf(t, entries...))
	w.change(func(a *Archive) {
		a.Tree, a.File, a.FileSize = "toy/inst", "toy/inst/bin/toy", int64(len(tool))
		a.TreeFiles, a.TreeSize = 2, int64(len(tool)+len("hello\n"))
	})
	return w
}

func TestTree(t *testing.T) {
	w := treeWorld(t, entry{name: "toy/inst/bin/toy", body: tool}, entry{name: "toy/inst/share/said", body: "hello\n"}, entry{name: "toy/other", body: "x"}, entry{name: "toy/inst2/x", body: "y"})
	for range 2 {
		file, err := w.get()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != tool || !strings.HasSuffix(file, "/bin/toy") {
			t.Errorf("%s: %q %v", file, got, err)
		}
		top := filepath.Dir(filepath.Dir(file))
		if got, err := os.ReadFile(filepath.Join(top, "share", "said")); err != nil || string(got) != "hello\n" {
			t.Errorf("%q %v", got, err)
		}
		if entries, err := os.ReadDir(top); err != nil || len(entries) != 2 {
			t.Errorf("more was unpacked than the folder: %v %v", entries, err)
		}
	}
	if n := w.runs(); n != 1 {
		t.Errorf("fetched %d times", n)
	}
}

func TestWholeTree(t *testing.T) {
	w := treeWorld(t, entry{name: "toy/inst/bin/toy", body: tool}, entry{name: "share/said", body: "hello\n"})
	w.change(func(a *Archive) { a.Tree = "." })
	file, err := w.get()
	if err != nil {
		t.Fatal(err)
	}
	top, all := strings.CutSuffix(file, "/toy/inst/bin/toy")
	if got, err := os.ReadFile(filepath.Join(top, "share", "said")); !all || err != nil || string(got) != "hello\n" {
		t.Errorf("%s: %q %v", file, got, err)
	}
}

func TestHostileTrees(t *testing.T) {
	bin, said := entry{name: "toy/inst/bin/toy", body: tool}, entry{name: "toy/inst/share/said", body: "hello\n"}
	for name, c := range map[string]struct {
		entries []entry
		change  func(*Archive)
		want    string
	}{
		"climbs out":       {entries: []entry{bin, {name: "toy/inst/../../../said", body: "hello\n"}}, want: "no plain file inside"},
		"absolute":         {entries: []entry{bin, {name: "toy/inst//etc/said", body: "hello\n"}}, want: "no plain file inside"},
		"backslash":        {entries: []entry{bin, {name: `toy/inst/..\said`, body: "hello\n"}}, want: "no plain file inside"},
		"link":             {entries: []entry{bin, {name: "toy/inst/share/said", body: "/etc/passwd", link: true}}, want: "no plain file inside"},
		"twice":            {entries: []entry{bin, bin}, want: "file exists"},
		"a file too many":  {entries: []entry{bin, said, {name: "toy/inst/x"}}, want: "more than the pinned 2 files"},
		"a file too few":   {entries: []entry{bin}, want: "want 2 of"},
		"longer":           {entries: []entry{bin, {name: "toy/inst/share/said", body: strings.Repeat("\x00", 8<<20)}}, want: "longer than the pinned"},
		"shorter":          {entries: []entry{bin, {name: "toy/inst/share/said", body: "hell\n"}}, want: "want 2 of"},
		"a folder's name":  {entries: []entry{{name: "toy/inst/bin", body: "hello\n"}, bin}, want: "not a directory"},
		"no file in it":    {entries: []entry{bin, said}, change: func(a *Archive) { a.File = "toy/other/toy" }, want: "bad folder"},
		"pin climbs out":   {entries: []entry{bin, said}, change: func(a *Archive) { a.Tree, a.File = "../toy", "../toy/toy" }, want: "bad path"},
		"sizes not pinned": {entries: []entry{bin, said}, change: func(a *Archive) { a.TreeFiles = 0 }, want: "must be pinned"},
	} {
		t.Run(name, func(t *testing.T) {
			w := treeWorld(t, c.entries...)
			if c.change != nil {
				w.change(c.change)
			}
			w.mustFail(c.want)
			if found, _ := filepath.Glob(filepath.Join(w.dir, "said*")); len(found) != 0 {
				t.Errorf("escaped the cache: %v", found)
			}
		})
	}
}

func FuzzUnpackTree(f *testing.F) {
	f.Add([]byte("PK\x03\x04"))
	f.Add([]byte("PK\x05\x06\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, archive []byte) {
		dir := t.TempDir()
		file := filepath.Join(dir, "archive")
		if err := os.WriteFile(file, archive, 0o600); err != nil {
			t.Fatal(err)
		}
		into := filepath.Join(dir, "in", "out")
		if err := os.MkdirAll(into, 0o700); err != nil {
			t.Fatal(err)
		}
		_ = unpackTree(t.Context(), file, Archive{Tree: "toy", TreeFiles: 3, TreeSize: 100}, into)
		if entries, err := os.ReadDir(filepath.Join(dir, "in")); err != nil || len(entries) != 1 {
			t.Errorf("escaped: %v %v", entries, err)
		}
	})
}
