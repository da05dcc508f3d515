package extproc

import (
	"bytes"
	"cmp"
	"strings"
	"testing"

	extprocfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
)

// A request is masked on its way as it was when it was decided, or goes nowhere.
func TestRequestMasked(t *testing.T) {
	body := `{"card":"` + card + `","n":1}`
	rules := call.Mask{Rules: []call.MaskRule{cards}}
	sent := strings.Replace(body, card, "[redacted:card]", 1)
	meta := func(change func(*call.RequestMask)) *call.Metadata {
		m := decided(call.HTTP)
		m.Request = &call.RequestMask{Mask: rules, Judged: call.HashOf([]byte(body)), Sent: call.HashOf([]byte(sent))}
		change(m.Request)
		return m
	}
	for name, tt := range map[string]struct {
		change func(*call.RequestMask)
		body   string
		typed  string
		says   string
	}{
		"masked":            {func(*call.RequestMask) {}, body, "application/json", ""},
		"another body":      {func(*call.RequestMask) {}, body + " ", "application/json", "not the one that was judged"},
		"no body":           {func(*call.RequestMask) {}, "", "application/json", "this has none"},
		"another result":    {func(m *call.RequestMask) { m.Sent = m.Judged }, body, "application/json", "not the one that was recorded"},
		"can't be masked":   {func(*call.RequestMask) {}, body, "image/png", "can't be masked"},
		"mask not readable": {func(m *call.RequestMask) { m.Mask.Rules = []call.MaskRule{{Name: "x", Detect: []string{"nothing"}}} }, body, "application/json", "compile mask"},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			p := passageOf(meta(tt.change), tt.body, "{}")
			p.requestHead = append(p.requestHead, "content-type", tt.typed)
			got, req, out := b.through(t, p)
			if tt.says == "" {
				if got != sent || out.err != nil || out.body != "{}" || len(req.GetHeaderMutation().GetSetHeaders()) != 1 || len(req.GetHeaderMutation().GetRemoveHeaders()) == 0 {
					t.Errorf("the function got %q, the caller %+v", got, out)
				}
				return
			}
			if out.immediate == nil || got != "" {
				t.Errorf("the function got %q, the caller %+v", got, out)
			}
			if a := b.one(t); !strings.Contains(a.Withheld, tt.says) {
				t.Errorf("recorded %q", a.Withheld)
			}
		})
	}
}

