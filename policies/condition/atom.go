package condition

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

type operator int

const (
	opOpaque  operator = iota // true, false or failing: nothing else is known
	opHas                     // the part is there
	opIn                      // it equals one of the values
	opDiffers                 // it equals none; only until it is negated
	opLess                    // it is less than the value
	opMost                    // … or equal
	opMore
	opLeast
)

// atom is a condition over one part of the call.
type atom struct {
	path   string // of an opaque atom, its text
	op     operator
	values []constant
	alone  bool // equal to no other atom, whatever its text
}

// literal is an atom that is true, or that is false. One that fails is neither.
type literal struct {
	atom *atom
	is   bool
}

// class is what values can be compared with each other.
type class int

const (
	number class = iota + 1
	text
	truth
	instant
	span
	null
)

// constant is a value that is written in a rule.
type constant struct {
	class class
	num   float64
	text  string
	at    time.Time
}

// exact is the largest whole number below which all are told apart in a float64.
const exact = 1 << 53

func constantOf(e ast.Expr) (constant, bool) {
	if e.Kind() == ast.CallKind {
		c := e.AsCall()
		if len(c.Args()) != 1 || c.Args()[0].Kind() != ast.LiteralKind {
			return constant{}, false
		}
		written, isText := c.Args()[0].AsLiteral().(types.String)
		switch {
		case isText && c.FunctionName() == "timestamp":
			at, err := time.Parse(time.RFC3339, string(written))
			return constant{class: instant, at: at}, err == nil
		case isText && c.FunctionName() == "duration":
			d, err := time.ParseDuration(string(written))
			return constant{class: span, num: float64(d)}, err == nil && math.Abs(float64(d)) < exact
		case c.FunctionName() == "-_":
			v, ok := constantOf(c.Args()[0])
			v.num = -v.num
			return v, ok && v.class == number
		}
		return constant{}, false
	}
	if e.Kind() != ast.LiteralKind {
		return constant{}, false
	}
	switch v := e.AsLiteral().(type) {
	case types.Int:
		return constant{class: number, num: float64(v)}, v > -exact && v < exact
	case types.Uint:
		return constant{class: number, num: float64(v)}, v < exact
	case types.Double:
		return constant{class: number, num: float64(v)}, math.Abs(float64(v)) < exact
	case types.String:
		return constant{class: text, text: string(v)}, true
	case types.Bool:
		if v {
			return constant{class: truth, num: 1}, true
		}
		return constant{class: truth}, true
	case types.Null:
		return constant{class: null}, true
	}
	return constant{}, false
}

// compare orders two constants of one class.
func (c constant) compare(d constant) int {
	return cmp.Or(cmp.Compare(c.num, d.num), strings.Compare(c.text, d.text), c.at.Compare(d.at))
}

func (c constant) equal(d constant) bool { return c.class == d.class && c.compare(d) == 0 }

// possible reports whether the literals of t could hold together. It is false
// only if they certainly can't.
func (t term) possible() bool {
	seen := make(map[string]*values, len(t))
	for _, l := range t {
		if l.atom.alone {
			continue
		}
		v := seen[l.atom.path]
		if v == nil {
			v = &values{}
			seen[l.atom.path] = v
		}
		v.add(l)
	}
	for path, v := range seen {
		if !v.possible() {
			return false
		}
		// What a missing part holds is missing too.
		for other, w := range seen {
			if v.absent && w.present && strings.HasPrefix(other, path+"\x00") {
				return false
			}
		}
	}
	return true
}

// values are those that a part of the call can have.
type values struct {
	present, absent bool // it is certainly there, or not
	yes, no         bool // an opaque atom is true, or false
	among           []constant
	finite          bool // among is all that it can be
	class           class
	clash           bool // it would have to be of two classes
	not             []constant
	low, high       *bound
}

type bound struct {
	at   constant
	open bool // at itself is outside
}

func (v *values) add(l literal) {
	a := l.atom
	switch a.op {
	case opOpaque:
		v.yes, v.no = v.yes || l.is, v.no || !l.is
		return
	case opHas:
		v.present, v.absent = v.present || l.is, v.absent || !l.is
		return
	}
	v.present = true // a comparison with what is missing fails
	if a.op == opIn {
		switch {
		case !l.is:
			v.not = append(v.not, a.values...)
		case !v.finite:
			v.among, v.finite = a.values, true
		default:
			v.among = intersection(v.among, a.values)
		}
		return
	}
	c := a.values[0]
	if v.class != 0 && v.class != c.class {
		v.clash = true
		return
	}
	v.class = c.class
	op := a.op
	if !l.is {
		op = map[operator]operator{opLess: opLeast, opMost: opMore, opMore: opMost, opLeast: opLess}[op]
	}
	b := &bound{at: c, open: op == opLess || op == opMore}
	if op == opLess || op == opMost {
		if v.high == nil || b.below(v.high) {
			v.high = b
		}
	} else if v.low == nil || b.above(v.low) {
		v.low = b
	}
}

func (b *bound) below(o *bound) bool {
	c := b.at.compare(o.at)
	return c < 0 || c == 0 && b.open
}

func (b *bound) above(o *bound) bool {
	c := b.at.compare(o.at)
	return c > 0 || c == 0 && b.open
}

func intersection(a, b []constant) []constant {
	return slices.DeleteFunc(slices.Clone(a), func(c constant) bool { return !slices.ContainsFunc(b, c.equal) })
}

func (v *values) possible() bool {
	if v.present && v.absent || v.yes && v.no || v.clash {
		return false
	}
	if v.finite {
		return slices.ContainsFunc(v.among, v.takes)
	}
	if v.low == nil || v.high == nil {
		return true
	}
	switch c := v.low.at.compare(v.high.at); {
	case c > 0, c == 0 && (v.low.open || v.high.open):
		return false
	case c == 0:
		return v.takes(v.low.at)
	}
	return true
}

// takes reports whether a part can have a value.
func (v *values) takes(c constant) bool {
	if slices.ContainsFunc(v.not, c.equal) {
		return false
	}
	if v.class != 0 && c.class != v.class {
		return false // the comparison fails
	}
	if v.low != nil && (c.compare(v.low.at) < 0 || c.compare(v.low.at) == 0 && v.low.open) {
		return false
	}
	return v.high == nil || c.compare(v.high.at) < 0 || c.compare(v.high.at) == 0 && !v.high.open
}
