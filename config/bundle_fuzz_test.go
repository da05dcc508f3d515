package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzBundle: whatever a bundle from elsewhere says, it writes into its folder
// alone.
func FuzzBundle(f *testing.F) {
	for _, path := range []string{"api.yaml", "../../etc/passwd", "/etc/passwd", "a\x00b", "x/../..", ".", strings.Repeat("a", 300) + ".b/c"} {
		f.Add("p.yaml", "connections: [{name: a, protocol: http, openapi: "+path+"}]", path, "{}")
	}
	f.Fuzz(func(t *testing.T, name, text, path, content string) {
		home := t.TempDir()
		folder := filepath.Join(home, "files")
		b := Bundle{Files: []File{{Name: name, Content: []byte(text)}}, References: []Reference{{File: name, Path: path, Content: []byte(content)}}}
		_, _ = b.Policy(folder, home)
		list, err := os.ReadDir(home)
		if err != nil || len(list) > 1 || len(list) == 1 && list[0].Name() != "files" {
			t.Errorf("wrote %v beside its folder, %v", list, err)
		}
	})
}
