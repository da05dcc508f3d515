package extproc

import (
	"strings"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/callgate/callgate/call"
)

// private keeps caches from giving one caller what another got, where that
// differs: a response becomes private (RFC 9111 §5.2.2.7), whatever the function
// says, and a cache of one user's own knows it by the token. h, which is recorded,
// is changed likewise.
func (r *response) private(h call.Headers, mutation *extprocv3.HeaderMutation) (call.Headers, *extprocv3.HeaderMutation) {
	if !r.meta.Response.Private {
		return h, mutation
	}
	if mutation == nil {
		mutation = &extprocv3.HeaderMutation{}
	}
	set := func(name, value string) {
		if values := h.Values(name); len(values) == 1 && values[0] == value {
			return
		}
		kept := make(call.Headers, 0, len(h)+1)
		for _, f := range h {
			if f.Name != name {
				kept = append(kept, f)
			}
		}
		h = append(kept, call.Header{Name: name, Value: value})
		mutation.SetHeaders = append(mutation.SetHeaders, header(name, value))
	}
	set("cache-control", privately(h.Values("cache-control")))
	if vary := strings.Join(h.Values("vary"), ", "); !listsToken(vary, "*") && !listsToken(vary, "authorization") {
		set("vary", strings.TrimPrefix(vary+", authorization", ", "))
	}
	kept := h[:0:0]
	for _, f := range h {
		// Those that are for some caches alone go before cache-control there
		// (RFC 9213, and before).
		if strings.HasSuffix(f.Name, "-cache-control") || f.Name == "surrogate-control" {
			mutation.RemoveHeaders = append(mutation.RemoveHeaders, f.Name)
			continue
		}
		kept = append(kept, f)
	}
	return kept, mutation
}

// privately is what a function says to caches, for private ones alone.
func privately(values []string) string {
	var out []string
	for _, d := range directives(strings.Join(values, ",")) {
		name, _, _ := strings.Cut(d, "=")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "public", "s-maxage", "proxy-revalidate", "private":
		default:
			out = append(out, d)
		}
	}
	return strings.Join(append([]string{"private"}, out...), ", ")
}

// directives splits a list whose members may have quoted values with commas.
func directives(list string) []string {
	var out []string
	quoted, from := false, 0
	take := func(to int) {
		if d := strings.TrimSpace(list[from:to]); d != "" {
			out = append(out, d)
		}
		from = to + 1
	}
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			take(i)
		}
	}
	if from < len(list) {
		take(len(list))
	}
	return out
}

func listsToken(list, token string) bool {
	for _, d := range directives(list) {
		if strings.EqualFold(d, token) {
			return true
		}
	}
	return false
}
