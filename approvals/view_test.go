package approvals

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/callgate/callgate/call"
)

func TestViewBody(t *testing.T) {
	for _, c := range []struct {
		name, contentType, encoding, body string
		form, want                        string
		hidden                            int
	}{
		{"empty", "", "", "", "none", "", 0},
		{"bytes stay", "application/json", "", "{ \"b\":1.50,\n\t\"a\" : [1e2,\"x<>&\"] }\n", "json", "{ \"b\":1.50,\n\t\"a\" : [1e2,\"x<>&\"] }\n", 0},
		{"by name", "application/json", "", `{"password":"hunter2","apiKey": "k","n":1}`, "json", `{"password":"[hidden]","apiKey": "[hidden]","n":1}`, 2},
		{"other types by name", "", "", `{"pin":1234,"otp":true,"secret":null}`, "json", `{"pin":"[hidden]","otp":"[hidden]","secret":null}`, 2},
		{"below a name", "", "", `{"credentials":{"user":"u","list":["p",{"x":1}]},"after":"seen"}`, "json",
			`{"credentials":{"user":"[hidden]","list":["[hidden]",{"x":"[hidden]"}]},"after":"seen"}`, 3},
		{"escaped name", "", "", `{"p\u0061ssword":"hunter2"}`, "json", `{"p\u0061ssword":"[hidden]"}`, 1},
		{"in an array", "", "", `[{"token":"t"},{"max_tokens":5,"token_count":3}]`, "json", `[{"token":"[hidden]"},{"max_tokens":5,"token_count":3}]`, 1},
		{"by look", "", "", `{"note":"use AKIAIOSFODNN7EXAMPLE now","AKIAIOSFODNN7EXAMPLE":1}`, "json", `{"note":"use [hidden] now","AKIAIOSFODNN7EXAMPLE":1}`, 1},
		{"a header in a text", "text/plain", "", "authorization: Bearer hunter2hunter2", "text", "authorization: [hidden]", 1},
		{"twice", "", "", `{"pwd":"a","pwd":"b"}`, "json", `{"pwd":"[hidden]","pwd":"[hidden]"}`, 2},
		{"a bare value", "", "", `"x"`, "json", `"x"`, 0},
		{"two documents", "application/json", "", `{"a":1}{"b":2}`, "text", `{"a":1}{"b":2}`, 0},
		{"text", "text/plain", "", "pay AKIAIOSFODNN7EXAMPLE\nnow", "text", "pay [hidden]\nnow", 1},
		{"form", "application/x-www-form-urlencoded; charset=utf-8", "", "a=1&client_secret=s&pass%77ord=p&b", "form", "a=1&client_secret=[hidden]&pass%77ord=[hidden]&b", 2},
		{"binary", "application/grpc", "", "\x00\x00\xff", "base64", "AAD/", 0},
		{"zeros", "text/plain", "", "a\x00b", "base64", "YQBi", 0},
		{"compressed", "application/json", "gzip", `{"a":1}`, "base64", "eyJhIjoxfQ==", 0},
		{"terminal", "text/plain", "", "ok\x1b[2K\rpay 1", "text", `ok\u{001b}[2K\u{000d}pay 1`, 0},
		{"turned round", "", "", "{\"to\":\"\u202Etnuocca\u202C\u200b\"}", "json", `{"to":"\u{202e}tnuocca\u{202c}\u{200b}"}`, 0},
		{"tags", "", "", "\"a\U000E0041\u3164\ufe0f\u2028\"", "json", `"a\u{e0041}\u{3164}\u{fe0f}\u{2028}"`, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := Hold{Request: Request{Body: []byte(c.body), ContentType: c.contentType, ContentEncoding: c.encoding}}
			v := show(&h)
			if v.BodyForm != c.form || v.Body != c.want || v.Hidden != c.hidden || v.BodyLength != len(c.body) {
				t.Errorf("got %s %q, %d hidden", v.BodyForm, v.Body, v.Hidden)
			}
			want := ""
			if c.hidden == 0 { // else it would tell short ones to who guesses
				sum := sha256.Sum256([]byte(c.body))
				want = hex.EncodeToString(sum[:])
			}
			if v.BodySHA256 != want || string(h.Request.Body) != c.body {
				t.Error("the sum is not of the bytes as they came")
			}
		})
	}
}

