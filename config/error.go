package config

import (
	"fmt"
	"path/filepath"
	"sort"
	"strings"

	"github.com/agnivade/levenshtein"
)

// String renders a position as file:line:column, the form editors jump to.
func (p Position) String() string {
	switch {
	case p.File == "":
		return ""
	case p.Line == 0:
		return p.File
	default:
		return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
	}
}

// Error is one thing wrong with a configuration.
type Error struct {
	Position Position
	Message  string
}

func (e Error) Error() string {
	if at := e.Position.String(); at != "" {
		return at + ": " + e.Message
	}
	return e.Message
}

// Errors is everything wrong with a configuration, in the order of the files.
type Errors []Error

func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// problems collects errors while a configuration is read.
type problems struct{ list Errors }

func (p *problems) add(at Position, format string, args ...any) {
	p.list = append(p.list, Error{Position: at, Message: fmt.Sprintf(format, args...)})
}

func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	sort.SliceStable(p.list, func(i, j int) bool {
		a, b := p.list[i].Position, p.list[j].Position
		if a.File != b.File {
			return filepath.Base(a.File) < filepath.Base(b.File)
		}
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		return a.Column < b.Column
	})
	return p.list
}

// suggest returns `; did you mean "x"?` for the nearest of the known words,
// or "" where none is near enough to be a slip of the hand.
func suggest(word string, known []string) string {
	best, distance := "", len(word)/2+1
	for _, k := range known {
		if d := levenshtein.ComputeDistance(strings.ToLower(word), k); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}
