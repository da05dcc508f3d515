package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Bundle is a policy as files, complete in itself: it can be kept, sent to
// another machine and read there to the same effect. It holds no secret; those
// are read where the policy runs.
type Bundle struct {
	Files      []File      // YAML, in the order they are read
	References []Reference // the other files that they name
}

// File is one file of a bundle.
type File struct {
	Name    string `json:"name"` // as errors show it
	Content []byte `json:"content"`
}

// Reference is a file that a policy file names.
type Reference struct {
	File    string `json:"file"` // the policy file
	Path    string `json:"path"` // as written there
	Content []byte `json:"content"`
}

// policyKeys are the settings of a configuration file that are policy.
var policyKeys = []string{"connections", "rules", "grants", "detectors"}

// LoadBundle collects the policy that [LoadPolicy] reads from the same place.
// Nothing is returned unless all of it is valid.
func LoadBundle(file, dir string) (Bundle, Policy, error) {
	paths := []string{file}
	if dir != "" {
		more, err := policyFiles(dir)
		if err != nil {
			return Bundle{}, Policy{}, fmt.Errorf("policies_dir can't be read: %w; create it or correct the path", err)
		}
		paths = append(paths, more...)
	}
	return ReadBundle(paths...)
}

// ReadBundle collects a policy from files that hold connections and rules;
// other settings in them stay behind. Nothing is returned unless all of it is
// valid.
func ReadBundle(paths ...string) (Bundle, Policy, error) {
	var b Bundle
	var p problems
	var pol Policy
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			p.add(Position{File: path}, "can't be read: %v", err)
			continue
		}
		doc := parse(path, data, reflect.TypeFor[Config](), &p)
		name := b.free(filepath.Base(path))
		collect := files{secret: beside.secret, reference: func(file, written string) (string, []byte) {
			at, content := beside.reference(file, written)
			switch {
			case content == nil:
				p.add(Position{File: path}, "names %s, which can't be read at %s; a policy travels with the files that it names", written, at)
			case !b.has(name, written):
				b.References = append(b.References, Reference{File: name, Path: written, Content: content})
			}
			return at, content
		}}
		pol.append(readPolicy(doc, collect, &p))
		if only := policyOnly(doc, data); only != nil {
			b.Files = append(b.Files, File{Name: name, Content: only})
		}
	}
	pol.finish(&p)
	if err := p.err(); err != nil {
		return Bundle{}, Policy{}, err
	}
	return b, pol, b.same(pol)
}

// same makes sure that the bundle says what the files said.
func (b Bundle) same(pol Policy) error {
	again, err := b.policy(files{secret: beside.secret, reference: func(file, path string) (string, []byte) {
		return path, b.content(file, path)
	}})
	if err != nil || again.Version != pol.Version {
		return errors.New("the policy can't be taken out of its file alone; it seems to use an anchor from another setting: write it out, or move connections and rules to a file of their own in policies_dir")
	}
	return nil
}

// Policy reads and checks the policy. The files that it names are laid out in
// folder, once each, under their hashes; relative names of secrets are looked
// up from home.
func (b Bundle) Policy(folder, home string) (Policy, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return Policy{}, fmt.Errorf("lay out a policy's files: %w", err)
	}
	at := map[[2]string]string{}
	for _, r := range b.References {
		sum := sha256.Sum256(r.Content)
		path := filepath.Join(folder, hex.EncodeToString(sum[:])+filepath.Ext(filepath.Base(r.Path)))
		if err := lay(path, r.Content); err != nil {
			return Policy{}, fmt.Errorf("lay out %s of a policy: %w", r.Path, err)
		}
		at[[2]string{r.File, r.Path}] = path
	}
	return b.policy(files{
		reference: func(file, path string) (string, []byte) {
			if found, ok := at[[2]string{file, path}]; ok {
				return found, b.content(file, path)
			}
			return filepath.Join(folder, "missing"), nil
		},
		secret: func(_, path string) string { return from(home, path) },
	})
}

func (b Bundle) policy(find files) (Policy, error) {
	var p problems
	var pol Policy
	for _, f := range b.Files {
		pol.append(readPolicy(parse(f.Name, f.Content, reflect.TypeFor[Config](), &p), find, &p))
	}
	pol.finish(&p)
	if err := p.err(); err != nil {
		return Policy{}, err
	}
	return pol, nil
}

// lay writes a file that others may read while it is written.
func lay(path string, content []byte) error {
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, content) {
		return nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	_, err = tmp.Write(content)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// free returns a name that no file of the bundle has.
func (b Bundle) free(name string) string {
	for slices.ContainsFunc(b.Files, func(f File) bool { return f.Name == name }) {
		name = "_" + name
	}
	return name
}

func (b Bundle) has(file, path string) bool { return b.content(file, path) != nil }

func (b Bundle) content(file, path string) []byte {
	for _, r := range b.References {
		if r.File == file && r.Path == path {
			return r.Content
		}
	}
	return nil
}

// policyOnly blanks every line of a file that is not policy, so that what is
// left stands on the lines where it stood. It is nil where nothing is left.
func policyOnly(doc document, data []byte) []byte {
	if doc.root == nil {
		return nil
	}
	if doc.root.Style&yaml.FlowStyle != 0 {
		return data // one expression, such as JSON
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	keep := make([]bool, len(lines))
	any := false
	for i := 0; i+1 < len(doc.root.Content); i += 2 {
		key, end := doc.root.Content[i], len(lines)
		if i+2 < len(doc.root.Content) {
			end = doc.root.Content[i+2].Line - 1
		}
		if !slices.Contains(policyKeys, key.Value) {
			continue
		}
		any = true
		for n := key.Line - 1; n < end; n++ {
			keep[n] = true
		}
	}
	if !any {
		return nil
	}
	var out bytes.Buffer
	for i, line := range lines {
		if keep[i] {
			out.Write(line)
		} else if bytes.HasSuffix(line, []byte("\n")) {
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}