// What a function must not be sent is hidden wherever a request has it, or the
// request does not go. Nothing planted is in what goes.
func TestRequests(t *testing.T) {
	long := `{"password":"` + secret + `","n":[1,"` + card + `"]}`
	for name, tt := range map[string]struct {
		protocol call.Protocol
		path     string
		inPath   []string
		headers  []string
		body     string
		want     string // the body; "": as it came
		wantPath string
		says     string // the request must not go, for this
	}{
		"json":                 {body: long, want: `{"password":"[redacted]","n":[1,"[redacted:card]"]}`},
		"plain":                {path: "/a/b?c=d", body: `{"n":1}`},
		"form":                 {headers: []string{"content-type", "application/x-www-form-urlencoded"}, body: "a=4111+1111+1111+1111&password=" + secret + "&n=1", want: "a=%5Bredacted%3Acard%5D&password=%5Bredacted%5D&n=1"},
		"multipart":            {headers: []string{"content-type", "multipart/form-data; boundary=b"}, body: "--b\r\ncontent-disposition: form-data; name=\"password\"\r\n\r\n" + secret + "\r\n--b\r\ncontent-disposition: form-data; name=\"f\"; filename=\"a.txt\"\r\ncontent-type: text/plain\r\n\r\nmy card " + card + "\r\n--b--\r\n", want: "--b\r\ncontent-disposition: form-data; name=\"password\"\r\n\r\n[redacted]\r\n--b\r\ncontent-disposition: form-data; name=\"f\"; filename=\"a.txt\"\r\ncontent-type: text/plain\r\n\r\nmy card [redacted:card]\r\n--b--\r\n"},
		"a picture":            {headers: []string{"content-type", "image/png"}, body: "\x00" + card, says: "can't be masked"},
		"a picture in a form":  {headers: []string{"content-type", "multipart/form-data; boundary=b"}, body: "--b\r\ncontent-disposition: form-data; name=\"f\"\r\ncontent-type: image/png\r\n\r\n\x00" + card + "\r\n--b--\r\n", says: "can't be masked"},
		"encoded":              {headers: []string{"content-encoding", "gzip", "content-type", "application/json"}, body: long, says: "send it plain"},
		"two types":            {headers: []string{"content-type", "text/plain", "content-type", "application/json"}, body: long, says: "more than one content-type"},
		"mcp":                  {protocol: call.MCP, body: `{"method":"tools/call","params":{"name":"pay","arguments":{"password":"` + secret + `","a":{"text":"` + card + `"}}}}`, want: `{"method":"tools/call","params":{"name":"pay","arguments":{"password":"[redacted]","a":{"text":"[redacted:card]"}}}}`},
		"graphql variables":    {protocol: call.GraphQL, body: `{"query":"mutation($c:String!){pay(card:$c)}","variables":{"c":"` + card + `","password":"` + secret + `"}}`, want: `{"query":"mutation($c:String!){pay(card:$c)}","variables":{"c":"[redacted:card]","password":"[redacted]"}}`},
		"graphql literals":     {protocol: call.GraphQL, body: `{"query":"mutation{pay(card:\"` + card + `\",n:1)}"}`, want: `{"query":"mutation{pay(card:\"[redacted:card]\",n:1)}"}`},
		"graphql by its query": {protocol: call.GraphQL, path: `/graphql?query=query($c:String){a(b:$c)}&variables=%7B%22c%22%3A%22` + card + `%22%7D`, wantPath: `/graphql?query=query($c:String){a(b:$c)}&variables=%7B%22c%22%3A%22%5Bredacted%3Acard%5D%22%7D`},
		"query":                {path: "/a?card=4111%201111%201111%201111&n=1&password=" + secret + "&password=two", wantPath: "/a?card=%5Bredacted%3Acard%5D&n=1&password=%5Bredacted%5D&password=%5Bredacted%5D"},
		"query, no value":      {path: "/a?" + card, wantPath: "/a?%5Bredacted%3Acard%5D"},
		"query, json":          {path: "/a?f=%7B%22password%22%3A%22" + secret + "%22%7D", wantPath: "/a?f=%7B%22password%22%3A%22%5Bredacted%5D%22%7D"},
		"query, nested names":  {path: "/a?user%5Bpassword%5D=" + secret, wantPath: "/a?user%5Bpassword%5D=%5Bredacted%5D"},
		"path":                 {path: "/cards/" + card, says: "path can't be masked"},
		"path, encoded":        {path: "/cards/4111%201111%201111%2011%31%31", says: "path can't be masked"},
		"path, by its name":    {path: "/p/" + secret, inPath: []string{"password"}, says: `argument "password"`},
		"path, another name":   {path: "/p/7", inPath: []string{"id"}},
		"header":               {headers: []string{"x-note", "pay " + card}, says: "the header x-note"},
		"header, by its name":  {headers: []string{"password", secret}, says: "the header password"},
		"header, in its name":  {headers: []string{"x-" + card, "1"}, says: "the name of a header"},
		"headers that steer":   {headers: []string{"x-request-id", card, "content-length", "0", "traceparent", "00-4111111111111111-01"}},
		"sql":                  {protocol: call.SQL, body: "SELECT 1"},
		"sql with a card":      {protocol: call.SQL, body: "SELECT * FROM t WHERE card = '" + card + "'", says: "SQL text"},
		"sql with a password":  {protocol: call.SQL, body: "UPDATE t SET password='" + secret + "'", says: "SQL text"},
		"sql parameters":       {protocol: call.SQL, path: "/?param_c=" + card, body: "SELECT {c:String}", wantPath: "/?param_c=%5Bredacted%3Acard%5D"},
		"grpc":                 {protocol: call.GRPC, body: customer(t, `{"name":"a","password":"`+secret+`","card":"`+card+`"}`), want: customer(t, `{"name":"a","password":"[redacted]","card":"[redacted:card]"}`)},
		"grpc, cut off":        {protocol: call.GRPC, body: customer(t, `{"card":"`+card+`"}`)[:9], says: "within a message"},
		"grpc, unknown fields": {protocol: call.GRPC, body: frame(0, []byte{0xfa, 0x07, 0x01, '4'}), says: "descriptors in use do not know"},
		"broken":               {headers: []string{"content-type", "application/json"}, body: `{"a":` + card, says: "not valid"},
	} {
		t.Run(name, func(t *testing.T) {
			c := &call.Call{Connection: "crm", Protocol: tt.protocol, Function: "shop.Shop/Get", Request: call.Request{Path: tt.path, Body: []byte(tt.body)}}
			if tt.protocol == "" {
				c.Protocol = call.HTTP
			}
			if c.Request.Path == "" {
				c.Request.Path = "/x"
			}
			for i := 0; i < len(tt.headers); i += 2 {
				c.Request.Headers = append(c.Request.Headers, call.Header{Name: tt.headers[i], Value: tt.headers[i+1]})
			}
			if tt.body != "" && c.Request.Headers.Get("content-type") == "" {
				kind := "application/json"
				if tt.protocol == call.SQL {
					kind = "text/plain"
				}
				c.Request.Headers = append(c.Request.Headers, call.Header{Name: "content-type", Value: kind})
			}
			r := NewRequests(bytes.Repeat([]byte("k"), 32), nil, shopMessages(t))
			rules := call.Mask{Rules: []call.MaskRule{cards, {Name: "passwords", Keys: []string{"password"}}}}
			path, body, hidden, err := r.Mask(t.Context(), rules, c, tt.inPath)
			if tt.says != "" {
				if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), card) || strings.Contains(err.Error(), secret) {
					t.Fatalf("%v, %s %s", err, path, body)
				}
				return
			}
			want, wantPath := cmp.Or(tt.want, tt.body), cmp.Or(tt.wantPath, c.Request.Path)
			if err != nil || string(body) != want || path != wantPath {
				t.Fatalf("%v\n%s\n%q, want\n%q", err, path, body, want)
			}
			if all := path + string(body); strings.Contains(all, card) || strings.Contains(all, secret) {
				t.Errorf("went out: %s", all)
			}
			if changed := want != tt.body || wantPath != c.Request.Path; changed != (len(hidden) > 0) {
				t.Errorf("hidden %+v", hidden)
			}
		})
	}
}

