package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/callgate/callgate/demo"
	"github.com/callgate/callgate/envoy/local"
)

// plainEnvoy is an Envoy with one route and, where authz is set, one ext_authz
// filter: the floor, and the peer's way of being used.
const plainEnvoy = `
static_resources:
  listeners:
    - name: l
      address: {socket_address: {address: 127.0.0.1, port_value: %[1]s}}
      filter_chains:
        - filters:
            - name: hcm
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: bench
                route_config:
                  virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: upstream}}]}]
                http_filters:
%[2]s                  - name: router
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
    - name: upstream
      load_assignment: {cluster_name: upstream, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %[3]s}}}}]}]}
%[4]s`

const authzFilter = `                  - name: ext_authz
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
                      transport_api_version: V3
                      grpc_service: {envoy_grpc: {cluster_name: authz}, timeout: 2s}
                      with_request_body: {max_request_bytes: 1048576}
`

const authzCluster = `    - name: authz
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {http2_protocol_options: {}}
      load_assignment: {cluster_name: authz, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %s}}}}]}]}
`

// upstream answers every request with the same small JSON.
func upstream() (addr string, stop func() error, err error) {
	return upstreamOf([]byte(`{"id":"re_10293","status":"accepted","amount":42,"currency":"EUR","customer":"c-1029"}`))
}

func upstreamOf(answer []byte) (addr string, stop func() error, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	srv := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("content-type", "application/json")
		_, _ = w.Write(answer)
	})}
	go func() { _ = srv.Serve(l) }()
	return l.Addr().String(), srv.Close, nil
}

// httpSubject measures calls through an Envoy.
func httpSubject(name, addr string, pids []int, token string) subject {
	return subject{name: name, run: func(ctx context.Context) (sample, error) {
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: inFlight, MaxConnsPerHost: inFlight}, Timeout: 10 * time.Second}
		defer client.CloseIdleConnections()
		b := body()
		return load(ctx, time.Second, 3*time.Second, pids, func(int, int64) error {
			req, err := http.NewRequest(http.MethodPost, "http://"+addr+"/crm/refunds", bytes.NewReader(b))
			if err != nil {
				return err
			}
			req.Header.Set("content-type", "application/json")
			req.Header.Set("authorization", "Bearer "+token)
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			got, err := io.ReadAll(resp.Body)
			if err := errors.Join(err, resp.Body.Close()); err != nil {
				return err
			}
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("status %d: %s", resp.StatusCode, got)
			}
			return nil
		})
	}}
}

func (r *rig) startPlainEnvoy(ctx context.Context, binary, name, upstream, authz string) (*process, string, error) {
	addr, err := demo.FreeAddr()
	if err != nil {
		return nil, "", err
	}
	filter, cluster := "", ""
	if authz != "" {
		filter, cluster = authzFilter, fmt.Sprintf(authzCluster, port(authz))
	}
	file := filepath.Join(r.dir, name+".yaml")
	if err := os.WriteFile(file, []byte(fmt.Sprintf(plainEnvoy, port(addr), filter, port(upstream), cluster)), 0o600); err != nil {
		return nil, "", fmt.Errorf("write Envoy's configuration: %w", err)
	}
	p, err := r.launch(ctx, addr, nil, binary, "-c", file, "--use-dynamic-base-id", "--log-level", "error", "--concurrency", "2")
	return p, addr, err
}

func port(addr string) string {
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		panic("bench: " + err.Error())
	}
	return p
}

func findEnvoy(ctx context.Context) (string, error) {
	return local.Find(ctx, func(line string) { fmt.Println(line) })
}

func benchEnvoy(ctx context.Context) ([]row, error) {
	rig, err := newRig(ctx)
	if err != nil {
		return nil, err
	}
	defer rig.close()
	binary, err := findEnvoy(ctx)
	if err != nil {
		return nil, err
	}
	up, stop, err := upstream()
	if err != nil {
		return nil, err
	}
	defer stop()
	if err := rig.startOPA(ctx); err != nil {
		return nil, err
	}
	plain, plainAddr, err := rig.startPlainEnvoy(ctx, binary, "plain", up, "")
	if err != nil {
		return nil, err
	}
	peer, peerAddr, err := rig.startPlainEnvoy(ctx, binary, "opa", up, rig.opaAddr)
	if err != nil {
		return nil, err
	}
	full, fullAddr, err := rig.startCallgateEnvoy(ctx, binary, up)
	if err != nil {
		return nil, err
	}
	token, err := rig.issuer.token(0)
	if err != nil {
		return nil, err
	}
	got, err := measure(ctx, rounds, []subject{
		httpSubject("plain", plainAddr, []int{plain.pid()}, token),
		httpSubject("envoy", fullAddr, []int{full.pid(), rig.callgate.pid()}, token),
		httpSubject("envoy_opa", peerAddr, []int{peer.pid(), rig.opa.pid()}, token),
	})
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, rig.tail())
	}
	rows := []row{
		ratio("envoy_vs_plain", "ratio of calls/s", "the same Envoy with no filters", got["envoy"], got["plain"], rate),
		ratio("envoy_vs_opa", "ratio of calls/s", "the same Envoy with opa-envoy-plugin alone", got["envoy"], got["envoy_opa"], rate),
	}
	for _, name := range []string{"plain", "envoy", "envoy_opa"} {
		rows = append(rows, figures(name, got[name])...)
	}
	return rows, nil
}

// startCallgateEnvoy starts Callgate with all roles and an Envoy that gets
// everything from it.
func (r *rig) startCallgateEnvoy(ctx context.Context, binary, upstream string) (*process, string, error) {
	addr, err := demo.FreeAddr()
	if err != nil {
		return nil, "", err
	}
	xds, err := demo.FreeAddr()
	if err != nil {
		return nil, "", err
	}
	file, err := r.config(addr, xds, "http://"+upstream)
	if err != nil {
		return nil, "", err
	}
	bin := filepath.Join(r.dir, "callgate")
	env := []string{"BENCH_CREDENTIAL=k"}
	if r.callgate, err = r.launch(ctx, r.callgateAddr, env, bin, "serve", "-c", file); err != nil {
		return nil, "", err
	}
	bootstrap, err := output(ctx, bin, "envoy", "bootstrap", "--admin", "", "-c", file)
	if err != nil {
		return nil, "", err
	}
	envoyFile := filepath.Join(r.dir, "callgate-envoy.yaml")
	if err := os.WriteFile(envoyFile, bootstrap, 0o600); err != nil {
		return nil, "", fmt.Errorf("write Envoy's bootstrap: %w", err)
	}
	p, err := r.launch(ctx, addr, nil, binary, "-c", envoyFile, "--use-dynamic-base-id", "--log-level", "error", "--concurrency", "2")
	return p, addr, err
}
