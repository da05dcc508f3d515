package envoy

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/callgate/callgate/config"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func input(t *testing.T, file string) Input {
	t.Helper()
	policy, err := config.CheckPolicy(file)
	if err != nil {
		t.Fatal(err)
	}
	// The version hashes absolute paths of files, which differ by machine.
	policy.Version = "v1"
	in := Input{Settings: config.Envoy{Listen: "0.0.0.0:10000", Services: "127.0.0.1:9191", DecideTimeout: 2 * time.Second,
		TLS: config.TLS{CertFile: "cert", KeyFile: "key"}}, Policy: policy, Files: map[string][]byte{"cert": []byte("CERT"), "key": []byte("KEY")}}
	for _, f := range FilesOf(in.Settings, policy) {
		if strings.HasSuffix(f, "ca.pem") {
			in.Files[f] = []byte("CA")
		}
	}
	return in
}

// Every resource that a configuration becomes, held fast. A change here is a
// change of the data path: read it line by line.
func TestGolden(t *testing.T) {
	for _, name := range []string{"all", "empty"} {
		t.Run(name, func(t *testing.T) {
			got, err := Build(input(t, filepath.Join("testdata", name+".yaml")))
			if err != nil {
				t.Fatal(err)
			}
			for kind, list := range map[string][]proto.Message{"listeners": got.Listeners, "routes": got.Routes,
				"clusters": got.Clusters, "endpoints": got.Endpoints, "secrets": got.Secrets} {
				golden(t, filepath.Join("testdata", name+"."+kind+".json"), list)
			}
		})
	}
}