// A path is masked on its way as it was when it was decided.
func TestRequestPath(t *testing.T) {
	path := "/a?card=" + card
	masked := "/a?card=%5Bredacted%3Acard%5D"
	for name, tt := range map[string]struct {
		path, sent string
		says       string
	}{
		"masked":         {path, masked, ""},
		"another path":   {path + "&b=1", masked, "not the one that was judged"},
		"another result": {path, masked + "&b=1", "not the one that was recorded"},
	} {
		for _, mode := range []extprocfilterv3.ProcessingMode_BodySendMode{buffered, nobody} {
			b := start(t)
			m := decided(call.HTTP)
			m.Request = &call.RequestMask{Mask: call.Mask{Rules: []call.MaskRule{cards}}, JudgedPath: call.HashOf([]byte(path)), SentPath: call.HashOf([]byte(tt.sent))}
			stream, err := b.client.Process(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			rest := exchange{mode: duplex, meta: m, headers: jsonType, chunks: []string{"{}"}}.requests(t)
			first := &extprocv3.ProcessingRequest{MetadataContext: rest[0].MetadataContext, ProtocolConfig: &extprocv3.ProtocolConfiguration{RequestBodyMode: mode, ResponseBodyMode: duplex},
				Request: &extprocv3.ProcessingRequest_RequestHeaders{RequestHeaders: &extprocv3.HttpHeaders{Headers: headerMap(":path", tt.path), EndOfStream: true}}}
			if err := stream.Send(first); err != nil {
				t.Fatal(err)
			}
			answer, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			set := answer.GetRequestHeaders().GetResponse().GetHeaderMutation().GetSetHeaders()
			if tt.says == "" {
				if len(set) != 1 || set[0].GetHeader().GetKey() != ":path" || string(set[0].GetHeader().GetRawValue()) != masked {
					t.Errorf("%s: %v", name, answer)
				}
				_ = stream.CloseSend()
				continue
			}
			if answer.GetImmediateResponse() == nil {
				t.Errorf("%s: %v", name, answer)
			}
			if a := b.one(t); !strings.Contains(a.Withheld, tt.says) {
				t.Errorf("%s: recorded %q", name, a.Withheld)
			}
		}
	}
	// An Envoy that did not let it be rewritten, although its route says so.
	for _, m := range []call.RequestMask{{SentPath: "x"}, {Judged: "x"}, {Stream: true}} {
		b := start(t)
		meta := decided(call.HTTP)
		meta.Request = &m
		if out := b.run(t, exchange{mode: duplex, meta: meta, headers: jsonType, chunks: []string{"{}"}}); out.immediate == nil || !strings.Contains(b.logs.String(), "must not be sent") {
			t.Errorf("%+v: %+v %s", m, out, b.logs)
		}
	}
}

// Each call of a batch is masked by itself, and the denied ones are left out.
func TestBatchRequestMasked(t *testing.T) {
	for _, parts := range [][]part{{getCards, findPass}, {getCards, dropped, findPass}} {
		m, body := batchOf(parts...)
		// The names stand where arguments would.
		body = strings.Replace(body, `"get"`, `"`+card[:5]+`"`, 1)
		grown := strings.Replace(body, `"`+card[:5]+`"`, `"`+card+`"`, 1)
		more := len(grown) - len(body)
		before := len(`"get"`) - len(`"`+card[:5]+`"`)
		for i := range m.Batch.Calls {
			c := &m.Batch.Calls[i]
			if i > 0 {
				c.Start += more - before
			}
			c.End += more - before
		}
		m.Batch.SHA256 = call.HashOf([]byte(grown))
		var sent [][]byte
		for _, c := range m.Batch.Calls {
			if c.Denied == nil {
				sent = append(sent, []byte(strings.Replace(grown[c.Start:c.End], card, "[redacted:card]", 1)))
			}
		}
		want := string(protocol.BatchOf(sent))
		m.Request = &call.RequestMask{Mask: call.Mask{Rules: []call.MaskRule{cards}}, Judged: call.HashOf([]byte(grown)), Sent: call.HashOf([]byte(want))}
		b := start(t)
		got, req, out := b.through(t, passageOf(m, grown, "["+result1("1", "")+","+result1(`"1"`, "")+"]"))
		if got != want || out.err != nil || !out.ended || len(req.GetHeaderMutation().GetRemoveHeaders()) == 0 {
			t.Errorf("the function got %q, want %q; the caller %+v", got, want, out)
		}
		m.Request.Sent = call.HashOf([]byte(grown))
		b = start(t)
		if got, _, out := b.through(t, passageOf(m, grown, "[]")); got != "" || out.immediate == nil {
			t.Errorf("the function got %q, the caller %+v", got, out)
		}
	}
}

// Messages that nobody judged are masked as they pass, wherever they are cut.
func TestRequestStreamMasked(t *testing.T) {
	body := customer(t, `{"card":"`+card+`"}`) + customer(t, `{"name":"n"}`) + customer(t, `{"password":"`+secret+`"}`)
	want := customer(t, `{"card":"[redacted:card]"}`) + customer(t, `{"name":"n"}`) + customer(t, `{"password":"[redacted]"}`)
	for name, tt := range map[string]struct {
		body, want string
		mode       extprocfilterv3.ProcessingMode_BodySendMode
		trailers   bool
		says       string
	}{
		"masked":       {body, want, duplex, false, ""},
		"trailers":     {body, want, duplex, true, ""},
		"cut off":      {body[:len(body)-1], "", duplex, false, "within a message"},
		"no messages":  {"\x07" + body, "", duplex, false, "not of gRPC messages"},
		"not streamed": {body, "", buffered, false, "FULL_DUPLEX_STREAMED"},
	} {
		for step := range len(tt.body) {
			if step == 0 || tt.says != "" && step > 1 {
				continue
			}
			b := start(t)
			m := decided(call.GRPC)
			m.Request = &call.RequestMask{Mask: call.Mask{Rules: []call.MaskRule{cards, passwords}}, Stream: true}
			stream, err := b.client.Process(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			messages := []*extprocv3.ProcessingRequest{{MetadataContext: exchange{meta: m}.requests(t)[0].MetadataContext, ProtocolConfig: &extprocv3.ProtocolConfiguration{RequestBodyMode: tt.mode, ResponseBodyMode: duplex},
				Request: &extprocv3.ProcessingRequest_RequestHeaders{RequestHeaders: &extprocv3.HttpHeaders{Headers: headerMap(":path", "/shop.Shop/Get")}}}}
			for rest := tt.body; rest != ""; {
				n := min(step, len(rest))
				messages = append(messages, &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestBody{RequestBody: &extprocv3.HttpBody{Body: []byte(rest[:n]), EndOfStream: n == len(rest) && !tt.trailers}}})
				rest = rest[n:]
			}
			if tt.trailers {
				messages = append(messages, &extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestTrailers{RequestTrailers: &extprocv3.HttpTrailers{}}})
			}
			for _, req := range messages {
				if err := stream.Send(req); err != nil {
					break
				}
			}
			_ = stream.CloseSend()
			got, ended, refused := "", false, false
			for {
				m, err := stream.Recv()
				if err != nil {
					break
				}
				s := m.GetRequestBody().GetResponse().GetBodyMutation().GetStreamedResponse()
				got, ended, refused = got+string(s.GetBody()), ended || s.GetEndOfStream() || m.GetRequestTrailers() != nil, refused || m.GetImmediateResponse() != nil
			}
			if tt.says == "" {
				if got != tt.want || !ended || refused {
					t.Fatalf("%s by %d: %q %v", name, step, got, ended)
				}
				continue
			}
			if ended || !refused {
				t.Fatalf("%s: %q", name, got)
			}
			if a := b.one(t); !strings.Contains(a.Withheld, tt.says) {
				t.Errorf("%s: recorded %q", name, a.Withheld)
			}
		}
	}
}
