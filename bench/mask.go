package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/callgate/callgate/extproc/mask"
	"github.com/callgate/callgate/extproc/mask/quality"
)

// benchMask measures masking: how well (on samples drawn from a seed), how fast
// (bytes a second of CPU time, with all detectors on), and what it adds to a call.
func benchMask(ctx context.Context) ([]row, error) {
	rows, err := maskQuality()
	if err != nil {
		return nil, err
	}
	fast, err := maskSpeed()
	if err != nil {
		return nil, err
	}
	copied, err := maskCopy(ctx)
	if err != nil {
		return nil, err
	}
	added, err := maskAdded(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Concat(rows, fast, copied, added), nil
}

// qualitySeeds are the sets that quality is measured on, each of so many samples.
var qualitySeeds = []uint64{1, 2, 3}

const qualitySamples = 20_000

func allDetectors() (*mask.Masker, error) {
	return mask.Compile(mask.Spec{Rules: []mask.Rule{{Name: "all", Detect: []string{"all"}}}}, mask.Options{})
}

func maskQuality() ([]row, error) {
	m, err := allDetectors()
	if err != nil {
		return nil, err
	}
	byType := map[string][3][]float64{}
	least := [2][]float64{}
	for _, seed := range qualitySeeds {
		scores, err := quality.Measure(m, quality.Generate(seed, qualitySamples), nil)
		if err != nil {
			return nil, err
		}
		low := [2]float64{1, 1}
		fmt.Printf("seed %d, %d samples: precision, recall, F1\n", seed, qualitySamples)
		for _, s := range scores {
			fmt.Printf("  %-26s %.4f %.4f %.4f  (%d of %d found, %d wrong)\n", s.Type, s.Precision, s.Recall, s.F1, s.Found, s.Labelled, s.False)
			v := byType[s.Type]
			v[0], v[1], v[2] = append(v[0], s.Precision), append(v[1], s.Recall), append(v[2], s.F1)
			byType[s.Type] = v
			for i, group := range [][]string{quality.Checksummed(), quality.Secrets()} {
				if slices.Contains(group, s.Type) {
					low[i] = min(low[i], s.F1)
				}
			}
		}
		least[0], least[1] = append(least[0], low[0]), append(least[1], low[1])
	}
	rows := []row{
		newRow("mask_f1_checksum_min", "F1", "the labels; the least of all types with a checksum", least[0]),
		newRow("mask_f1_secrets_min", "F1", "the labels; the least of api_key, jwt, private_key, keyed_secret", least[1]),
	}
	var types []string
	for t := range byType {
		types = append(types, t)
	}
	slices.Sort(types)
	for _, t := range types {
		for i, what := range []string{"precision", "recall", "f1"} {
			rows = append(rows, newRow("mask_"+what+"_"+t, "", "the labels", byType[t][i]))
		}
	}
	return rows, nil
}

// perCore runs do for a while and returns the megabytes that one core gets through
// in a second: of CPU time, since the machine has other work.
func perCore(size int, do func() error) (float64, error) {
	const length = 500 * time.Millisecond
	before, n := ownCPU(), 0
	for began := time.Now(); time.Since(began) < length; n++ {
		if err := do(); err != nil {
			return 0, err
		}
	}
	return float64(n) * float64(size) / 1e6 / (ownCPU() - before).Seconds(), nil
}

func maskSpeed() ([]row, error) {
	all, err := allDetectors()
	if err != nil {
		return nil, err
	}
	paths, err := mask.Compile(mask.Spec{Rules: []mask.Rule{
		{Name: "all", Detect: []string{"all"}}, {Name: "keys", Keys: []string{"password", "card_number"}}, {Name: "paths", Paths: []string{"items[*].customer.card.number", "**.secret"}},
	}}, mask.Options{})
	if err != nil {
		return nil, err
	}
	events := maskEvents()
	text := maskText()
	copied := make([]byte, 0, 64<<10)
	type subject struct {
		name string
		size int
		do   func() error
	}
	whole := func(name string, m *mask.Masker, body []byte) subject {
		return subject{name, len(body), func() error { _, _, err := m.JSON(body); return err }}
	}
	stream := all.NewStream("text/event-stream", 0)
	small := maskBody(1<<10, 0)
	middle := maskBody(64<<10, 0)
	subjects := []subject{
		whole("mask_json_1k_mb_s", all, small),
		whole("mask_json_64k_mb_s", all, middle),
		whole("mask_json_10m_mb_s", all, maskBody(10<<20, 0)),
		whole("mask_json_64k_hits_mb_s", all, maskBody(64<<10, 4)),
		whole("mask_json_64k_paths_mb_s", paths, middle),
		{"mask_sse_mb_s", len(events), func() error { _, err := stream.Write(events); return err }},
		{perText, len(text), func() error { _, _, err := all.Text(text); return err }},
		{"mask_bytes_copied_mb_s", len(middle), func() error { copied = append(copied[:0], middle...); return nil }},
		{"mask_bytes_looked_at_mb_s", len(middle), func() error { Classed = lookAt(middle); return nil }},
	}
	got := map[string][]float64{}
	for range rounds {
		for _, s := range subjects {
			v, err := perCore(s.size, s.do)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			got[s.name] = append(got[s.name], v)
		}
	}
	var rows []row
	for _, s := range subjects {
		if s.name == perText {
			for i, v := range got[perText] {
				got[perText][i] = float64(len(text)) / v
			}
			rows = append(rows, newRow(perText, "us of CPU a text", "not in the same run: Presidio asks of one of its recognizers to stay below 100,000", got[perText]))
			continue
		}
		rows = append(rows, newRow(s.name, "MB/s a core", "CPU time", got[s.name]))
	}
	return rows, nil
}

// perText is what one text of about 100 tokens costs: the unit of what Presidio
// publishes, see docs/decisions/0009-what-masking-costs.md.
const perText = "mask_text_100_tokens_us"

func maskText() []byte {
	return []byte("Hello, my name is Ann and I ordered two lamps on 2026-11-12 (order no. 302-7781234-1139502). One of them came " +
		"without its plug, so I called +49 30 901820 twice and wrote to help@example.com, but nobody has answered so far. " +
		"I paid 89.90 EUR with card 4111 1111 1111 1111; please send the missing part to the same address as before, or give " +
		"me back the money to DE89 3704 0044 0532 0130 00. You can reach me any day after six, or at noon. Thank you very much, and best regards.\n")
}

// Classed keeps what lookAt finds, so that it is not left out.
var Classed int

// lookAt looks every byte up in a table, one after the other: the floor of any
// search that is no vector code.
func lookAt(b []byte) (n int) {
	var class [256]uint8
	class['"'], class['\\'] = 1, 1
	for _, c := range b {
		n += int(class[c])
	}
	return n
}

// maskBody is a JSON body of about size bytes such as a REST service answers with:
// nothing in it is hidden, but for a card in every hits records, if hits > 0.
func maskBody(size, hits int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"items":[`)
	for i := 0; b.Len() < size-300 || i == 0; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		number := "ORD-2026-000123"
		if hits > 0 && i%hits == 0 {
			number = "4111 1111 1111 1111"
		}
		fmt.Fprintf(&b, `{"id":"c%015x-%d","created_at":"2026-11-23T12:16:%02dZ","ts":1732377600123,"status":"completed",`+
			`"amount":%d.99,"currency":"EUR","customer":{"company":"Doe & Sons","city":"Lisbon","tags":["new","b2b"]},`+
			`"reference":%q,"note":"Left at the reception desk, please ring twice."}`, uint64(i)*0x9E3779B97F4A7C15>>4, i, i%60, i, number)
	}
	b.WriteString(`]}`)
	return b.Bytes()
}

func maskEvents() []byte {
	var b bytes.Buffer
	for i := range 512 {
		fmt.Fprintf(&b, "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"progress\",\"params\":{\"n\":%d,\"text\":\"a short line of progress, as tools send it\"}}\n\n", i)
	}
	return b.Bytes()
}

// maskAdded measures calls through two gateways that differ in one mask.
func maskAdded(ctx context.Context) (rows []row, err error) {
	rig, err := newRig(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rig.close()) }()
	binary, err := findEnvoy(ctx)
	if err != nil {
		return nil, err
	}
	up, stop, err := upstreamOf(maskBody(4<<10, 4))
	if err != nil {
		return nil, err
	}
	defer stop()
	token, err := rig.issuer.token(0)
	if err != nil {
		return nil, err
	}
	var subjects []subject
	for _, name := range []string{"unmasked", "masked"} {
		sub := *rig
		if sub.dir, err = os.MkdirTemp(rig.dir, name); err != nil {
			return nil, err
		}
		if err := os.Link(rig.dir+"/callgate", sub.dir+"/callgate"); err != nil {
			return nil, err
		}
		if name == "masked" {
			sub.mask = "    mask: [{detect: [all]}]\n"
		}
		envoy, addr, err := sub.startCallgateEnvoy(ctx, binary, up)
		rig.running = append(rig.running, sub.running[len(rig.running):]...)
		if err != nil {
			return nil, err
		}
		subjects = append(subjects, httpSubject(name, addr, []int{envoy.pid(), sub.callgate.pid()}, token))
	}
	got, err := measure(ctx, rounds, subjects)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, rig.tail())
	}
	added := func(name string, value func(sample) time.Duration) row {
		v := make([]float64, len(got["masked"]))
		for i, s := range got["masked"] {
			v[i] = (value(s) - value(got["unmasked"][i])).Seconds() * 1e3
		}
		return newRow(name, "ms", "the same call with no mask, 4 KB, 64 in flight", v)
	}
	rows = []row{
		added("mask_added_p50_ms", func(s sample) time.Duration { return s.p50 }),
		added("mask_added_p99_ms", func(s sample) time.Duration { return s.p99 }),
	}
	return append(append(rows, figures("unmasked", got["unmasked"])...), figures("masked", got["masked"])...), nil
}
