package parts

import (
	"archive/zip"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// unpackTree writes the archive's wanted folder below dir. Names come from the
// archive here, so each must be a plain name inside it, of a plain file.
func unpackTree(ctx context.Context, file string, a Archive, dir string) error {
	z, err := zip.OpenReader(file)
	if err != nil {
		return fmt.Errorf("read the zip: %w", err)
	}
	defer z.Close()
	var files int
	left := a.TreeSize
	for _, entry := range z.File {
		name, wanted := strings.CutPrefix(entry.Name, a.folder())
		if !wanted || entry.Mode().IsDir() {
			continue
		}
		if !inner(name) || !entry.Mode().IsRegular() {
			return fmt.Errorf("%q is no plain file inside %s", entry.Name, a.Tree)
		}
		if files++; files > a.TreeFiles {
			return fmt.Errorf("%s holds more than the pinned %d files", a.Tree, a.TreeFiles)
		}
		n, err := unpackEntry(ctx, entry, filepath.Join(dir, filepath.FromSlash(name)), left)
		if err != nil {
			return fmt.Errorf("unpack %s: %w", entry.Name, err)
		}
		if left -= n; left < 0 {
			return fmt.Errorf("%s is longer than the pinned %d bytes", a.Tree, a.TreeSize)
		}
	}
	if files != a.TreeFiles || left != 0 {
		return fmt.Errorf("%s has %d files of %d bytes, want %d of %d", a.Tree, files, a.TreeSize-left, a.TreeFiles, a.TreeSize)
	}
	return nil
}

// unpackEntry writes one file and returns its length, which is over most where
// there was more.
func unpackEntry(ctx context.Context, entry *zip.File, target string, most int64) (int64, error) {
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return 0, err
	}
	in, err := entry.Open()
	if err != nil {
		return 0, err
	}
	defer in.Close()
	mode := fs.FileMode(0o644)
	if entry.Mode()&0o100 != 0 {
		mode = 0o755
	}
	out, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	n, err := io.Copy(out, contextReader{ctx, io.LimitReader(in, most+1)})
	if err != nil {
		return n, err
	}
	// The marker vouches for these bytes, as in unpack.
	if err := out.Sync(); err != nil {
		return n, err
	}
	return n, out.Close()
}
