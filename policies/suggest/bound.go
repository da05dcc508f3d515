package suggest

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// bounder writes conditions that hold of all that a shape has seen, and of as
// little else as can be said in few words. A condition never fails: each looks
// at a value's type before it does more.
type bounder struct {
	minCalls uint64 // fewer values than that, far from all others, are outliers
	noValues bool   // bound numbers and lengths only
}

const (
	// manyCalls is how often an argument must have been seen for its values to
	// be taken for all that there are.
	manyCalls = 20
	// farAway is how many times further than all else an outlier lies.
	farAway = 10
	// maxNesting is how many loops inside each other a condition may have.
	maxNesting = 2
)

// bound is the condition that path, an expression, is as s has seen it; empty
// where it can be anything. Loops is how many more may be nested.
func (b *bounder) bound(s *shape, path string, loops int) string {
	if s.hidden || s.seen == 0 {
		return ""
	}
	var kinds []string
	if s.nulls > 0 {
		kinds = append(kinds, path+" == null")
	}
	if s.bools[0]+s.bools[1] > 0 {
		kinds = append(kinds, b.boolean(s, path))
	}
	if s.numbers > 0 {
		kinds = append(kinds, b.number(s, path))
	}
	if s.texts > 0 {
		kinds = append(kinds, b.text(s, path))
	}
	if s.lists > 0 {
		kinds = append(kinds, b.list(s, path, loops))
	}
	if s.objects > 0 {
		kinds = append(kinds, "type("+path+") == map"+after(b.object(s, path, loops)))
	}
	if len(kinds) == 1 {
		return kinds[0]
	}
	for i, k := range kinds {
		if strings.Contains(k, " && ") {
			kinds[i] = "(" + k + ")"
		}
	}
	return "(" + strings.Join(kinds, " || ") + ")"
}

func after(more string) string {
	if more == "" {
		return ""
	}
	return " && " + more
}

func (b *bounder) boolean(s *shape, path string) string {
	if n := s.bools[0] + s.bools[1]; !b.noValues && n >= manyCalls {
		if s.bools[0] == 0 {
			return path + " == true"
		}
		if s.bools[1] == 0 {
			return path + " == false"
		}
	}
	return "type(" + path + ") == bool"
}

// few reports whether values are so few for so many calls that they can be
// listed.
func (b *bounder) few(s *shape, values int, calls uint64) bool {
	return !b.noValues && !s.secret && values > 0 && calls >= manyCalls && calls >= 4*uint64(values)
}

// listed reports whether the numbers, or the texts, that were seen are listed.
func (b *bounder) listed(s *shape) (numbers, texts bool) {
	return !s.manyNumbers && b.few(s, len(s.values), s.numbers), !s.manyTexts && b.few(s, len(s.words), s.texts)
}

func (b *bounder) number(s *shape, path string) string {
	if listed, _ := b.listed(s); listed {
		var list []string
		for _, n := range slices.SortedFunc(maps.Keys(s.values), number.compare) {
			list = append(list, n.String())
		}
		if len(list) == 1 {
			return path + " == " + list[0]
		}
		return path + " in [" + strings.Join(list, ", ") + "]"
	}
	kind := "type(" + path + ") in [int, double]"
	if s.secret {
		return kind // such as a PIN
	}
	low, high, _ := b.limits(s.numbersRange, s.numbers)
	return fmt.Sprintf("%s && %s >= %s && %s <= %s", kind, path, low, path, high)
}

func (b *bounder) text(s *shape, path string) string {
	if _, listed := b.listed(s); listed {
		var list []string
		for _, w := range slices.Sorted(maps.Keys(s.words)) {
			list = append(list, strconv.Quote(w))
		}
		if len(list) == 1 {
			return path + " == " + list[0]
		}
		return path + " in [" + strings.Join(list, ", ") + "]"
	}
	out := "type(" + path + ") == string"
	if len(s.prefix) >= 3 && s.texts >= manyCalls && !b.noValues && !s.secret {
		out += " && " + path + ".startsWith(" + strconv.Quote(s.prefix) + ")"
	}
	_, most, _ := b.limits(s.lengths, s.texts)
	return fmt.Sprintf("%s && size(%s) <= %s", out, path, most)
}

func (b *bounder) list(s *shape, path string, loops int) string {
	_, most, _ := b.limits(s.sizes, s.lists)
	out := fmt.Sprintf("type(%s) == list && size(%s) <= %s", path, path, most)
	if s.element == nil || s.element.seen == 0 || loops == 0 {
		return out
	}
	name := "e" + strconv.Itoa(loops)
	if each := b.bound(s.element, name, loops-1); each != "" {
		out += fmt.Sprintf(" && %s.all(%s, %s)", path, name, each)
	}
	return out
}

// word is a key that can be written as a field.
var word = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// reserved are words of the language that can't.
var reserved = strings.Fields("as break const continue else false for function if import in let loop namespace null package return true var void while")

