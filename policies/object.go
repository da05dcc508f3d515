package policies

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/callgate/callgate/call"
)

// kind is the type of an object that rules look at. Its fields are known when
// a rule is compiled, so that a misspelt one is an error then.
type kind struct {
	typ    *types.Type
	fields map[string]*field
}

// field reads one field. A value is made at most once a call.
type field struct {
	typ  *types.FieldType
	slot int // where in input.made it is kept
	get  func(o *object) any
}

// object is a value of a kind, backed by the call at hand.
type object struct {
	kind  *kind
	in    *input
	actor call.Actor // for an actor
}

// input is one evaluation's activation. It makes CEL values of the call's
// fields as they are asked for and keeps them for the rules that follow.
type input struct {
	vocab *vocabulary
	call  *call.Call
	made  []any
	objs  [4]object // call, identity, connection, session
	// counter is what session asks; nil: nothing counts.
	counter Counter
}

// vocabulary is what rules can speak of.
type vocabulary struct {
	registry *types.Registry
	kinds    map[string]*kind // by CEL type name
	call     *kind
	identity *kind
	conn     *kind
	actor    *kind
	session  *kind
	slots    int
	now      int // the slot of now
	pool     sync.Pool
}

// hiddenHeaders never reach rules: their values are the caller's credentials,
// and what a rule sees can end up in an error's text.
var hiddenHeaders = []string{"authorization", "proxy-authorization", "cookie"}

// HeaderHidden reports whether rules never see a request header (lower case).
func HeaderHidden(name string) bool { return slices.Contains(hiddenHeaders, name) }

