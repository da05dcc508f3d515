package extproc

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extproc/mask"
)

var (
	grpcType = []string{"content-type", "application/grpc"}
	fine     = []string{"grpc-status", "0"}
)

func TestGRPC(t *testing.T) {
	rule := func(r call.MaskRule) call.MaskRule { r.Name = "r"; return r }
	path := func(p string) call.MaskRule { return rule(call.MaskRule{Paths: []string{p}}) }
	for name, tt := range map[string]struct {
		rule       call.MaskRule
		body, want string // want "": whatever, without the hidden values
	}{
		"nothing found":      {cards, `{"name":"Ann","scores":["1"],"labels":{"a":"b"}}`, `{"name":"Ann","labels":{"a":"b"},"scores":["1"]}`},
		"detector":           {cards, `{"name":"Ann","card":"` + card + `","friends":[{"card":"x ` + card + `"}]}`, ""},
		"path":               {path("**.password"), `{"password":"` + secret + `","friends":[{"password":"` + secret + `"}]}`, ""},
		"key":                {rule(call.MaskRule{Keys: []string{"passWord"}}), `{"boss":{"password":"` + secret + `"}}`, ""},
		"number":             {cards, `{"name":"a","card_number":"` + card + `"}`, `{"name":"a"}`},
		"number, dropped":    {rule(call.MaskRule{Detect: []string{"card"}, How: "drop"}), `{"name":"a","card_number":"` + card + `"}`, `{"name":"a"}`},
		"number, hashed":     {rule(call.MaskRule{Detect: []string{"card"}, How: "hash"}), `{"name":"a","card_number":"` + card + `"}`, `{"name":"a"}`},
		"fraction":           {cards, `{"name":"a","card_float":` + card + `}`, `{"name":"a"}`},
		"number by path":     {path("card_number"), `{"name":"a","card_number":"5"}`, `{"name":"a"}`},
		"numbers by path":    {path("scores"), `{"scores":["5","6"]}`, `{"scores":["0","0"]}`},
		"numbers by item":    {path("scores[1]"), `{"scores":["5","6"]}`, `{"scores":["5","0"]}`},
		"numbers, detector":  {cards, `{"scores":["5","` + card + `"]}`, `{"scores":["5","0"]}`},
		"bool":               {path("active"), `{"name":"a","active":true}`, `{"name":"a"}`},
		"bytes":              {cards, `{"raw":"NDExMTExMTExMTExMTExMQ=="}`, ""},
		"message":            {path("boss"), `{"name":"a","boss":{"name":"` + secret + `"}}`, `{"name":"a"}`},
		"message, partial":   {rule(call.MaskRule{Paths: []string{"boss"}, How: "partial"}), `{"name":"a","boss":{"name":"` + secret + `"}}`, ""},
		"messages":           {path("friends"), `{"friends":[{"name":"` + secret + `"},{}]}`, `{"friends":[{},{}]}`},
		"one of messages":    {path("friends[0].name"), `{"friends":[{"name":"` + secret + `"},{"name":"b"}]}`, ""},
		"map value":          {cards, `{"labels":{"a":"` + card + `","b":"c"}}`, ""},
		"map value by key":   {path(`labels["a.b"]`), `{"labels":{"a.b":"` + secret + `"}}`, ""},
		"map value, odd key": {path(`labels["a\"\\b"]`), `{"labels":{"a\"\\b":"` + secret + `"}}`, ""},
		"map value, newline": {path("labels[\"a\nb\"]"), `{"labels":{"a\nb":"` + secret + `"}}`, ""},
		"map key":            {cards, `{"name":"a","labels":{"` + card + `":"x"}}`, `{"name":"a"}`},
		"map key, number":    {cards, `{"name":"a","by_number":{"` + card + `":"x"}}`, `{"name":"a"}`},
		"map":                {path("by_number"), `{"name":"a","by_number":{"5":"` + secret + `"}}`, ""},
		"strings":            {cards, `{"notes":["a","` + card + `"]}`, ""},
		"json in a string":   {passwords, `{"name":"{\"a\":{\"password\":\"` + secret + `\"}}"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			body := customer(t, tt.body) + customer(t, `{"name":"two"}`)
			for _, cut := range []int{0, 1, 5, 6, len(body) - 9, len(body)} {
				b := start(t)
				got := b.run(t, exchange{mode: duplex, meta: decided(call.GRPC, tt.rule), headers: grpcType, chunks: []string{body[:cut], body[cut:]}, trailers: fine})
				if got.err != nil || !got.ended || strings.Contains(got.body, card) || strings.Contains(got.body, secret) {
					t.Fatalf("cut at %d: %+v", cut, got)
				}
				read := customers(t, got.body)
				if len(read) != 2 || read[1] != `{"name":"two"}` || tt.want != "" && read[0] != tt.want {
					t.Errorf("cut at %d: %v, want %s", cut, read, tt.want)
				}
				b.quiet(t)
				a := b.one(t)
				if string(a.Body.Head) != got.body || a.RPCStatus == nil || a.RPCStatus.Code != 0 || (len(a.Masked) == 0) != (name == "nothing found") {
					t.Errorf("recorded %+v", a)
				}
				if steps := b.steps.list(); !strings.HasSuffix(steps, "record, trailers") {
					t.Errorf("order: %s", steps)
				}
			}
		})
	}
}

// A first value that a second one replaces is read by nobody who reads the
// message as it is meant, and yet it is there.
func TestGRPCShadowedField(t *testing.T) {
	var m []byte
	for _, v := range []string{"card " + card, "shown"} {
		m = protowire.AppendString(protowire.AppendTag(m, 1, protowire.BytesType), v)
	}
	b := start(t)
	got := b.run(t, exchange{mode: duplex, meta: decided(call.GRPC, cards), headers: grpcType, chunks: []string{frame(0, m)}, trailers: fine})
	if got.err != nil || strings.Contains(got.body, card) || customers(t, got.body)[0] != `{"name":"shown"}` {
		t.Errorf("got %+v", got)
	}
	b.quiet(t)
}

func TestGRPCWithheld(t *testing.T) {
	unknown := protowire.AppendString(protowire.AppendTag(nil, 99, protowire.BytesType), secret)
	nested := protowire.AppendBytes(protowire.AppendTag(nil, 6, protowire.BytesType), unknown)
	wrapped := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "x/shop.Customer")
	wrapped = protowire.AppendString(protowire.AppendTag(wrapped, 2, protowire.BytesType), secret)
	other := decided(call.GRPC, cards)
	other.Function = "shop.Shop/Unknown"
	small := decided(call.GRPC, cards)
	small.MaxResponse = 4
	for name, tt := range map[string]struct {
		meta *call.Metadata
		body string
		says string
		held bool // the headers have not left
	}{
		"unknown method":   {other, customer(t, `{}`), "reflection does not answer", true},
		"compressed":       {nil, frame(1, []byte("x")), "compressed", false},
		"no frames":        {nil, "<html>" + secret, "not of gRPC messages", false},
		"too long":         {small, customer(t, `{"name":"`+secret+`"}`), "max_response", false},
		"length of 4 GiB":  {nil, "\x00\xff\xff\xff\xff", "max_response", false},
		"cut":              {nil, customer(t, `{"name":"x"}`)[:6], "within a message", false},
		"unknown field":    {nil, frame(0, unknown), "do not know", false},
		"unknown, nested":  {nil, frame(0, nested), "do not know", false},
		"no such message":  {nil, frame(0, []byte("\xff\xff")), "not a shop.Customer", false},
		"any":              {nil, frame(0, protowire.AppendBytes(protowire.AppendTag(nil, 11, protowire.BytesType), wrapped)), "google.protobuf.Any", false},
		"key over a path":  {nil, customer(t, `{"labels":{"`+strings.Repeat("k", 2000)+`":"x"}}`), "longer than", false},
		"deeply recursive": {nil, frame(0, recursive(t, 100)), "segments", false},
	} {
		t.Run(name, func(t *testing.T) {
			meta := tt.meta
			if meta == nil {
				meta = decided(call.GRPC, cards)
			}
			b := start(t)
			got := b.run(t, exchange{mode: duplex, meta: meta, headers: grpcType, chunks: []string{tt.body}, trailers: fine})
			if got.ended || got.body != "" {
				t.Errorf("got %+v", got)
			}
			if tt.held != (got.immediate != nil) || !tt.held && got.err == nil {
				t.Errorf("got %+v", got)
			}
			if got.err != nil && strings.Contains(got.err.Error(), secret) {
				t.Errorf("told %v", got.err)
			}
			b.quiet(t)
			if a := b.one(t); !strings.Contains(a.Withheld, tt.says) {
				t.Errorf("recorded %q, want %q", a.Withheld, tt.says)
			}
		})
	}
}

// recursive is a customer whose boss has a boss, and so on.
func recursive(t *testing.T, depth int) []byte {
	t.Helper()
	b := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "x")
	for range depth {
		b = protowire.AppendBytes(protowire.AppendTag(nil, 14, protowire.BytesType), b)
	}
	return b
}

// An error without any message: all there is are headers.
func TestGRPCTrailersOnly(t *testing.T) {
	b := start(t)
	got := b.run(t, exchange{mode: duplex, meta: decided(call.GRPC, cards), headersEnd: true,
		headers: append(grpcType, "grpc-status", "5", "grpc-message", "no%20such customer")})
	if got.err != nil || !got.headers || got.immediate != nil {
		t.Errorf("got %+v", got)
	}
	if a := b.one(t); a.RPCStatus == nil || a.RPCStatus.Code != 5 || a.RPCStatus.Message != "no such customer" || a.Headers.Get("grpc-status") != "5" {
		t.Errorf("recorded %+v %+v", a, a.RPCStatus)
	}
}

// What a service says in its status is hidden like its messages; details of
// types that nobody here knows go.
func TestGRPCStatusIsMasked(t *testing.T) {
	said := []string{"grpc-status", "3", "grpc-message", "card " + card + " is %E2%82%AC blocked", "grpc-status-details-bin", "CAMSBGNhcmQ"}
	for name, x := range map[string]exchange{
		"trailers":      {headers: grpcType, trailers: said},
		"trailers only": {headers: append(slices.Clone(grpcType), said...), headersEnd: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			x.mode, x.meta = duplex, decided(call.GRPC, cards)
			got := b.run(t, x)
			if got.err != nil || !strings.HasPrefix(got.set["grpc-message"], "card ") || strings.Contains(got.set["grpc-message"], card) ||
				!strings.HasSuffix(got.set["grpc-message"], "is %E2%82%AC blocked") || !slices.Contains(got.removed, "grpc-status-details-bin") {
				t.Errorf("got %+v", got)
			}
			a := b.one(t)
			if a.RPCStatus == nil || a.RPCStatus.Code != 3 || strings.Contains(a.RPCStatus.Message, card) || !strings.Contains(a.RPCStatus.Message, "€") || len(a.Masked) != 2 {
				t.Errorf("recorded %+v, %+v", a.RPCStatus, a.Masked)
			}
		})
	}
}

// Trailers after no body at all, and after one that is not masked.
func TestTrailers(t *testing.T) {
	for name, x := range map[string]exchange{
		"no body":         {meta: decided(call.GRPC, cards), headers: grpcType},
		"held":            {meta: decided(call.HTTP, cards), headers: jsonType, chunks: []string{`{"a":1}`}},
		"nothing to hide": {meta: decided(call.GRPC), headers: grpcType, chunks: []string{"\x01\x00\x00\x00\x00"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			x.mode, x.trailers = duplex, []string{"grpc-status", "14", "grpc-message", "away"}
			got := b.run(t, x)
			if got.err != nil || !got.ended || got.body != strings.Join(x.chunks, "") {
				t.Errorf("got %+v", got)
			}
			a := b.one(t)
			if string(a.Body.Head) != got.body || x.meta.Protocol == call.GRPC && (a.RPCStatus == nil || a.RPCStatus.Code != 14) {
				t.Errorf("recorded %+v", a)
			}
			if steps := b.steps.list(); !strings.HasSuffix(steps, "trailers") || strings.Index(steps, "record") > strings.Index(steps, "trailers") {
				t.Errorf("order: %s", steps)
			}
		})
	}
}

// Whatever the frames hold, what leaves has frames that can be read, and no card.
func FuzzGRPC(f *testing.F) {
	f.Add([]byte(customer(f, `{"name":"Ann","card":"`+card+`","labels":{"a":"`+card+`"},"scores":["1"]}`)), uint8(3))
	f.Add([]byte(customer(f, `{"friends":[{"by_number":{"5":"x"}}],"raw":"AAEC"}`)), uint8(200))
	f.Add([]byte("\x00\x00\x00\x00\x00"), uint8(0))
	m := maskers{hashKey: []byte(strings.Repeat("k", 32))}
	meta := *decided(call.GRPC, cards, passwords)
	types := shopMessages(f)
	f.Fuzz(func(t *testing.T, body []byte, step uint8) {
		masker, err := m.get(meta)
		if err != nil {
			t.Fatal(err)
		}
		fl, err := shape{masker: masker, meta: meta, messages: types, headers: call.Headers{{Name: "content-type", Value: "application/grpc"}}, limits: mask.Limits{Whole: 1 << 16}}.flow()
		if err != nil {
			t.Fatal(err)
		}
		var out []byte
		for rest := body; len(rest) > 0; {
			n := min(len(rest), int(step)+1)
			p, err := fl.write(rest[:n])
			if err != nil {
				return
			}
			out, rest = append(out, p...), rest[n:]
		}
		if _, err := fl.close(); err != nil {
			return
		}
		for len(out) > 0 {
			size := int(out[1])<<24 | int(out[2])<<16 | int(out[3])<<8 | int(out[4])
			m := dynamicpb.NewMessage(types.types["crm shop.Shop/Get"])
			if err := proto.Unmarshal(out[frameHeader:frameHeader+size], m); err != nil {
				t.Fatal(err)
			}
			out = out[frameHeader+size:]
		}
		if strings.Contains(string(out), card) {
			t.Fatal("the card left")
		}
	})
}

// A field may say by an option that it is sensitive.
func TestGRPCOptions(t *testing.T) {
	in := `{"name":"Ann","iban":"DE00 secret-1234","pins":["1","2"],"boss":{"iban":"x"}}`
	for name, tt := range map[string]struct {
		rule call.MaskRule
		want string
	}{
		"ours":       {call.MaskRule{Name: "r", Paths: []string{"(callgate.sensitive)"}}, `{"name":"Ann","boss":{"iban":"[redacted]"},"iban":"[redacted]","pins":["1","2"]}`},
		"protobuf's": {call.MaskRule{Name: "r", Paths: []string{"(debug_redact)"}}, `{"name":"Ann","boss":{"iban":"x"},"iban":"DE00 secret-1234"}`},
		"partial":    {call.MaskRule{Name: "r", Paths: []string{"(callgate.sensitive)", "(debug_redact)"}, How: "partial"}, `{"name":"Ann","boss":{"iban":"****"},"iban":"****1234"}`},
		"not named":  {cards, `{"name":"Ann","boss":{"iban":"x"},"iban":"DE00 secret-1234","pins":["1","2"]}`},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			got := b.run(t, exchange{mode: duplex, meta: decided(call.GRPC, tt.rule), headers: grpcType, chunks: []string{customer(t, in)}, trailers: fine})
			if got.err != nil || len(customers(t, got.body)) != 1 {
				t.Fatalf("got %+v", got)
			}
			var have, want any
			if json.Unmarshal([]byte(customers(t, got.body)[0]), &have) != nil || json.Unmarshal([]byte(tt.want), &want) != nil || !reflect.DeepEqual(have, want) {
				t.Errorf("%s, want %s", customers(t, got.body)[0], tt.want)
			}
		})
	}
}

// Compressed messages leave masked and uncompressed, within their bound.
func TestGRPCCompressed(t *testing.T) {
	pack := func(text string) string {
		return frame(1, []byte(encode(t, customer(t, text)[frameHeader:], "gzip")))
	}
	b := start(t)
	got := b.run(t, exchange{mode: duplex, meta: decided(call.GRPC, cards), headers: append(slices.Clone(grpcType), "grpc-encoding", "gzip"), chunks: []string{pack(`{"card":"`+card+`"}`) + customer(t, `{"name":"x"}`)}, trailers: fine})
	if got.err != nil || strings.Join(customers(t, got.body), "") != `{"card":"[redacted:card]"}{"name":"x"}` {
		t.Errorf("got %+v", got)
	}
	for name, tt := range map[string][2]string{
		"a bomb":         {"gzip", pack(`{"name":"` + strings.Repeat("x", 2<<20) + `"}`)},
		"other encoding": {"snappy", pack(`{}`)},
		"not encoded":    {"gzip", frame(1, []byte(secret))},
	} {
		b := start(t)
		got := b.run(t, exchange{mode: duplex, meta: decided(call.GRPC, cards), headers: append(slices.Clone(grpcType), "grpc-encoding", tt[0]), chunks: []string{tt[1]}, trailers: fine})
		if got.err == nil || got.body != "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// However long a stream is, what was hidden of it is told in little.
func TestGRPCFindings(t *testing.T) {
	b := start(t)
	var chunks []string
	for range 300 {
		chunks = append(chunks, customer(t, `{"card":"`+card+`"}`))
	}
	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprintf(`"k%d":%q`, i, card))
	}
	chunks = append(chunks, customer(t, `{"labels":{`+strings.Join(many, ",")+`}}`))
	b.run(t, exchange{mode: duplex, meta: decided(call.GRPC, cards), headers: []string{"content-type", "application/grpc"}, chunks: chunks, trailers: []string{"grpc-status", "0"}})
	a, sum := b.one(t), 0
	for _, m := range a.Masked {
		sum += m.Count
	}
	if len(a.Masked) != maxFindings+1 || a.Masked[0].Path != "card" || a.Masked[0].Count != 300 || sum != 500 {
		t.Errorf("%d findings, %d values, the first %+v", len(a.Masked), sum, a.Masked[0])
	}
}