func TestView(t *testing.T) {
	h := New(Config{}).newHold(&call.Call{
		Identity: call.Identity{Subject: "jo\u202Ee", Groups: []string{"a\u200b"}, Actors: []call.Actor{{Subject: "b\x1b"}}, Claims: map[string]any{"secret": "hunter2"}},
		Function: "refunds\u2028", ArgsJSON: []byte(`{"b":1,"a":{"token":"hunter2"}}`),
		Request: call.Request{Path: "/x?access_token=hunter2&q=a%20b&token", Body: []byte(`{"b":1,"a":{"token":"hunter2"}}`),
			Headers: call.Headers{{Name: "authorization", Value: "Bearer hunter2"}, {Name: "content-type", Value: "application/json"}}},
	}, &call.Ruling{Hold: call.Hold{Stages: []call.Stage{{Approvers: call.Approvers{Groups: []string{"leads"}}}}}})
	h.Verdicts = []Verdict{{By: Person{Issuer: "x", Subject: "y"}, Comment: "c\x07"}}
	v := show(h)
	if v.Path != "/x?access_token=[hidden]&q=a%20b&token" || strings.Contains(h.Request.Path, "hunter2") {
		t.Errorf("path %q, kept %q", v.Path, h.Request.Path)
	}
	if want := "{\n  \"b\": 1,\n  \"a\": {\n    \"token\": \"[hidden]\"\n  }\n}"; v.Arguments != want || v.Hidden != 1 {
		t.Errorf("arguments %s, %d hidden", v.Arguments, v.Hidden)
	}
	if v.Type != "application/json" || v.Function != `refunds\u{2028}` || v.Identity.Subject != `jo\u{202e}e` || v.Identity.Groups[0] != `a\u{200b}` ||
		v.Identity.Actors[0].Subject != `b\u{001b}` || v.Comment != `c\u{0007}` {
		t.Errorf("got %+v", v)
	}
	out, err := json.Marshal(v)
	if err != nil || strings.Contains(string(out), "hunter2") {
		t.Errorf("%v: %s", err, out)
	}
	if h.Identity.Subject != "jo\u202Ee" || h.Identity.Actors[0].Subject != "b\x1b" {
		t.Error("looking changed the hold")
	}
	if h.Expires.Sub(h.AskedAt) != defaultTimeout {
		t.Errorf("open for %s", h.Expires.Sub(h.AskedAt))
	}
}

// What is hidden of one part of a request does not stand in another: neither in
// the path, by its name or its looks, nor among the arguments, nor in a body of
// which only the arguments can be laid out.
func TestViewHidesEverywhere(t *testing.T) {
	const jwt = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
	const form = "application/x-www-form-urlencoded"
	for _, c := range []struct {
		name                              string
		protocol                          call.Protocol
		path, args, contentType, encoding string
		body                              string
		wantPath, wantArgs, wantForm      string
		hidden                            int
	}{
		{"a query, by names of queries", call.HTTP, "/c?code=hunter2&sig=hunter2&n=1", `{"code":"hunter2","n":"1","sig":"hunter2"}`, "", "", "",
			"/c?code=[hidden]&sig=[hidden]&n=1", `{"code":"[hidden]","n":"1","sig":"[hidden]"}`, "none", 2},
		{"a query, by a look", call.HTTP, "/c?q=" + jwt, `{"q":"` + jwt + `"}`, "", "", "", "/c?q=[hidden]", `{"q":"[hidden]"}`, "none", 1},
		{"a query in a query", call.HTTP, "/c?q=token%3Dhunter2", `{"q":"token=hunter2"}`, "", "", "", "/c?q=[hidden]", `{"q":"[hidden]"}`, "none", 1},
		{"a query with semicolons", call.HTTP, "/c?a=1;password=hunter2", `{"a":"1"}`, "", "", "", "/c?a=1;password=[hidden]", `{"a":"1"}`, "none", 0},
		{"a segment", call.HTTP, "/c/" + jwt, `{"id":"` + jwt + `"}`, "", "", "", "/c/[hidden]", `{"id":"[hidden]"}`, "none", 1},
		{"a form, by names of forms", call.HTTP, "/c", `{"a":"1","code":"hunter2"}`, form, "", "a=1&code=hunter2", "/c", `{"a":"1","code":"[hidden]"}`, "form", 1},
		{"a form, by a look", call.HTTP, "/c", `{"a":"` + jwt + `"}`, form, "", "a=" + jwt, "/c", `{"a":"[hidden]"}`, "form", 1},
		{"a packed body", call.HTTP, "/c", `{"password":"hunter2"}`, "application/json", "gzip", "password hunter2, packed", "/c", `{"password":"[hidden]"}`, "hidden", 1},
		{"a message of gRPC", call.GRPC, "/p.S/M", `{"password":"hunter2"}`, "application/grpc", "", "\x00\x00\x00\x00\x09\x0a\x07hunter2", "/p.S/M", `{"password":"[hidden]"}`, "hidden", 1},
		{"a message of gRPC without credentials", call.GRPC, "/p.S/M", `{"name":"x"}`, "application/grpc", "", "\x00\x00\x00\x00\x03\x0a\x01x", "/p.S/M", `{"name":"x"}`, "base64", 0},
		{"parts", call.HTTP, "/c", `{"password":"hunter2"}`, "multipart/form-data; boundary=b", "", "--b\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\nhunter2\r\n--b--\r\n",
			"/c", `{"password":"[hidden]"}`, "hidden", 1},
		{"parts beside a query", call.HTTP, "/c?sig=hunter2", `{"name":"x","sig":"hunter2"}`, "multipart/form-data; boundary=b", "", "--b\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nx\r\n--b--\r\n",
			"/c?sig=[hidden]", `{"name":"x","sig":"[hidden]"}`, "text", 1},
		// A caller can't have anything hidden by writing what stands for a secret.
		{"what looks hidden", call.JSONRPC, "/", `{"to":"hmac:00112233445566778899aabbccddeeff"}`, "application/json", "", `{"to":"hmac:00112233445566778899aabbccddeeff"}`,
			"/", `{"to":"hmac:00112233445566778899aabbccddeeff"}`, "json", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := New(Config{}).newHold(&call.Call{Protocol: c.protocol, ArgsJSON: []byte(c.args), Request: call.Request{Authority: "joe:hunter2@crm", Path: c.path, Body: []byte(c.body),
				Headers: call.Headers{{Name: "content-type", Value: c.contentType}, {Name: "content-encoding", Value: c.encoding}}}}, &call.Ruling{})
			v := show(h)
			var args bytes.Buffer
			if err := json.Compact(&args, []byte(v.Arguments)); err != nil {
				t.Fatal(err)
			}
			if v.Authority != "[hidden]@crm" || v.Path != c.wantPath || args.String() != c.wantArgs || v.BodyForm != c.wantForm || v.Hidden != c.hidden {
				t.Errorf("shows %s, %s, a body as %s, %d hidden", v.Path, args.String(), v.BodyForm, v.Hidden)
			}
			out, err := json.Marshal(v)
			if err != nil || strings.Contains(string(out), "hunter2") || strings.Contains(string(out), jwt) || strings.Contains(string(out), "aHVudGVyMg") {
				t.Errorf("%v: %s", err, out)
			}
			if v.Body == "" && len(c.body) > 0 && v.BodySHA256 != "" {
				t.Error("a body that is not shown can be guessed")
			}
		})
	}
}

