package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/callgate/callgate/demo"
)

// rig holds the servers under measurement and their files.
type rig struct {
	dir    string
	issuer *issuer
	log    *os.File

	floor, callgate, opa             *process
	floorAddr, callgateAddr, opaAddr string
	running                          []*process
	mask                             string // of the connection, in YAML
	// connections of ten rules each; 0 and 1 are one, without a name in its rules.
	connections int
}

func newRig(ctx context.Context) (*rig, error) {
	dir, err := os.MkdirTemp("", "callgate-bench-")
	if err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	r := &rig{dir: dir}
	if r.log, err = os.Create(filepath.Join(dir, "servers.log")); err != nil {
		return nil, errors.Join(err, r.close())
	}
	if r.issuer, err = newIssuer(); err != nil {
		return nil, errors.Join(err, r.close())
	}
	if err := build(ctx, ".", filepath.Join(dir, "callgate"), "./cmd/callgate"); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// build compiles a program; module is the folder of its go.mod.
func build(ctx context.Context, module, out, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", out, pkg)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, msg)
	}
	return nil
}

func (r *rig) launch(ctx context.Context, addr string, env []string, name string, args ...string) (*process, error) {
	p, err := start(ctx, addr, env, r.log, name, args...)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, r.tail())
	}
	r.running = append(r.running, p)
	return p, nil
}

func (r *rig) startFloor(ctx context.Context) (err error) {
	if r.floorAddr, err = demo.FreeAddr(); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r.floor, err = r.launch(ctx, r.floorAddr, nil, self, "serve-floor", r.floorAddr)
	return err
}

// config writes Callgate's configuration for the load and returns its file.
func (r *rig) config(envoyAddr, xdsAddr, upstream string) (string, error) {
	var err error
	if r.callgateAddr, err = demo.FreeAddr(); err != nil {
		return "", err
	}
	connections, rules, _ := moreConnections(r.connections)
	text := fmt.Sprintf(`
state_dir: %s
listen: {grpc: %q, xds: %q, console: "127.0.0.1:0", metrics: "127.0.0.1:0"}
log: {level: warn}
envoy: {listen: %q}
identity:
  issuers: [{url: %q, audiences: [callgate], algorithms: [RS256]}]
connections:
  - name: crm
    protocol: http
    match: {path: /crm}
    upstream: {url: %q}
    functions: [{name: refunds.create, method: POST, path: /refunds}]
    credential: {env: BENCH_CREDENTIAL}
%s`, filepath.Join(r.dir, "state"), r.callgateAddr, xdsAddr, envoyAddr, r.issuer.url, upstream, r.mask) + connections + tenRules + rules
	file := filepath.Join(r.dir, "callgate.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("write configuration: %w", err)
	}
	return file, nil
}

func (r *rig) startCallgate(ctx context.Context, roles string) error {
	file, err := r.config("127.0.0.1:10000", "127.0.0.1:0", "http://127.0.0.1:9")
	if err != nil {
		return err
	}
	r.callgate, err = r.launch(ctx, r.callgateAddr, []string{"BENCH_CREDENTIAL=k"}, filepath.Join(r.dir, "callgate"), "serve", "-c", file, "--roles", roles)
	return err
}

// startOPA builds the peer from the module that bench/opa pins and runs it
// with the same policy in Rego.
func (r *rig) startOPA(ctx context.Context) (err error) {
	bin := filepath.Join(r.dir, "opa-envoy")
	if err := build(ctx, filepath.Join("bench", "opa"), bin, "github.com/open-policy-agent/opa-envoy-plugin/cmd/opa-envoy-plugin"); err != nil {
		return err
	}
	if err := opaFiles(r.dir, r.issuer, r.connections); err != nil {
		return err
	}
	if r.opaAddr, err = demo.FreeAddr(); err != nil {
		return err
	}
	r.opa, err = r.launch(ctx, r.opaAddr, nil, bin, "run", "--server", "--addr=localhost:0", "--log-level=error", "--disable-telemetry",
		"--set=plugins.envoy_ext_authz_grpc.addr="+r.opaAddr, "--set=plugins.envoy_ext_authz_grpc.path=envoy/authz/allow",
		filepath.Join(r.dir, "policy.rego"), filepath.Join(r.dir, "data.json"))
	return err
}

// tail is the end of what the servers logged.
func (r *rig) tail() string {
	data, err := os.ReadFile(r.log.Name())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

func (r *rig) close() error {
	var errs []error
	for _, p := range r.running {
		errs = append(errs, p.stop())
	}
	if r.issuer != nil {
		errs = append(errs, r.issuer.close())
	}
	if r.log != nil {
		errs = append(errs, r.log.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(r.dir))...)
}