func golden(t *testing.T, file string, list []proto.Message) {
	t.Helper()
	var buf bytes.Buffer
	for _, m := range list {
		raw, err := protojson.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var tree any // protojson's own layout differs from build to build
		if err := json.Unmarshal(raw, &tree); err != nil {
			t.Fatal(err)
		}
		text, err := json.MarshalIndent(tree, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		buf.Write(append(text, '\n'))
	}
	if *update {
		if err := os.WriteFile(file, buf.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; run make golden", err)
	}
	if !bytes.Equal(buf.Bytes(), want) {
		t.Errorf("%s: differs from what was built; look at the change with make golden and git diff", file)
	}
}

// The services are reached over mutual TLS, by files on Envoy's host.
func TestServicesOverTLS(t *testing.T) {
	in := input(t, "testdata/empty.yaml")
	in.Settings.Services = "callgate.internal:9191"
	in.Settings.ServicesTLS = config.TowardsServices{CertFile: "/etc/envoy/edge.crt", KeyFile: "/etc/envoy/edge.key", CAFile: "/etc/envoy/services-ca.pem"}
	got, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("testdata", "services_tls.clusters.json"), got.Clusters)
	golden(t, filepath.Join("testdata", "services_tls.secrets.json"), got.Secrets)
	// A literal address is told by the certificate's addresses, without SNI.
	in.Settings.Services, in.Settings.ServicesTLS.ServerName = "10.0.0.1:9191", ""
	if got, err = Build(in); err != nil {
		t.Fatal(err)
	}
	var context tlsv3.UpstreamTlsContext
	if err := got.Clusters[0].(*clusterv3.Cluster).GetTransportSocket().GetTypedConfig().UnmarshalTo(&context); err != nil {
		t.Fatal(err)
	}
	name := context.GetCommonTlsContext().GetCombinedValidationContext().GetDefaultValidationContext().GetMatchTypedSubjectAltNames()[0]
	if context.GetSni() != "" || name.GetSanType() != tlsv3.SubjectAltNameMatcher_IP_ADDRESS || name.GetMatcher().GetExact() != "10.0.0.1" {
		t.Errorf("by an address: SNI %q, %v", context.GetSni(), name)
	}
}

// The same input must give the same bytes, or Envoy would be told of changes
// that are none.
func TestDeterministic(t *testing.T) {
	first, err := Build(input(t, "testdata/all.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		again, err := Build(input(t, "testdata/all.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range first.Routes {
			if !proto.Equal(first.Routes[i], again.Routes[i]) {
				t.Fatal("routes differ from build to build")
			}
		}
		for i := range first.Listeners {
			if !proto.Equal(first.Listeners[i], again.Listeners[i]) {
				t.Fatal("listeners differ from build to build")
			}
		}
	}
}

// A policy edit must not touch the listener: Envoy would drain its connections.
func TestPolicyLeavesListener(t *testing.T) {
	in := input(t, "testdata/all.yaml")
	before, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	in.Policy.Version = "v2"
	in.Policy.Rules = append(in.Policy.Rules, config.Rule{Name: "new", Action: "deny"})
	after, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(before.Listeners[0], after.Listeners[0]) {
		t.Error("an edited rule changed the listener")
	}
	if proto.Equal(before.Routes[0], after.Routes[0]) {
		t.Error("an edited rule did not reach the routes, which name the policy's version")
	}
}

// The most specific route must stand first, and every host must end by asking
// about what no connection takes.
func TestRouteOrder(t *testing.T) {
	got, err := Build(input(t, "testdata/all.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range got.Routes[0].(*routev3.RouteConfiguration).VirtualHosts {
		var names []string
		for _, r := range host.Routes {
			names = append(names, r.Name)
		}
		if last := names[len(names)-1]; last != unknownName {
			t.Errorf("host %s ends with %s", host.Name, last)
		}
		want := "orders orders search crm tools ledger unknown"
		if host.Name == "*" {
			want = "orders orders search tools ledger unknown"
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("host %s: %s, want %s", host.Name, got, want)
		}
	}
}

func TestBuildErrors(t *testing.T) {
	in := input(t, "testdata/all.yaml")
	in.Files = nil
	if _, err := Build(in); err == nil || !strings.Contains(err.Error(), "was not read") {
		t.Errorf("missing files: %v", err)
	}
	in = input(t, "testdata/all.yaml")
	in.Settings.Services = "nowhere"
	if _, err := Build(in); err == nil || !strings.Contains(err.Error(), "envoy.services") {
		t.Errorf("bad services: %v", err)
	}
}

func TestSupported(t *testing.T) {
	for version, want := range map[string]string{
		"1.40.0": "", "1.40.2": "", "1.39.3": "", "1.41.0": "", "1.40.0-dev": "", "2.0.0": "",
		"1.39.2": "lacks security fixes; use 1.39.3", "1.37.9": "too old", "1.22.0": "too old", "new": "not of the form", "1.40": "not of the form",
	} {
		err := Supported(version)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", version, err, want)
		}
	}
}

func TestBootstrapNamesOnlyTheControlPlane(t *testing.T) {
	b, err := Bootstrap(BootstrapConfig{Node: "edge-1", XDS: "127.0.0.1:18000"})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Node   struct{ ID string }
		Admin  any
		Static struct {
			Clusters  []struct{ Name string }
			Listeners []any
		} `json:"static_resources"`
		Dynamic struct {
			ADS struct {
				Type string `json:"api_type"`
			} `json:"ads_config"`
		} `json:"dynamic_resources"`
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if got.Node.ID != "edge-1" || got.Admin != nil || len(got.Static.Clusters) != 1 || got.Static.Clusters[0].Name != "xds" ||
		len(got.Static.Listeners) != 0 || got.Dynamic.ADS.Type != "DELTA_GRPC" {
		t.Errorf("bootstrap: %s", b)
	}
}

// The bootstrap of an Envoy that shows a certificate to a control plane that it
// verifies.
func TestBootstrapOverTLS(t *testing.T) {
	b, err := Bootstrap(BootstrapConfig{Node: "edge-1", XDS: "control.internal:18000", Admin: "127.0.0.1:9901",
		TLS: BootstrapTLS{CertFile: "/etc/envoy/edge.crt", KeyFile: "/etc/envoy/edge.key", CAFile: "/etc/envoy/fleet-ca.pem"}})
	if err != nil {
		t.Fatal(err)
	}
	got := new(bootstrapv3.Bootstrap)
	if err := protojson.Unmarshal(b, got); err != nil {
		t.Fatal(err)
	}
	if err := got.ValidateAll(); err != nil {
		t.Error(err)
	}
	golden(t, filepath.Join("testdata", "bootstrap.tls.json"), []proto.Message{got})
	if _, err := Bootstrap(BootstrapConfig{Node: "edge-1", XDS: "control.internal:18000", TLS: BootstrapTLS{CertFile: "a"}}); err == nil {
		t.Error("a certificate without its key")
	}
}
