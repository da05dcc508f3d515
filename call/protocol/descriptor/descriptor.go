// Package descriptor keeps the protobuf descriptors of a gRPC connection, from
// a file or from the service's own reflection (v1, or v1alpha where it has no
// v1), and the last good ones while the service is away.
package descriptor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jhump/protoreflect/v2/grpcreflect"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Source finds the methods of a connection's services.
type Source struct {
	services []string
	methods  atomic.Pointer[map[string]protoreflect.MethodDescriptor]
	failed   atomic.Pointer[string] // why there are none yet
}

// File reads a FileDescriptorSet (protoc --include_imports --descriptor_set_out)
// and checks that it has the services.
func File(path string, services []string) (*Source, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read descriptors: %w", err)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("read descriptors %s: not a FileDescriptorSet: %w", path, err)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		return nil, fmt.Errorf("read descriptors %s: %w; write them with --include_imports", path, err)
	}
	s := &Source{services: services}
	methods := map[string]protoreflect.MethodDescriptor{}
	for _, name := range services {
		d, err := files.FindDescriptorByName(protoreflect.FullName(name))
		service, is := d.(protoreflect.ServiceDescriptor)
		if err != nil || !is {
			return nil, fmt.Errorf("read descriptors %s: there is no service %s in it", path, name)
		}
		add(methods, service)
	}
	s.methods.Store(&methods)
	return s, nil
}

// Reflected returns a Source that [Source.Refresh] fills from the service.
func Reflected(services []string) *Source {
	s := &Source{services: services}
	why := "the service's reflection has not answered yet"
	s.failed.Store(&why)
	return s
}

func add(methods map[string]protoreflect.MethodDescriptor, service protoreflect.ServiceDescriptor) {
	for i := range service.Methods().Len() {
		m := service.Methods().Get(i)
		methods[string(service.FullName())+"/"+string(m.Name())] = m
	}
}

// Method returns "pkg.Service/Method".
func (s *Source) Method(name string) (protoreflect.MethodDescriptor, error) {
	methods := s.methods.Load()
	if methods == nil {
		return nil, errors.New(*s.failed.Load())
	}
	if m, ok := (*methods)[name]; ok {
		return m, nil
	}
	return nil, errors.New("the descriptors have no such method")
}

// Methods lists the methods by name; none while they are not known.
func (s *Source) Methods() map[string]protoreflect.MethodDescriptor {
	methods := s.methods.Load()
	if methods == nil {
		return nil
	}
	return maps.Clone(*methods)
}

// Reflection is read again this often, since a service may be deployed anew
// under us, and a request with a field that we do not know is refused.
const (
	refreshEvery   = time.Minute
	reflectTimeout = 10 * time.Second
)

// Refresh asks the service for its descriptors, again and again until ctx ends.
func (s *Source) Refresh(ctx context.Context, conn grpc.ClientConnInterface, log *slog.Logger) {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = 100*time.Millisecond, 30*time.Second
	for {
		wait := refreshEvery
		if err := s.reflect(ctx, conn); err != nil && ctx.Err() == nil {
			wait = retry.NextBackOff()
			// The caller is told this; the error names our insides.
			why := "the service's reflection does not answer"
			s.failed.Store(&why)
			log.WarnContext(ctx, "reading descriptors by reflection; the last ones stay in use", "services", s.services, "error", err, "again_in", wait)
		} else {
			retry.Reset()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (s *Source) reflect(ctx context.Context, conn grpc.ClientConnInterface) error {
	ctx, cancel := context.WithTimeout(ctx, reflectTimeout)
	defer cancel()
	client := grpcreflect.NewClientAuto(ctx, conn)
	defer client.Reset()
	methods := map[string]protoreflect.MethodDescriptor{}
	for _, name := range s.services {
		file, err := client.FileContainingSymbol(protoreflect.FullName(name))
		if err != nil {
			return fmt.Errorf("service %s: %w", name, err)
		}
		var service protoreflect.ServiceDescriptor
		for i := range file.Services().Len() {
			if sd := file.Services().Get(i); string(sd.FullName()) == name {
				service = sd
			}
		}
		if service == nil {
			return fmt.Errorf("service %s is not in the file that reflection gave", name)
		}
		add(methods, service)
	}
	s.methods.Store(&methods)
	return nil
}

// Known reports whether there are descriptors yet.
func (s *Source) Known() bool { return s.methods.Load() != nil }
