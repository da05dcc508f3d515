package app

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/demo/endpoint/ordersv1"
	"github.com/callgate/callgate/policies/suite"
)

// With descriptors at hand, a grpc connection's methods and fields are known to
// lint, and its requests to tests.
func TestInspectDescribed(t *testing.T) {
	dir := t.TempDir()
	file := ordersv1.File_callgate_demo_orders_v1_orders_proto
	set := &descriptorpb.FileDescriptorSet{}
	var add func(f protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i))
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	add(file)
	data, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	request, err := proto.Marshal(&ordersv1.GetOrderRequest{Id: "7"})
	if err != nil {
		t.Fatal(err)
	}
	framed := append([]byte{0, 0, 0, 0, byte(len(request))}, request...)
	for name, content := range map[string][]byte{"orders.pb": data, "get.bin": framed,
		"p.yaml": []byte(`
connections:
  - name: orders
    protocol: grpc
    match: {services: [callgate.demo.orders.v1.Orders]}
    upstream: {url: "https://orders.internal"}
    credential: {env: KEY}
    grpc: {descriptors: orders.pb}
    mask: [{name: m, paths: ["no.such.field"]}]
rules:
  - {name: get, functions: ["*/GetOrder"], action: allow, when: 'call.args.id == "7" && "support" in identity.groups'}
`),
		"p_test.yaml": []byte(`
tests:
  - name: get
    call: {request: {path: /callgate.demo.orders.v1.Orders/GetOrder, headers: {content-type: application/grpc, te: trailers}, body_file: get.bin}}
    identity: {subject: a, groups: [support]}
    expect: {decision: allow}
`)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := config.CheckPolicy(filepath.Join(dir, "p.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	compiled, err := InspectPolicy(p, config.Approvers{})
	if err != nil {
		t.Fatal(err)
	}
	found, err := LintPolicy(t.Context(), p, compiled, Around{}, time.Now())
	if err != nil || len(found) != 2 || !strings.Contains(fmt.Sprint(found), "no rule or grant of the policy can allow") || !strings.Contains(fmt.Sprint(found), `by path "no.such.field"`) {
		t.Errorf("%v %v", found, err)
	}
	tests, err := config.LoadTests(filepath.Join(dir, "p_test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := SuiteOf(t.Context(), p, compiled)
	if err != nil {
		t.Fatal(err)
	}
	report, err := suite.Run(t.Context(), cfg, tests)
	if err != nil {
		t.Fatal(err)
	}
	if r := report.Results[0]; !r.Passed() {
		t.Errorf("%v %v %+v", r.Differences, r.Err, r.Ruling)
	}
}
