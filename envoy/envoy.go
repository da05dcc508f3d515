// Package envoy turns Callgate's configuration into Envoy's: listeners, routes,
// clusters, endpoints and secrets, all of which travel over xDS, and the
// bootstrap that names only where xDS is.
//
// Its functions are pure: the same input gives the same resources, which golden
// files hold fast.
package envoy

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/callgate/callgate/config"
)

// Input is what resources are built from.
type Input struct {
	Settings config.Envoy
	Policy   config.Policy
	// Files holds the contents of the certificate files that the settings
	// and connections name, by path.
	Files map[string][]byte
}

// Resources are all that an Envoy gets, by kind.
type Resources struct {
	Listeners, Routes, Clusters, Endpoints, Secrets []proto.Message
}

// Names of resources that more than one part refers to.
const (
	listenerName   = "callgate"
	routesName     = "callgate"
	listenerSecret = "listener"
	clientsSecret  = "clients"              // whose certificates callers may show
	servicesCert   = "services_certificate" // what Envoys show the services
	servicesCA     = "services_ca"
	servicesName   = "callgate_services" // ext_authz without holds, ext_proc, access log
	holdName       = "callgate_hold"     // ext_authz of connections whose calls can be held
	unknownName    = "unknown"           // route of requests that no connection takes
)

// Build makes the resources of a configuration.
func Build(in Input) (Resources, error) {
	p, err := newPlan(in)
	if err != nil {
		return Resources{}, err
	}
	var out Resources
	for _, step := range []func(*Resources, plan) error{addServices, addConnections, addRoutes, addListener} {
		if err := step(&out, p); err != nil {
			return Resources{}, err
		}
	}
	return out, nil
}

// FilesOf lists the files whose contents [Build] needs.
func FilesOf(settings config.Envoy, policy config.Policy) []string {
	var out []string
	if settings.TLS.CertFile != "" {
		out = append(out, settings.TLS.CertFile, settings.TLS.KeyFile)
	}
	if settings.TLS.ClientCAFile != "" {
		out = append(out, settings.TLS.ClientCAFile)
	}
	for _, c := range policy.Connections {
		if c.Upstream.CAFile != "" {
			out = append(out, c.Upstream.CAFile)
		}
	}
	return out
}

// packed wraps a typed configuration.
func packed(m proto.Message) (*anypb.Any, error) {
	a := new(anypb.Any)
	// Deterministic, so that equal configuration has equal bytes and xDS can
	// tell that nothing changed.
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		return nil, fmt.Errorf("pack %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return a, nil
}

func seconds(d time.Duration) *durationpb.Duration { return durationpb.New(d) }
