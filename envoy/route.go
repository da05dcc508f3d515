package envoy

import (
	"regexp"
	"sort"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	// idle is how long a call may lie still, in either direction, where
	// nothing says that it may be slower.
	idle = time.Minute
	// streamIdle is the same for endless answers (timeout: 0s).
	streamIdle = time.Hour
	// margin is what waiting at one place is given over what it waits for.
	margin = 15 * time.Second
)

// entry is one route of a connection, with what orders it among the others.
type entry struct {
	own   bool // the connection names authorities
	match string
	route *routev3.Route
}

// addRoutes adds the route configuration. It is apart from the listener, so that
// a policy can change without a connection being drained.
func addRoutes(out *Resources, p plan) error {
	byDomain := map[string][]entry{"*": nil}
	for _, c := range p.connections {
		for _, d := range c.Match.Authorities {
			byDomain[strings.ToLower(d)] = nil
		}
	}
	for _, c := range p.connections {
		entries, err := routesOf(p, c)
		if err != nil {
			return err
		}
		// Envoy looks into one virtual host only, so connections for any
		// authority stand in all of them.
		domains := c.Match.Authorities
		if len(domains) == 0 {
			for d := range byDomain {
				domains = append(domains, d)
			}
		}
		for _, d := range domains {
			d = strings.ToLower(d)
			byDomain[d] = append(byDomain[d], entries...)
		}
	}
	config := &routev3.RouteConfiguration{Name: routesName, ValidateClusters: &wrapperspb.BoolValue{Value: false}}
	domains := make([]string, 0, len(byDomain))
	for d := range byDomain {
		domains = append(domains, d)
	}
	sort.Strings(domains)
	for _, d := range domains {
		entries := byDomain[d]
		sort.SliceStable(entries, func(i, j int) bool {
			if len(entries[i].match) != len(entries[j].match) {
				return len(entries[i].match) > len(entries[j].match)
			}
			return entries[i].own && !entries[j].own
		})
		host := &routev3.VirtualHost{Name: d, Domains: []string{d}}
		for _, e := range entries {
			host.Routes = append(host.Routes, e.route)
		}
		last, err := unknownRoute(p)
		if err != nil {
			return err
		}
		host.Routes = append(host.Routes, last)
		config.VirtualHosts = append(config.VirtualHosts, host)
	}
	out.Routes = append(out.Routes, config)
	return nil
}

// edited tells whether requests may be changed after they were judged.
func (c connection) edited() bool { return c.Batch.Accept || len(c.MaskRequests) > 0 }

func routesOf(p plan, c connection) ([]entry, error) {
	settings, err := checkOf(p, c.Name, c.Version, body(uint32(c.MaxBody)), c.hold, c.edited())
	if err != nil {
		return nil, err
	}
	filters := map[string]*anypb.Any{authzFilter: settings}
	if c.edited() {
		if filters[procFilter], err = editing(); err != nil {
			return nil, err
		}
	}
	var out []entry
	add := func(match *routev3.RouteMatch, text string, rewrite func(*routev3.RouteAction)) {
		action := &routev3.RouteAction{
			ClusterSpecifier:     &routev3.RouteAction_Cluster{Cluster: upstreamName(c.Name)},
			Timeout:              seconds(*c.Upstream.Timeout),
			IdleTimeout:          seconds(idleOf(c)),
			HostRewriteSpecifier: &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: c.upstream.String()},
			AppendXForwardedHost: true,
		}
		rewrite(action)
		out = append(out, entry{own: len(c.Match.Authorities) > 0, match: text, route: &routev3.Route{
			Name: c.Name, Match: match, Action: &routev3.Route_Route{Route: action},
			RequestHeadersToRemove: unreadable(c),
			TypedPerFilterConfig:   filters,
		}})
	}
	if c.Protocol == "grpc" {
		streaming, err := checkOf(p, c.Name, c.Version, nil, c.hold, c.edited())
		if err != nil {
			return nil, err
		}
		whole := filters
		filters = map[string]*anypb.Any{authzFilter: streaming}
		if c.edited() {
			if filters[procFilter], err = editingStream(); err != nil {
				return nil, err
			}
		}
		for _, m := range c.GRPC.Streaming {
			add(&routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: "/" + m}}, "/"+m, func(*routev3.RouteAction) {})
		}
		filters = whole
		for _, s := range c.Match.Services {
			add(&routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/" + s + "/"}}, "/"+s+"/", func(*routev3.RouteAction) {})
		}
		return out, nil
	}
	matched := strings.TrimSuffix(c.Match.Path, "/")
	if matched == "" {
		add(&routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}, "/", func(a *routev3.RouteAction) {
			if c.path != "" && c.path != "/" {
				a.PrefixRewrite = strings.TrimSuffix(c.path, "/") + "/"
			}
		})
		return out, nil
	}
	add(&routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: matched}}, matched, func(a *routev3.RouteAction) {
		switch to := strings.TrimSuffix(c.path, "/"); {
		case c.path == "" || to == matched:
		case to == "":
			// Taking the prefix off with prefix_rewrite would leave "//x".
			a.RegexRewrite = &matcherv3.RegexMatchAndSubstitute{
				Pattern: &matcherv3.RegexMatcher{Regex: "^" + regexp.QuoteMeta(matched) + "/?"}, Substitution: "/"}
		default:
			a.PrefixRewrite = to
		}
	})
	return out, nil
}

// unreadable are request headers that would make the function answer in a form
// that can't be masked.
func unreadable(c connection) []string {
	if !c.masked {
		return nil
	}
	return []string{"accept-encoding", "grpc-accept-encoding", "range", "if-range"}
}

// idleOf is how long a call of a connection may lie still: as long as it may be
// held, and as long as its function may take.
func idleOf(c connection) time.Duration {
	function := *c.Upstream.Timeout
	if function == 0 {
		function = streamIdle
	}
	return max(idle, c.hold+margin, function+margin)
}

// unknownRoute takes what no connection does. It goes through ext_authz too, so
// that it is denied in the caller's terms and leaves a row.
func unknownRoute(p plan) (*routev3.Route, error) {
	settings, err := checkOf(p, "", "", body(defaultBody), 0, false)
	if err != nil {
		return nil, err
	}
	return &routev3.Route{
		Name:  unknownName,
		Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 404,
			Body: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: "no connection of Callgate takes this request"}}}},
		TypedPerFilterConfig: map[string]*anypb.Any{authzFilter: settings},
	}, nil
}
