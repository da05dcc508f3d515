package mask

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Reaches reports whether a field path can lead to something in messages of a
// type: one that can't hides nothing. A path that can't be read reaches nothing.
func Reaches(path string, in protoreflect.MessageDescriptor) bool {
	if strings.HasPrefix(path, "(") {
		return true // an option, which any field may have
	}
	steps, err := parsePath(path)
	if err != nil {
		return false
	}
	type state struct {
		at   int
		what protoreflect.FullName
		one  bool
	}
	seen := map[state]bool{}
	var walk func(at int, p place) bool
	walk = func(at int, p place) bool {
		if at == len(steps) {
			return true
		}
		s := state{at, p.name(), p.element}
		if seen[s] {
			return false
		}
		seen[s] = true
		kind := steps[at].kind
		if kind == stepDeep && walk(at+1, p) {
			return true
		}
		to := at + 1
		if kind == stepDeep {
			to = at
		}
		for _, next := range p.under(steps[at]) {
			if walk(to, next) {
				return true
			}
		}
		return false
	}
	return walk(0, place{message: in})
}

// place is a point in a message's type.
type place struct {
	message protoreflect.MessageDescriptor // the whole, or what the field holds
	field   protoreflect.FieldDescriptor   // nil for the whole
	element bool                           // one of a list's or map's, not the list or map
}

func (p place) name() protoreflect.FullName {
	if p.field == nil {
		return p.message.FullName()
	}
	return p.field.FullName()
}

// under lists the places one segment further on.
func (p place) under(s step) []place {
	any := s.kind == stepAny || s.kind == stepDeep
	switch {
	case p.field != nil && !p.element && p.field.IsList():
		if any || s.kind == stepIndex || s.kind == stepItems {
			return []place{{p.message, p.field, true}}
		}
		return nil
	case p.field != nil && !p.element && p.field.IsMap():
		if any || s.kind == stepKey {
			return []place{{p.field.MapValue().Message(), p.field, true}}
		}
		return nil
	case p.message == nil:
		return nil
	}
	fields := p.message.Fields()
	if s.kind == stepKey {
		if f := fields.ByName(protoreflect.Name(s.key)); f != nil {
			return []place{{f.Message(), f, false}}
		}
		return nil
	}
	if !any {
		return nil
	}
	var out []place
	for i := range fields.Len() {
		f := fields.Get(i)
		out = append(out, place{f.Message(), f, false})
	}
	return out
}