// Looking at a body never changes what is not hidden, and never shows what a
// terminal would obey.
func FuzzView(f *testing.F) {
	for _, s := range []string{`{"a":[1,"x",{"token":"t"}]}`, `{"password":{"a":[1,2]},"b":"\ud800"}`, "[]", "\"\u202e\"", "a=1&token=2", "\xff\x00", `{"a":1}{`, ` [ 1 , 2 ] `} {
		f.Add([]byte(s), "application/json")
	}
	f.Add([]byte("a=1&token=2"), "application/x-www-form-urlencoded")
	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		h := Hold{ArgsJSON: body, Request: Request{Body: body, ContentType: contentType, Path: string(body)}}
		v := show(&h)
		if strings.ContainsFunc(v.Body+v.Path+v.Arguments, misleading) || !utf8.ValidString(v.Body+v.Path) {
			t.Errorf("shows %q", v.Body)
		}
		if v.Hidden == 0 && v.BodyForm != "base64" && v.Body != visible(string(body)) {
			t.Errorf("%q became %q", body, v.Body)
		}
		masked, ok := (&viewer{}).json(body)
		if ok != json.Valid(body) || ok && !json.Valid(masked) {
			t.Errorf("%q became %q", body, masked)
		}
	})
}

// Arguments with characters that mislead stay JSON, and show them.
func TestVisibleJSON(t *testing.T) {
	for doc, want := range map[string]string{
		`{"a":"plain ü","n":1}`:                        `{"a":"plain ü","n":1}`,
		"{\"a\":\"pay\u200b\u202eme\"}":                `{"a":"pay\u200b\u202eme"}`,
		"{\"tag\":\"\U000E0041\"}":                     `{"tag":"\udb40\udc41"}`,
		"{\r\n\t\"a\": \"\x7f\", \"b\": \"\xff\"\r\n}": "{\r\n\t\"a\": \"\\u007f\", \"b\": \"\\ufffd\"\r\n}",
	} {
		got := visibleJSON(doc)
		if got != want || !json.Valid([]byte(got)) {
			t.Errorf("%q shows as %q", doc, got)
		}
	}
}
