// Package sql says what an SQL text would do: which kinds of statement it has,
// which tables and functions they name. It uses the parsers of the databases
// themselves, or of those that speak their dialect, and never guesses: a text
// that can't be parsed has no answer.
package sql

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// Dialect is the SQL that a database speaks.
type Dialect string

// The dialects. Generic is for databases whose dialect is not known or not
// among these: the text is read in all, and where the readings differ in what
// they do it has no answer.
const (
	Postgres Dialect = "postgres"
	MySQL    Dialect = "mysql"
	Generic  Dialect = "generic"
)

// Dialects are the names of all.
var Dialects = []string{string(Postgres), string(MySQL), string(Generic)}

// Kind is what a statement does.
type Kind string

// The kinds of statement.
const (
	Select      Kind = "select"
	Insert      Kind = "insert"
	Update      Kind = "update"
	Delete      Kind = "delete"
	Merge       Kind = "merge"
	DDL         Kind = "ddl" // creates, changes, empties or drops something
	DCL         Kind = "dcl" // changes who may do what
	Call        Kind = "call"
	Copy        Kind = "copy" // to or from files and programs
	Set         Kind = "set"
	Show        Kind = "show" // looks at settings and plans
	Transaction Kind = "transaction"
	Other       Kind = "other"
)

// Statement is one statement of a text.
type Statement struct {
	// Kinds are what it does, its own kind first, then those of statements
	// inside it (WITH x AS (DELETE …) SELECT …), each once.
	Kinds []Kind
	// Tables are those it names, as it names them, lower case where the
	// dialect does not tell letters' case; without those it defines (WITH).
	Tables    []string
	Functions []string // lower case
	// Bounded is false where an UPDATE or DELETE has no WHERE, or one that
	// looks at no column.
	Bounded bool
	// Limit is the number of rows a SELECT asks for at most; -1: all.
	Limit int64
	// Locks is set where it reads for update.
	Locks bool
	// Writes is set where it changes data in a way that its kinds don't tell,
	// such as SELECT … INTO.
	Writes bool
}

// Kind is the strongest of a statement's kinds: what changes something before
// what only reads.
func (s Statement) Kind() Kind {
	for _, strong := range []Kind{DDL, DCL, Delete, Update, Insert, Merge, Copy, Call, Other} {
		if slices.Contains(s.Kinds, strong) {
			return strong
		}
	}
	return s.Kinds[0]
}

// ReadOnly reports whether the statement can only read, functions apart.
func (s Statement) ReadOnly() bool {
	for _, k := range s.Kinds {
		if k != Select && k != Show {
			return false
		}
	}
	return !s.Writes && !s.Locks
}

var warm sync.Once

// Warm makes the parsers ready in the background: the first parse of a process
// takes a second or two, which a call should not wait for.
func Warm() {
	warm.Do(func() {
		go func() { _, _ = Parse(Generic, "SELECT 1") }() // it is the making that counts
	})
}

// maxText bounds a text, in bytes.
const maxText = 256 << 10

// ErrUnreadable says that a text can't be parsed.
var ErrUnreadable = errors.New("the SQL can't be parsed")

// Parse returns the statements of a text, of which there is at least one. Its
// error wraps [ErrUnreadable] where the text is at fault, and does not quote it.
func Parse(d Dialect, text string) ([]Statement, error) {
	switch {
	case len(text) > maxText:
		return nil, fmt.Errorf("%w: it is longer than %d bytes", ErrUnreadable, maxText)
	case !utf8.ValidString(text) || strings.ContainsRune(text, 0):
		return nil, fmt.Errorf("%w: it is not plain UTF-8 text", ErrUnreadable)
	}
	var out []Statement
	var err error
	switch d {
	case Postgres:
		out, err = postgres(text)
	case MySQL:
		out, err = mysql(text)
	case Generic:
		out, err = generic(text)
	default:
		return nil, fmt.Errorf("SQL dialect %q is not known; choose %s", d, strings.Join(Dialects, ", "))
	}
	for i := range out {
		slices.Sort(out[i].Tables)
		slices.Sort(out[i].Functions)
	}
	return out, err
}

// generic reads a text in every dialect. What its own database can't read does
// no harm, so a reading that fails counts for nothing; two that succeed must
// agree.
func generic(text string) ([]Statement, error) {
	a, errA := postgres(text)
	b, errB := mysql(text)
	switch {
	case errA != nil && errB != nil:
		return nil, errA
	case errA != nil:
		return b, nil
	case errB != nil:
		return a, nil
	case !alike(a, b):
		return nil, fmt.Errorf("%w: databases would read it differently; name the dialect", ErrUnreadable)
	}
	for i := range a {
		// Of what is told more or less clearly, the clearer.
		a[i].Bounded = a[i].Bounded && b[i].Bounded
		a[i].Functions = union(a[i].Functions, b[i].Functions)
		a[i].Tables = union(a[i].Tables, b[i].Tables)
		a[i].Locks = a[i].Locks || b[i].Locks
		a[i].Writes = a[i].Writes || b[i].Writes
	}
	return a, nil
}

func alike(a, b []Statement) bool {
	return slices.EqualFunc(a, b, func(x, y Statement) bool {
		return x.Kind() == y.Kind() && slices.Equal(x.Kinds, y.Kinds) && x.Limit == y.Limit
	})
}

func union(a, b []string) []string {
	for _, s := range b {
		if !slices.ContainsFunc(a, func(t string) bool { return strings.EqualFold(s, t) }) {
			a = append(a, s)
		}
	}
	return a
}

// add appends what a list does not have.
func add[T comparable](list *[]T, v T) {
	if !slices.Contains(*list, v) {
		*list = append(*list, v)
	}
}
