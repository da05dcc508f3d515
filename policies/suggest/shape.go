package suggest

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/callgate/callgate/call/redact"
)

const (
	// maxValues is how many values a bound lists; of more, only their range or
	// prefix is told.
	maxValues = 8
	// maxFields is how many fields of an object are bound. One with more has
	// keys that are data.
	maxFields = 40
	// maxLevels is how deep objects and lists are looked into.
	maxLevels = 4
	// maxText is the longest text, in bytes, that a bound lists.
	maxText = 64
)

// shape is what was seen of one argument, or of the elements of a list.
type shape struct {
	seen   uint64 // times it was there
	hidden bool   // not known at least once: a credential stood there
	secret bool   // its name or a value of it looks like a credential's
	nulls  uint64
	bools  [2]uint64 // false, true

	numbers      uint64
	values       map[number]uint64 // of numbers; nil once there are too many
	manyNumbers  bool
	numbersRange extremes

	texts     uint64
	words     map[string]uint64 // nil once there are too many
	manyTexts bool
	prefix    string // that all have
	lengths   extremes

	lists   uint64
	sizes   extremes
	element *shape

	objects uint64
	fields  map[string]*shape
	wide    bool // it has too many fields to tell them
	deep    bool // it is not looked into
}

// number is an int64 or a float64, the same for equal values.
type number struct {
	whole int64
	float float64 // where it is no whole number that is exact in both
}

func numberOf(v any) number {
	switch v := v.(type) {
	case int64:
		return number{whole: v}
	case float64:
		if n := int64(v); v > -1<<53 && v < 1<<53 && float64(n) == v {
			return number{whole: n}
		}
		return number{float: v}
	}
	return number{}
}

func (n number) value() float64 {
	if n.float != 0 {
		return n.float
	}
	return float64(n.whole)
}

func (n number) compare(m number) int {
	return cmp.Or(cmp.Compare(n.value(), m.value()), cmp.Compare(n.whole, m.whole))
}

// extremes are the smallest and the largest of many numbers, each as often as
// it came. A few of each are kept, since the outermost may be outliers.
type extremes struct{ low, high []number }

// keepExtremes is one more than the outliers that can be told.
const keepExtremes = 8

func (e *extremes) add(n number) {
	e.low = keep(e.low, n, number.compare)
	e.high = keep(e.high, n, func(a, b number) int { return b.compare(a) })
}

func keep(list []number, n number, order func(a, b number) int) []number {
	at, _ := slices.BinarySearchFunc(list, n, order)
	if at >= keepExtremes {
		return list
	}
	list = slices.Insert(list, at, n)
	return list[:min(len(list), keepExtremes)]
}

func (e *extremes) merge(f extremes) {
	for _, n := range f.low {
		e.low = keep(e.low, n, number.compare)
	}
	for _, n := range f.high {
		e.high = keep(e.high, n, func(a, b number) int { return b.compare(a) })
	}
}

// add takes in one value.
func (s *shape) add(v any, name string, level int) {
	s.seen++
	s.secret = s.secret || redact.Names(name)
	switch v := v.(type) {
	case nil:
		s.nulls++
	case bool:
		if v {
			s.bools[1]++
		} else {
			s.bools[0]++
		}
	case int64, float64:
		s.number(numberOf(v))
	case string:
		s.text(v)
	case []any:
		s.list(v, name, level)
	case map[string]any:
		s.object(v, nil, level)
	}
}

func (s *shape) number(n number) {
	s.numbers++
	s.numbersRange.add(n)
	if s.manyNumbers {
		return
	}
	if s.values == nil {
		s.values = map[number]uint64{}
	}
	if s.values[n]++; len(s.values) > maxValues {
		s.values, s.manyNumbers = nil, true
	}
}

func (s *shape) text(v string) {
	if s.texts++; s.texts == 1 {
		s.prefix = v
	}
	s.prefix = common(s.prefix, v)
	s.lengths.add(number{whole: int64(utf8.RuneCountInString(v))})
	s.secret = s.secret || redact.Looks(v)
	if s.manyTexts {
		return
	}
	if s.words == nil {
		s.words = map[string]uint64{}
	}
	if s.words[strings.Clone(v)]++; len(s.words) > maxValues || len(v) > maxText {
		s.words, s.manyTexts = nil, true
	}
}

// common is what both texts begin with, in whole characters, and not more than
// a bound would list.
func common(a, b string) string {
	n := min(len(a), len(b), maxText)
	i := 0
	for i < n && a[i] == b[i] {
		i++
	}
	for i > 0 && i < len(a) && !utf8.RuneStart(a[i]) {
		i--
	}
	return strings.Clone(a[:i])
}

func (s *shape) list(v []any, name string, level int) {
	s.lists++
	s.sizes.add(number{whole: int64(len(v))})
	if level >= maxLevels {
		s.deep = true
		return
	}
	if s.element == nil {
		s.element = &shape{}
	}
	for _, e := range v {
		s.element.add(e, name, level+1)
	}
}

// object takes in an object, of which the fields in hidden are not known.
func (s *shape) object(v map[string]any, hidden func(name string) bool, level int) {
	s.objects++
	if level >= maxLevels {
		s.deep = true
		return
	}
	if s.wide {
		return
	}
	if s.fields == nil {
		s.fields = map[string]*shape{}
	}
	for name, e := range v {
		f := s.fields[name]
		if f == nil {
			f = &shape{}
			s.fields[strings.Clone(name)] = f
		}
		if hidden != nil && hidden(name) {
			f.seen++
			f.hidden = true
			continue
		}
		f.add(e, name, level+1)
	}
	if len(s.fields) > maxFields {
		s.fields, s.wide = nil, true
	}
}

// merge takes in what another shape has seen.
func (s *shape) merge(o *shape) {
	if o == nil {
		return
	}
	if o.texts > 0 {
		if s.texts == 0 {
			s.prefix = o.prefix
		}
		s.prefix = common(s.prefix, o.prefix)
	}
	s.seen, s.nulls, s.bools[0], s.bools[1] = s.seen+o.seen, s.nulls+o.nulls, s.bools[0]+o.bools[0], s.bools[1]+o.bools[1]
	s.numbers, s.texts, s.lists, s.objects = s.numbers+o.numbers, s.texts+o.texts, s.lists+o.lists, s.objects+o.objects
	s.hidden, s.secret, s.deep = s.hidden || o.hidden, s.secret || o.secret, s.deep || o.deep
	s.numbersRange.merge(o.numbersRange)
	s.lengths.merge(o.lengths)
	s.sizes.merge(o.sizes)
	s.values, s.manyNumbers = union(s.values, o.values, s.manyNumbers || o.manyNumbers)
	s.words, s.manyTexts = union(s.words, o.words, s.manyTexts || o.manyTexts)
	if o.element != nil {
		if s.element == nil {
			s.element = &shape{}
		}
		s.element.merge(o.element)
	}
	if s.wide = s.wide || o.wide; !s.wide {
		for name, f := range o.fields {
			if s.fields == nil {
				s.fields = map[string]*shape{}
			}
			if s.fields[name] == nil {
				s.fields[name] = &shape{}
			}
			s.fields[name].merge(f)
		}
	}
	if s.wide = s.wide || len(s.fields) > maxFields; s.wide {
		s.fields = nil
	}
}

func union[K comparable](a, b map[K]uint64, many bool) (map[K]uint64, bool) {
	if many {
		return nil, true
	}
	if a == nil {
		a = map[K]uint64{}
	}
	for k, n := range b {
		a[k] += n
	}
	if len(a) > maxValues {
		return nil, true
	}
	return a, false
}
