package descriptor

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
)

const healthService = "grpc.health.v1.Health"

// serve runs a service whose reflection is registered by register, and returns
// a connection to it and a function that stops it.
func serve(t *testing.T, register func(*grpc.Server)) (*grpc.ClientConn, func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	healthv1.RegisterHealthServer(s, health.NewServer())
	register(s)
	served := make(chan struct{})
	go func() { defer close(served); _ = s.Serve(l) }()
	stop := func() { s.Stop(); <-served }
	t.Cleanup(stop)
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, stop
}

func v1(s *grpc.Server) {
	reflectionv1.RegisterServerReflectionServer(s, reflection.NewServerV1(reflection.ServerOptions{Services: s}))
}

func v1alpha(s *grpc.Server) {
	reflectionv1alpha.RegisterServerReflectionServer(s, reflection.NewServer(reflection.ServerOptions{Services: s}))
}

func TestReflection(t *testing.T) {
	for name, register := range map[string]func(*grpc.Server){"v1": v1, "v1alpha": v1alpha} {
		t.Run(name, func(t *testing.T) {
			conn, stop := serve(t, register)
			s := Reflected([]string{healthService})
			if _, err := s.Method(healthService + "/Check"); err == nil || !strings.Contains(err.Error(), "not answered yet") {
				t.Errorf("before: %v", err)
			}
			if s.Known() {
				t.Error("known before anything was asked")
			}
			if err := s.reflect(t.Context(), conn); err != nil {
				t.Fatal(err)
			}
			check(t, s)
			if _, err := s.Method(healthService + "/Nope"); err == nil {
				t.Error("a method that does not exist")
			}
			if _, err := s.Method("grpc.reflection.v1.ServerReflection/ServerReflectionInfo"); err == nil {
				t.Error("a method of a service that was not asked for")
			}
			stop()
			if err := s.reflect(t.Context(), conn); err == nil {
				t.Error("no error with the service away")
			}
			check(t, s) // the last good ones stay
		})
	}
}

func check(t *testing.T, s *Source) {
	t.Helper()
	m, err := s.Method(healthService + "/Check")
	if err != nil {
		t.Fatal(err)
	}
	if m.Input().Fields().ByName("service") == nil || m.Output().Fields().ByName("status") == nil || m.IsStreamingServer() {
		t.Errorf("method %v", m)
	}
	if m, err = s.Method(healthService + "/Watch"); err != nil || !m.IsStreamingServer() {
		t.Errorf("Watch: %v, %v", m, err)
	}
}

// What the caller is told must not name our insides; the log does.
func TestRefresh(t *testing.T) {
	conn, stop := serve(t, func(*grpc.Server) {}) // no reflection
	s := Reflected([]string{healthService})
	logs, log := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Refresh(ctx, conn, slog.New(slog.NewTextHandler(log, nil)))
		_ = log.Close()
	}()
	line := make([]byte, 4096)
	n, err := logs.Read(line)
	if err != nil || !strings.Contains(string(line[:n]), "nimplemented") || !strings.Contains(string(line[:n]), "again_in") {
		t.Errorf("logged %q, %v", line[:n], err)
	}
	go func() { _, _ = io.Copy(io.Discard, logs) }()
	if _, err := s.Method(healthService + "/Check"); err == nil || err.Error() != "the service's reflection does not answer" {
		t.Errorf("told %v", err)
	}
	cancel()
	<-done
	stop()

	conn, _ = serve(t, v1)
	ctx, cancel = context.WithCancel(t.Context())
	done = make(chan struct{})
	go func() { defer close(done); s.Refresh(ctx, conn, slog.New(slog.DiscardHandler)) }()
	for !s.Known() {
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-done
	check(t, s)
}

func TestFile(t *testing.T) {
	set := &descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{protodesc.ToFileDescriptorProto(healthv1.File_grpc_health_v1_health_proto)}}
	good, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	set.File[0].Dependency = []string{"missing.proto"}
	missing, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	s, err := File(file("good", good), []string{healthService})
	if err != nil {
		t.Fatal(err)
	}
	check(t, s)
	for name, tt := range map[string]struct{ path, service, says string }{
		"absent":      {filepath.Join(dir, "none"), healthService, "read descriptors"},
		"garbage":     {file("garbage", []byte("syntax = \"proto3\";")), healthService, "not a FileDescriptorSet"},
		"imports":     {file("missing", missing), healthService, "--include_imports"},
		"no service":  {file("good2", good), "shop.Shop", "there is no service shop.Shop"},
		"not service": {file("good3", good), "grpc.health.v1.HealthCheckRequest", "there is no service"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := File(tt.path, []string{tt.service}); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
}

func FuzzFile(f *testing.F) {
	set := &descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{protodesc.ToFileDescriptorProto(healthv1.File_grpc_health_v1_health_proto)}}
	good, err := proto.Marshal(set)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "set")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := File(path, []string{healthService}); err == nil {
			if _, err := s.Method(healthService + "/Nope"); err == nil {
				t.Fatal("a method that does not exist")
			}
		}
	})
}
