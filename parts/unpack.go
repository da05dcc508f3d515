package parts

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
)

// verify checks the archive against its pinned length and digest.
func verify(file, algorithm string, want []byte, size int64) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != size {
		return fmt.Errorf("it has %d bytes, want %d", info.Size(), size)
	}
	var h hash.Hash = sha256.New()
	if algorithm == "sha512" {
		h = sha512.New()
	}
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := h.Sum(nil); subtle.ConstantTimeCompare(got, want) != 1 {
		return fmt.Errorf("its %s is %s, want %s", algorithm, hex.EncodeToString(got), hex.EncodeToString(want))
	}
	return nil
}

// unpack writes the archive's wanted file to target. The name on disk never
// comes from the archive, so nothing in it can land anywhere else.
func unpack(ctx context.Context, file string, a Archive, target string, executable bool) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	mode := os.FileMode(0o644)
	if executable {
		mode = 0o755
	}
	out, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer out.Close()
	var head [4]byte
	if _, err := io.ReadFull(f, head[:]); err != nil {
		return fmt.Errorf("read the archive: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	switch {
	case bytes.HasPrefix(head[:], []byte("PK\x03\x04")):
		err = fromZip(ctx, f, a, out)
	case bytes.HasPrefix(head[:], []byte{0x1f, 0x8b}):
		err = fromTarball(ctx, f, a, out)
	default:
		err = errors.New("the archive is neither a zip nor a gzipped tar")
	}
	if err != nil {
		return err
	}
	// The marker vouches for these bytes: they must be on disk before it is.
	if err := out.Sync(); err != nil {
		return err
	}
	return out.Close()
}

func fromZip(ctx context.Context, f *os.File, a Archive, out io.Writer) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	z, err := zip.NewReader(f, info.Size())
	if err != nil {
		return fmt.Errorf("read the zip: %w", err)
	}
	var wanted *zip.File
	for _, entry := range z.File {
		if entry.Name != a.File {
			continue
		}
		if wanted != nil {
			return fmt.Errorf("%s is in the archive twice", a.File)
		}
		if !entry.Mode().IsRegular() {
			return fmt.Errorf("%s is not a plain file in the archive", a.File)
		}
		wanted = entry
	}
	if wanted == nil {
		return fmt.Errorf("%s is not in the archive", a.File)
	}
	r, err := wanted.Open()
	if err != nil {
		return fmt.Errorf("read %s: %w", a.File, err)
	}
	defer r.Close()
	return copyExactly(ctx, out, r, a)
}

func fromTarball(ctx context.Context, f io.Reader, a Archive, out io.Writer) error {
	gz, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("read the tarball: %w", err)
	}
	defer gz.Close()
	// Entries before the wanted one are skipped by unpacking them: the bound
	// keeps an endless one from being unpacked for ever.
	t := tar.NewReader(io.LimitReader(gz, a.FileSize+(256<<20)))
	for {
		entry, err := t.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s is not in the archive", a.File)
		}
		if err != nil {
			return fmt.Errorf("read the tarball: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if entry.Name != a.File {
			continue
		}
		if entry.Typeflag != tar.TypeReg {
			return fmt.Errorf("%s is not a plain file in the archive", a.File)
		}
		return copyExactly(ctx, out, t, a)
	}
}

// copyExactly copies the pinned number of bytes, and fails on fewer or more.
func copyExactly(ctx context.Context, out io.Writer, in io.Reader, a Archive) error {
	n, err := io.Copy(out, contextReader{ctx, io.LimitReader(in, a.FileSize+1)})
	if err != nil {
		return fmt.Errorf("unpack %s: %w", a.File, err)
	}
	if n > a.FileSize {
		return fmt.Errorf("%s is longer than the pinned %d bytes", a.File, a.FileSize)
	}
	if n < a.FileSize {
		return fmt.Errorf("%s has %d bytes, want %d", a.File, n, a.FileSize)
	}
	return nil
}

// contextReader ends a long copy soon after its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