func newVocabulary() (*vocabulary, error) {
	registry, err := types.NewProtoRegistry()
	if err != nil {
		return nil, fmt.Errorf("make type registry: %w", err)
	}
	v := &vocabulary{registry: registry, kinds: map[string]*kind{}}
	str := func(get func(*call.Call) string) (*types.Type, func(*object) any, func(*object) bool) {
		return cel.StringType,
			func(o *object) any { return types.String(get(o.in.call)) },
			func(o *object) bool { return get(o.in.call) != "" }
	}
	v.actor = v.kind("callgate.Actor")
	v.actor.add(-1, "issuer", cel.StringType, func(o *object) any { return types.String(o.actor.Issuer) },
		func(o *object) bool { return o.actor.Issuer != "" })
	v.actor.add(-1, "subject", cel.StringType, func(o *object) any { return types.String(o.actor.Subject) },
		func(o *object) bool { return o.actor.Subject != "" })

	v.call = v.kind("callgate.Call")
	for name, get := range map[string]func(*call.Call) string{
		"id":         func(c *call.Call) string { return c.ID.String() },
		"session":    func(c *call.Call) string { return c.Session },
		"connection": func(c *call.Call) string { return c.Connection },
		"protocol":   func(c *call.Call) string { return string(c.Protocol) },
		"function":   func(c *call.Call) string { return c.Function },
		"method":     func(c *call.Call) string { return c.Request.Method },
		"authority":  func(c *call.Call) string { return c.Request.Authority },
		"path":       func(c *call.Call) string { return c.Request.Path },
		"source_ip": func(c *call.Call) string {
			if a := c.Request.Source.Addr(); a.IsValid() {
				return a.Unmap().String()
			}
			return ""
		},
	} {
		typ, value, set := str(get)
		v.call.add(v.slot(), name, typ, value, set)
	}
	v.call.add(-1, "args", cel.MapType(cel.StringType, cel.DynType),
		func(o *object) any { return o.in.call.Args },
		func(o *object) bool { return len(o.in.call.Args) > 0 })
	v.call.add(v.slot(), "headers", cel.MapType(cel.StringType, cel.StringType),
		func(o *object) any { return newHeaderMap(v.registry, o.in.call.Request.Headers) },
		func(o *object) bool { return len(o.in.call.Request.Headers) > 0 })
	v.call.add(v.slot(), "body_size", cel.IntType,
		func(o *object) any { return types.Int(len(o.in.call.Request.Body)) },
		func(o *object) bool { return len(o.in.call.Request.Body) > 0 })

	v.identity = v.kind("callgate.Identity")
	for name, get := range map[string]func(*call.Call) string{
		"issuer":  func(c *call.Call) string { return c.Identity.Issuer },
		"subject": func(c *call.Call) string { return c.Identity.Subject },
		"kind":    func(c *call.Call) string { return string(c.Identity.Kind) },
		"acting":  func(c *call.Call) string { return c.Identity.Acting() },
		"method":  func(c *call.Call) string { return c.Identity.Method },
	} {
		typ, value, set := str(get)
		v.identity.add(v.slot(), name, typ, value, set)
	}
	v.identity.add(v.slot(), "groups", cel.ListType(cel.StringType),
		func(o *object) any { return types.NewStringList(v.registry, o.in.call.Identity.Groups) },
		func(o *object) bool { return len(o.in.call.Identity.Groups) > 0 })
	v.identity.add(v.slot(), "actors", cel.ListType(v.actor.typ),
		func(o *object) any {
			list := make([]ref.Val, len(o.in.call.Identity.Actors))
			for i, a := range o.in.call.Identity.Actors {
				list[i] = &object{kind: v.actor, in: o.in, actor: a}
			}
			return types.NewRefValList(v.registry, list)
		},
		func(o *object) bool { return len(o.in.call.Identity.Actors) > 0 })
	v.identity.add(-1, "claims", cel.MapType(cel.StringType, cel.DynType),
		func(o *object) any { return o.in.call.Identity.Claims },
		func(o *object) bool { return len(o.in.call.Identity.Claims) > 0 })

	v.conn = v.kind("callgate.Connection")
	for name, get := range map[string]func(*call.Call) string{
		"name":     func(c *call.Call) string { return c.Connection },
		"protocol": func(c *call.Call) string { return string(c.Protocol) },
	} {
		typ, value, set := str(get)
		v.conn.add(v.slot(), name, typ, value, set)
	}
	v.session = v.kind("callgate.Session")
	typ, value, set := str(func(c *call.Call) string { return c.Session })
	v.session.add(v.slot(), "id", typ, value, set)
	v.now = v.slot()
	v.pool.New = func() any {
		in := &input{vocab: v, made: make([]any, v.slots)}
		in.objs = [4]object{{kind: v.call, in: in}, {kind: v.identity, in: in}, {kind: v.conn, in: in}, {kind: v.session, in: in}}
		return in
	}
	return v, nil
}

func (v *vocabulary) slot() int { v.slots++; return v.slots - 1 }

func (v *vocabulary) kind(name string) *kind {
	k := &kind{typ: types.NewObjectType(name, traits.FieldTesterType|traits.IndexerType), fields: map[string]*field{}}
	v.kinds[name] = k
	return k
}

// add gives k a field. With a slot, get is called at most once a call.
func (k *kind) add(slot int, name string, typ *types.Type, get func(*object) any, set func(*object) bool) {
	f := &field{slot: slot, get: get}
	f.typ = &types.FieldType{
		Type:    typ,
		GetFrom: func(target any) (any, error) { return f.read(target) },
		IsSet: func(target any) bool {
			o, ok := target.(*object)
			return ok && set(o)
		},
	}
	k.fields[name] = f
}

func (f *field) read(target any) (any, error) {
	o, ok := target.(*object)
	if !ok {
		return nil, fmt.Errorf("no such overload: field of %T", target)
	}
	if f.slot < 0 {
		return f.get(o), nil
	}
	if v := o.in.made[f.slot]; v != nil {
		return v, nil
	}
	v := f.get(o)
	o.in.made[f.slot] = v
	return v, nil
}

