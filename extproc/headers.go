package extproc

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extproc/mask"
)

// maskHeaders hides what headers or trailers say, and changes h, which is
// recorded, likewise. mutation may be nil where nothing is to be done.
func (r *response) maskHeaders(h call.Headers, mutation *extprocv3.HeaderMutation) (call.Headers, *extprocv3.HeaderMutation, error) {
	if r.masker == nil {
		return h, mutation, nil
	}
	if mutation == nil {
		mutation = &extprocv3.HeaderMutation{}
	}
	var out call.Headers
	changed := map[string]bool{}
	for _, f := range h {
		switch {
		case strings.HasPrefix(f.Name, ":"), slices.Contains(validators, f.Name), r.meta.Protocol == call.GRPC && f.Name == "grpc-message":
			out = append(out, f)
			continue
		case strings.HasSuffix(f.Name, "-bin"):
			// By gRPC's convention, which others took over, a message of a type that
			// nobody here knows.
			changed[f.Name] = true
			r.inHeaders = append(r.inHeaders, r.binary(f.Name))
			continue
		case numbered(f.Name):
			_, found, err := r.masker.String("", f.Name)
			if err != nil {
				return nil, nil, fmt.Errorf("the name of a header can't be masked: %w", err)
			}
			if len(found) > 0 { // another name would be another header
				for i := range found {
					found[i].Path = "header"
				}
				r.inHeaders = append(r.inHeaders, found...)
				changed[f.Name] = true
				continue
			}
		}
		value, found, drop, err := r.masker.Header(f.Name, f.Value)
		if err != nil {
			return nil, nil, fmt.Errorf("the header %s can't be masked: %w", f.Name, err)
		}
		for i := range found {
			found[i].Path = "header." + f.Name
		}
		r.inHeaders = append(r.inHeaders, found...)
		changed[f.Name] = changed[f.Name] || drop || value != f.Value
		if !drop {
			out = append(out, call.Header{Name: f.Name, Value: value})
		}
	}
	for name := range changed {
		if !changed[name] {
			continue
		}
		values := out.Values(name)
		if len(values) == 0 {
			mutation.RemoveHeaders = append(mutation.RemoveHeaders, name)
		}
		for i, v := range values {
			set := header(name, v)
			if i > 0 { // the first one took the place of all that were there
				set.AppendAction = corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD
			}
			mutation.SetHeaders = append(mutation.SetHeaders, set)
		}
	}
	return out, mutation, nil
}

// binary is a finding for a header that is removed, since nothing can search it.
func (r *response) binary(name string) mask.Finding {
	f := mask.Finding{Type: "binary", Path: "header." + name, Count: 1}
	if len(r.meta.Mask.Rules) > 0 { // of a batch each call has its own
		f.Rule = r.meta.Mask.Rules[0].Name
	}
	return f
}

// numbered tells whether a header's name has so many digits that it may say a value
// itself; others are only names.
func numbered(name string) bool {
	n := 0
	for _, c := range []byte(name) {
		if '0' <= c && c <= '9' {
			n++
		}
	}
	return n >= 8
}

// findings are all that was hidden of the response.
func (r *response) findings() []mask.Finding {
	return slices.Concat(r.flow.findings(), r.inHeaders, r.inStatus)
}

// merged is both mutations in one.
func merged(a, b *extprocv3.HeaderMutation) *extprocv3.HeaderMutation {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	return &extprocv3.HeaderMutation{SetHeaders: slices.Concat(a.GetSetHeaders(), b.GetSetHeaders()), RemoveHeaders: slices.Concat(a.GetRemoveHeaders(), b.GetRemoveHeaders())}
}