// object is the condition on an object's fields.
func (b *bounder) object(s *shape, path string, loops int) string {
	return strings.Join(b.fields(s, path, loops), " && ")
}

// fields are the conditions on an object's fields, all of which must hold.
func (b *bounder) fields(s *shape, path string, loops int) []string {
	if s.wide || s.deep {
		return nil
	}
	names := slices.Sorted(maps.Keys(s.fields))
	hidden := false
	for _, n := range names {
		hidden = hidden || s.fields[n].hidden
	}
	var all []string
	switch {
	case hidden: // what looks at all names can't be judged of the calls seen
	case len(names) == 0:
		all = append(all, "size("+path+") == 0")
	case loops > 0:
		quoted := make([]string, len(names))
		for i, n := range names {
			quoted[i] = strconv.Quote(n)
		}
		all = append(all, fmt.Sprintf("%s.all(k, k in [%s])", path, strings.Join(quoted, ", ")))
	}
	for _, n := range names {
		f := s.fields[n]
		has, at := "has("+path+"."+n+")", path+"."+n
		if !word.MatchString(n) || slices.Contains(reserved, n) {
			has, at = strconv.Quote(n)+" in "+path, path+"["+strconv.Quote(n)+"]"
		}
		is := b.bound(f, at, loops)
		switch {
		case f.hidden:
		case f.seen == s.objects && is == "":
			all = append(all, has)
		case f.seen == s.objects:
			all = append(all, has, is)
		case is != "":
			all = append(all, "(!("+has+") || "+parens(is)+")")
		}
	}
	return all
}

func parens(s string) string {
	if strings.Contains(s, " && ") && !(strings.HasPrefix(s, "(") && strings.HasSuffix(s, ")")) {
		return "(" + s + ")"
	}
	return s
}

// limits are the least and the most that is let through, rounded outward, and
// the values that lie so far away that they are left out.
func (b *bounder) limits(e extremes, count uint64) (low, high number, out outliers) {
	low, high = e.low[0], e.high[0]
	if count >= max(4*b.minCalls, manyCalls) {
		for j := 1; j < len(e.high) && uint64(j) < b.minCalls; j++ {
			if e.high[j-1].value() > farAway*max(e.high[j].value(), 1) {
				high, out.high = e.high[j], true
			}
			if -e.low[j-1].value() > farAway*max(-e.low[j].value(), 1) {
				low, out.low = e.low[j], true
			}
		}
	}
	low, high = round(low, -1), round(high, 1)
	out.from, out.to = low, high
	return low, high, out
}

// outliers tells which values are left out.
type outliers struct {
	low, high bool
	from, to  number
}

func (o outliers) has(n number) bool {
	return o.low && n.compare(o.from) < 0 || o.high && n.compare(o.to) > 0
}

// round rounds away from zero's side: down for -1, up for 1, to two digits.
func round(n number, way float64) number {
	const exact = 1e15 // beyond, floats are no longer whole numbers by themselves
	v := n.value()
	if v == 0 || math.Abs(v) > exact || math.Abs(v) < 1e-9 {
		return n
	}
	scale := math.Pow(10, math.Floor(math.Log10(math.Abs(v)))-1)
	if n.float == 0 {
		scale = max(scale, 1)
	}
	r := v
	switch steps := v / scale; {
	case steps == math.Trunc(steps):
	case way > 0:
		r = math.Ceil(steps) * scale
	default:
		r = math.Floor(steps) * scale
	}
	if out := numberOf(r); way > 0 && out.compare(n) >= 0 || way < 0 && out.compare(n) <= 0 {
		return out
	}
	return n
}

// String writes the number as a rule does.
func (n number) String() string {
	if n.float == 0 {
		return strconv.FormatInt(n.whole, 10)
	}
	s := strconv.FormatFloat(n.float, 'g', -1, 64)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}

// excluded reports whether a value holds an outlier that the bounds of s, made
// with as many loops, leave out.
func (b *bounder) excluded(s *shape, v any, loops int) bool {
	if s == nil || s.hidden || s.wide || s.deep && s.lists == 0 {
		return false
	}
	far := func(e extremes, count uint64, n int) bool {
		_, _, out := b.limits(e, count)
		return out.has(number{whole: int64(n)})
	}
	numbers, texts := b.listed(s)
	switch v := v.(type) {
	case int64, float64:
		if numbers || s.secret || s.numbers == 0 {
			return false
		}
		_, _, out := b.limits(s.numbersRange, s.numbers)
		return out.has(numberOf(v))
	case string:
		return !texts && s.texts > 0 && far(s.lengths, s.texts, utf8.RuneCountInString(v))
	case []any:
		if s.lists > 0 && far(s.sizes, s.lists, len(v)) {
			return true
		}
		return loops > 0 && slices.ContainsFunc(v, func(e any) bool { return b.excluded(s.element, e, loops-1) })
	case map[string]any:
		for k, e := range v {
			if b.excluded(s.fields[k], e, loops) {
				return true
			}
		}
	}
	return false
}