func (k *kind) fieldNames() []string {
	names := make([]string, 0, len(k.fields))
	for n := range k.fields {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// acquire returns an activation over c, and release gives it back. It must
// not be used by two goroutines.
func (v *vocabulary) acquire(c *call.Call) *input {
	in := v.pool.Get().(*input)
	in.call = c
	return in
}

func (v *vocabulary) release(in *input) {
	in.call, in.counter = nil, nil
	clear(in.made)
	v.pool.Put(in)
}

// ResolveName implements [cel.Activation].
func (in *input) ResolveName(name string) (any, bool) {
	switch name {
	case "call":
		return &in.objs[0], true
	case "identity":
		return &in.objs[1], true
	case "connection":
		return &in.objs[2], true
	case "session":
		return &in.objs[3], true
	case "now":
		if in.call.Time.IsZero() {
			return nil, false // an unknown time must not pass for one
		}
		slot := &in.made[in.vocab.now]
		if *slot == nil {
			*slot = types.Timestamp{Time: in.call.Time}
		}
		return *slot, true
	}
	return nil, false
}

// Parent implements [cel.Activation].
func (in *input) Parent() cel.Activation { return nil }

// The methods below make object a [ref.Val].

// ConvertToNative implements [ref.Val].
func (o *object) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("%s can't be converted to %v", o.kind.typ.TypeName(), t)
}

// ConvertToType implements [ref.Val].
func (o *object) ConvertToType(t ref.Type) ref.Val {
	switch t {
	case types.TypeType:
		return o.kind.typ
	case o.kind.typ:
		return o
	}
	return types.NewErr("type conversion error from %s to %s", o.kind.typ.TypeName(), t.TypeName())
}

// Equal implements [ref.Val].
func (o *object) Equal(other ref.Val) ref.Val {
	p, ok := other.(*object)
	return types.Bool(ok && o.kind == p.kind && o.in == p.in && o.actor == p.actor)
}

// Type implements [ref.Val].
func (o *object) Type() ref.Type { return o.kind.typ }

// Value implements [ref.Val].
func (o *object) Value() any { return o }

// Get implements [traits.Indexer], for an object whose type is not known when
// the rule is compiled.
func (o *object) Get(index ref.Val) ref.Val {
	name, ok := index.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(index)
	}
	f, ok := o.kind.fields[string(name)]
	if !ok {
		return types.NewErr("no such key: %s", string(name))
	}
	v, err := f.read(o)
	if err != nil {
		return types.WrapErr(err)
	}
	return o.in.vocab.registry.NativeToValue(v)
}

// IsSet implements [traits.FieldTester].
func (o *object) IsSet(fieldName ref.Val) ref.Val {
	name, ok := fieldName.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(fieldName)
	}
	f, ok := o.kind.fields[string(name)]
	if !ok {
		return types.NewErr("no such key: %s", string(name))
	}
	return types.Bool(f.typ.IsSet(o))
}

// headerMap is request headers to a rule: names in whatever case, values of a
// repeated name joined as RFC 9110 §5.3 joins them, so that a rule sees every
// value that the service might take.
type headerMap struct{ traits.Mapper }

func newHeaderMap(adapter types.Adapter, headers call.Headers) headerMap {
	m := make(map[string]string, len(headers))
	for _, h := range headers {
		name := strings.ToLower(h.Name)
		if slices.Contains(hiddenHeaders, name) {
			continue
		}
		if before, twice := m[name]; twice {
			m[name] = before + ", " + h.Value
		} else {
			m[name] = h.Value
		}
	}
	return headerMap{types.NewStringStringMap(adapter, m)}
}

func lowered(key ref.Val) ref.Val {
	if s, ok := key.(types.String); ok {
		return types.String(strings.ToLower(string(s)))
	}
	return key
}

// Find implements [traits.Mapper].
func (m headerMap) Find(key ref.Val) (ref.Val, bool) { return m.Mapper.Find(lowered(key)) }

// Get implements [traits.Indexer].
func (m headerMap) Get(key ref.Val) ref.Val { return m.Mapper.Get(lowered(key)) }

// Contains implements [traits.Container].
func (m headerMap) Contains(key ref.Val) ref.Val { return m.Mapper.Contains(lowered(key)) }
