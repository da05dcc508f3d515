package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	procv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/redact"
	"github.com/callgate/callgate/extproc"
)

// unrecorded takes events and keeps none: what is measured is the way to it.
type unrecorded struct{}

func (unrecorded) Record(context.Context, call.Event) error { return nil }
func (unrecorded) Add(call.Event) bool                      { return true }

// maskCopy sends the same response through the same ext_proc with a mask and
// without one, as Envoy would, and compares the CPU that both ends need.
func maskCopy(ctx context.Context) (rows []row, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	key := make([]byte, redact.MinKey)
	hide, err := redact.New(key)
	if err != nil {
		return nil, err
	}
	srv := grpc.NewServer()
	procv3.RegisterExternalProcessorServer(srv, extproc.New(extproc.Config{Recorder: unrecorded{}, Backlog: unrecorded{}, HashKey: key, Redact: hide,
		MaxResponse: 64 << 20, Memory: 1 << 30, Log: slog.New(slog.DiscardHandler), Metrics: extproc.NewMetrics(prometheus.NewRegistry())}))
	go func() { _ = srv.Serve(l) }()
	defer srv.Stop()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	client := procv3.NewExternalProcessorClient(conn)

	body := maskBody(1<<20, 0)
	got := map[string][]float64{}
	for range rounds {
		for name, rules := range map[string][]call.MaskRule{"copied": nil, "masked": {{Name: "all", Detect: []string{"all"}}}} {
			v, err := perCore(len(body), func() error { return exchange(ctx, client, rules, body) })
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			got[name] = append(got[name], v)
		}
	}
	compared := make([]float64, rounds)
	for i := range compared {
		compared[i] = got["masked"][i] / got["copied"][i]
	}
	return []row{
		newRow("mask_vs_copy", "ratio of MB/s", "the same 1 MB through the same ext_proc without a mask, both ends counted", compared),
		newRow("mask_extproc_masked_mb_s", "MB/s a core", "both ends of the stream", got["masked"]),
		newRow("mask_extproc_copied_mb_s", "MB/s a core", "both ends of the stream", got["copied"]),
	}, nil
}

// exchange plays Envoy for one response.
func exchange(ctx context.Context, client procv3.ExternalProcessorClient, rules []call.MaskRule, body []byte) error {
	id, err := call.NewID()
	if err != nil {
		return err
	}
	data, err := json.Marshal(call.Metadata{CallID: id, Outcome: call.Allow, Connection: "crm", Protocol: call.HTTP, Function: "f",
		Mask: call.Mask{Rules: rules}, Record: call.RecordSettings{Response: call.RecordOff}, MaxResponse: 64 << 20})
	if err != nil {
		return err
	}
	meta := new(structpb.Struct)
	if err := meta.UnmarshalJSON(data); err != nil {
		return err
	}
	stream, err := client.Process(ctx)
	if err != nil {
		return err
	}
	header := func(k, v string) *corev3.HeaderValue { return &corev3.HeaderValue{Key: k, RawValue: []byte(v)} }
	sent := make(chan error, 1)
	go func() {
		sent <- func() error {
			err := stream.Send(&procv3.ProcessingRequest{
				ProtocolConfig: &procv3.ProtocolConfiguration{ResponseBodyMode: extprocfilterv3.ProcessingMode_FULL_DUPLEX_STREAMED},
				MetadataContext: &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
					call.MetadataNamespace: {Fields: map[string]*structpb.Value{call.MetadataKey: structpb.NewStructValue(meta)}}}},
				Request: &procv3.ProcessingRequest_ResponseHeaders{ResponseHeaders: &procv3.HttpHeaders{Headers: &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
					header(":status", "200"), header("content-type", "application/json")}}}},
			})
			const chunk = 64 << 10
			for at := 0; at < len(body) && err == nil; at += chunk {
				end := min(at+chunk, len(body))
				err = stream.Send(&procv3.ProcessingRequest{Request: &procv3.ProcessingRequest_ResponseBody{ResponseBody: &procv3.HttpBody{Body: body[at:end], EndOfStream: end == len(body)}}})
			}
			return err
		}()
	}()
	size := 0
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if m.GetImmediateResponse() != nil {
			return fmt.Errorf("withheld: %s", m.GetImmediateResponse().GetBody())
		}
		size += len(m.GetResponseBody().GetResponse().GetBodyMutation().GetStreamedResponse().GetBody())
	}
	if err := <-sent; err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if size != len(body) {
		return fmt.Errorf("%d of %d bytes came back", size, len(body))
	}
	return nil
}
