package e2e

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"
)

// inUTF16 writes text in UTF-16, little endian.
func inUTF16(s string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u), byte(u>>8))
	}
	return string(b)
}

// says11 answers with bytes as they are.
func says11(response string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { raw(w, response) }
}

func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

const jsonHead = "content-type: application/json\r\n"

// Ways of a function to answer that stretch the protocols, or say one thing and do
// another.
var hostileReturns = []returned{
	// The exchange.
	{"early hints", says11("HTTP/1.1 103 Early Hints\r\nlink: </a?m=" + plantedMail + ">; rel=preload\r\nx-card: " + plantedCard + "\r\n\r\nHTTP/1.1 200 OK\r\n" + jsonHead + "content-length: 2\r\n\r\n{}"), shown{}},
	{"processing", says11("HTTP/1.1 102 Processing\r\nx-card: " + plantedCard + "\r\n\r\nHTTP/1.1 200 OK\r\n" + jsonHead + "content-length: 2\r\n\r\n{}"), shown{}},
	{"continue", says11("HTTP/1.1 100 Continue\r\nx-card: " + plantedCard + "\r\n\r\nHTTP/1.1 200 OK\r\n" + jsonHead + "content-length: 2\r\n\r\n{}"), shown{}},
	{"another protocol", says11("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n" + sensitive), shown{502, "", withheld}},
	{"a reason", says11("HTTP/1.1 200 " + plantedCard + "\r\n" + jsonHead + "content-length: 2\r\n\r\n{}"), shown{}},
	{"an old protocol", says11("HTTP/1.0 200 OK\r\n" + jsonHead + "\r\n" + sensitive), shown{200, cleaned, ""}},
	{"no content with a body", says11("HTTP/1.1 204 No Content\r\n" + jsonHead + fmt.Sprintf("content-length: %d\r\n\r\n%s", len(sensitive), sensitive)), shown{}},
	{"not modified with a body", says11("HTTP/1.1 304 Not Modified\r\n" + jsonHead + fmt.Sprintf("content-length: %d\r\n\r\n%s", len(sensitive), sensitive)), shown{}},
	{"reset with a body", says11("HTTP/1.1 205 Reset Content\r\n" + jsonHead + fmt.Sprintf("content-length: %d\r\n\r\n%s", len(sensitive), sensitive)), shown{200 + 5, cleaned, ""}},
	{"another transfer encoding", says11("HTTP/1.1 200 OK\r\n" + jsonHead + "transfer-encoding: gzip, chunked\r\n\r\n5\r\n" + sensitive[:5] + "\r\n0\r\n\r\n"), shown{}},
	{"trailers that nobody announced", says11("HTTP/1.1 200 OK\r\n" + jsonHead + "transfer-encoding: chunked\r\n\r\n2;x=" + plantedCard + "\r\n{}\r\n0\r\nx-card: " + plantedCard + "\r\npassword: " + plantedPhone + "\r\nx-" + plantedCard + ": 1\r\n\r\n"), shown{200, "{}", ""}},
	{"folded header", says11("HTTP/1.1 200 OK\r\n" + jsonHead + "x-card: 4111 1111\r\n 1111 1111\r\ncontent-length: 2\r\n\r\n{}"), shown{}},

	// Encodings.
	{"identity", typed("application/json", sensitive, "content-encoding", "identity"), shown{200, cleaned, ""}},
	{"GZIP", typed("application/json", string(rawGzip(sensitive)), "content-encoding", "GZIP"), shown{200, cleaned, ""}},
	{"codings in two lines", typed("application/json", string(rawGzip(string(rawGzip(sensitive)))), "content-encoding", "gzip", "content-encoding", "x-gzip"), shown{200, cleaned, ""}},
	{"four codings", squeezed("application/json", sensitive, "gzip", "gzip", "gzip", "gzip"), shown{502, "", withheld}},
	{"a coding and one that nobody knows", typed("application/json", string(rawGzip(sensitive)), "content-encoding", "aws-chunked, gzip"), shown{502, "", withheld}},
	{"two gzip members", typed("application/json", string(rawGzip(sensitive[:20]))+string(rawGzip(sensitive[20:])), "content-encoding", "gzip"), shown{200, cleaned, ""}},
	{"gzip and more", typed("application/json", string(rawGzip("{}"))+sensitive, "content-encoding", "gzip"), shown{502, "", withheld}},

	// Charsets.
	{"json in UTF-16", typed("application/json", "\xff\xfe"+inUTF16(sensitive)), shown{502, "", withheld}},
	{"json in UTF-16 without a mark", typed("application/json", inUTF16(sensitive)), shown{502, "", withheld}},
	{"text in UTF-16", typed("text/plain", "\xff\xfe"+inUTF16(sensitive)), shown{502, "", withheld}},
	{"text in UTF-16 without a mark", typed("text/plain", inUTF16("card "+plantedCard+" ")), shown{200, "", "[redacted:card]"}},
	{"latin1", typed("text/plain; charset=iso-8859-1", "Stra\xdfe "+plantedMail), shown{502, "", withheld}},
	{"latin1 that nobody announced", typed("text/plain", "Stra\xdfe "+plantedMail), shown{502, "", withheld}},
	{"UTF-8 with a mark", typed("application/json; charset=\"UTF-8\"", "\xef\xbb\xbf"+sensitive), shown{200, "\xef\xbb\xbf" + cleaned, ""}},
	{"xml in UTF-7", typed("text/xml", `<?xml version="1.0" encoding="UTF-7"?><r>+ADQ-111111111111111 `+plantedMail+`</r>`), shown{502, "", withheld}},

	// Types.
	{"two types", typed("application/json", sensitive, "content-type", "image/png"), shown{502, "", withheld}},
	{"a list of types", typed("application/json, text/plain", sensitive), shown{502, "", withheld}},
	{"a picture", typed("image/svg+xml", `<svg><text x="1">4111<tspan>1111</tspan></text><desc>`+plantedMail+`</desc><style><![CDATA[/* `+plantedCard+` */]]></style></svg>`), shown{200, "", "[redacted:card]"}},
	{"a document", typed("application/pdf", "%PDF-1.7 "+plantedMail), shown{502, "", withheld}},
	{"protobuf", typed("application/x-protobuf", "\x0a\x10"+plantedCard), shown{502, "", withheld}},
	{"msgpack", typed("application/msgpack", "\x81\xa1c\xb0"+plantedCard), shown{502, "", withheld}},
	{"gRPC-Web", typed("application/grpc-web+proto", "\x00\x00\x00\x00\x12\x0a\x10"+plantedCard), shown{502, "", withheld}},
	{"gRPC-Web in base64", typed("application/grpc-web-text", base64Of("\x00\x00\x00\x00\x12\x0a\x10"+plantedCard)), shown{502, "", withheld}},
	{"Connect", typed("application/connect+json", "\x00\x00\x00\x00"+string(rune(len(sensitive)))+sensitive), shown{502, "", withheld}},
	{"a status of gRPC", typed("application/json", "{}", "grpc-status", "3", "grpc-message", "card "+plantedCard, "grpc-status-details-bin", base64Of("card "+plantedCard)), shown{200, "{}", ""}},

	// JSON.
	{"a name twice", typed("application/json", `{"card":1,"card":"`+plantedCard+`","password":"a","password":"`+plantedPhone+`"}`), shown{200, `{"card":1,"card":"[redacted:card]","password":"[redacted]","password":"[redacted]"}`, ""}},
	{"numbers", typed("application/json", `[`+plantedCard+`e0, 4.111111111111111e15, `+plantedCard+`0e-1, -`+plantedCard+`, `+plantedCard+`.00]`), shown{200, `["[redacted:card]", "[redacted:card]", "[redacted:card]", "[redacted:card]", "[redacted:card]"]`, ""}},
	{"a card as a name", typed("application/json", `{"`+plantedCard+`":{"`+plantedMail+`":1}}`), shown{200, `{"[redacted:card]":{"[redacted:email]":1}}`, ""}},
	{"json in json in json", typed("application/json", `{"a":"{\"b\":\"{\\\"password\\\":\\\"`+plantedPhone+`\\\",\\\"c\\\":\\\"\\\\u0034111111111111111\\\"}\"}"}`), shown{200, "", `[redacted:card]`}},
	{"base64url", typed("application/json", `{"a":"`+base64.RawURLEncoding.EncodeToString([]byte(`{"to":"`+plantedMail+`","n":"??>>"}`))+`"}`), shown{200, `{"a":"` + base64.RawURLEncoding.EncodeToString([]byte(`{"to":"[redacted:email]","n":"??>>"}`)) + `"}`, ""}},
	{"base64 of base64", typed("application/json", `{"a":"`+base64Of(base64Of("write to "+plantedMail))+`"}`), shown{200, "", ""}},
	{"a data URL", typed("application/json", `{"a":"data:text/plain;base64,`+base64Of("write to "+plantedMail)+`"}`), shown{200, "", "data:text/plain;base64,"}},
	{"a URL in json", typed("application/json", `{"next":"https://x.example/?m=`+strings.Replace(plantedMail, "@", "%40", 1)+`&c=4111%201111%201111%201111"}`), shown{200, `{"next":"https://x.example/?m=[redacted:email]&c=[redacted:card]"}`, ""}},
	{"html in json", typed("application/json", `{"html":"<p>4111&nbsp;1111&nbsp;1111&nbsp;1111 jane.doe&#64;example.com</p>"}`), shown{200, `{"html":"<p>[redacted:card] [redacted:email]</p>"}`, ""}},
	{"lines with a mark", typed("application/x-ndjson", "\xef\xbb\xbf"+sensitive+"\r\n"+sensitive), shown{200, "\xef\xbb\xbf" + cleaned + "\r\n" + cleaned, ""}},
	{"lines as one document", typed("application/json", sensitive+"\n"+sensitive), shown{502, "", withheld}},
	{"lines as text", typed("text/plain", `{"secret":{"value":"`+plantedPhone+`"}}`+"\n"+`{"secret":{"value":"`+plantedPhone+`"}}`), shown{502, "", withheld}},

	// Events.
	{"events with carriage returns", typed("text/event-stream", "data: "+sensitive+"\r\rid: "+plantedCard+"\revent: "+plantedMail+"\rretry: "+plantedCard+"\r: "+plantedMail+"\rdata\rdata: 1\r\r"), shown{200, "", "data: " + cleaned + "\r\r"}},
	{"a value in two lines of data", typed("text/event-stream", "data: {\"card\":\ndata:  \""+plantedCard+"\", \"password\":\n: x\ndata: \""+plantedPhone+"\"}\n\n"), shown{200, "", "[redacted:card]"}},
	{"an event that does not end", typed("text/event-stream", "data: "+sensitive), shown{200, "data: " + cleaned, ""}},
	{"json as events", typed("text/event-stream", "{\"secret\":\n{\"value\":\n\""+plantedPhone+"\"}}\n\n"), shown{}},
	{"events with a mark", typed("text/event-stream", "\xef\xbb\xbfdata: "+sensitive+"\n\n"), shown{200, "\xef\xbb\xbfdata: " + cleaned + "\n\n", ""}},

	// Other shapes.
	{"parts", typed(`multipart/mixed; boundary="-"`, "\r\n---\r\ncontent-type: application/json\r\nx-card: "+plantedCard+"\r\n\r\n"+sensitive+"\r\n---\r\ncontent-type: text/plain\r\n\r\n"+plantedMail+"\r\n-----\r\n"), shown{200, "", cleaned}},
	{"a part in quoted-printable", typed("multipart/mixed; boundary=b", "--b\r\ncontent-transfer-encoding: quoted-printable\r\n\r\n=34111111111111111 "+plantedMail+"\r\n--b--\r\n"), shown{502, "", withheld}},
	{"parts without an end", typed("multipart/mixed; boundary=b", "--b\r\n\r\n"+plantedMail), shown{502, "", withheld}},
	{"text before the parts", typed("multipart/mixed; boundary=b", plantedMail+"\r\n--b\r\n\r\nx\r\n--b--\r\n"), shown{502, "", withheld}},
	{"csv over lines", typed("text/csv", "id,password\r\n1,\"hunter2-\r\nvery-secret\"\r\n2,\""+plantedPhone+"\"\r\n"), shown{200, "id,password\r\n1,\"[redacted]\"\r\n2,\"[redacted]\"\r\n", ""}},
	{"csv that names its separator", typed("text/csv", "sep=;\r\nid;password\r\n1;"+plantedPhone+"\r\n"), shown{200, "sep=;\r\nid;password\r\n1;[redacted]\r\n", ""}},
	{"xml with namespaces", typed("application/soap+xml", `<s:e xmlns:s="urn:s" xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="/c/`+plantedCard+`"/><s:password>`+plantedPhone+`</s:password><m>4111<![CDATA[1111]]>&#49;1111111</m></s:e>`), shown{200, "", "<s:password>[redacted]</s:password>"}},
	{"xml as text", typed("text/plain", `<?xml version="1.0"?><r><m>jane.doe&#64;example.com</m><password>`+plantedPhone+`</password></r>`), shown{200, `<?xml version="1.0"?><r><m>[redacted:email]</m><password>[redacted]</password></r>`, ""}},
	{"xml of no type", typed("", `<r><password>`+plantedPhone+`</password></r>`), shown{200, `<r><password>[redacted]</password></r>`, ""}},
	{"xml as html", typed("text/html", `<?xml version="1.0"?><r><password>`+plantedPhone+`</password></r>`), shown{200, `<?xml version="1.0"?><r><password>[redacted]</password></r>`, ""}},
	{"html as text", typed("text/plain", "<!DOCTYPE html>\n<p>4111<b>1111</b>11111111<input name=password value="+plantedPhone+">"), shown{200, "", "[redacted:card]"}},
	{"jsonp", typed("application/javascript", `/**/cb({"secret":{"value":"`+plantedPhone+`"}});`), shown{200, `/**/cb({"secret":[redacted]`, ""}},
	{"yaml", typed("application/yaml", "secret:\n  value: "+plantedPhone+"\n"), shown{200, "secret:\n  [redacted]\n", ""}},
	{"json sequence", typed("application/json-seq", "\x1e{\"secret\":{\"value\":\""+plantedPhone+"\"}}\n"), shown{200, "", "\x1e{\"secret\":[redacted]"}},
	{"json in html", typed("text/html", `<pre>{ &quot;secret&quot;: { &quot;value&quot;: &quot;`+plantedPhone+`&quot; } }</pre>`), shown{200, "", "[redacted]"}},
	{"a calendar", typed("text/calendar", "BEGIN:VEVENT\r\nATTENDEE;CN=Jane:mailto:jane.doe@exam\r\n ple.com\r\nEND:VEVENT\r\n"), shown{200, "", "[redacted:email]"}},

	// Headers.
	{"odd headers", typed("application/json", "{}", "content-disposition", "attachment; filename*=UTF-8''%34111111111111111", "server-timing", `db;desc="`+plantedCard+`"`, "report-to", `{"password":"`+plantedPhone+`"}`,
		"x-user", base64Of(`{"to":"`+plantedMail+`"}`), "set-cookie", "profile="+base64Of(`{"to":"`+plantedMail+`"}`)+"; Path=/", "x-"+plantedCard, "1", "x-callgate-note", plantedCard, "alt-svc", `h3="`+plantedCard+`:443"`, "content-location", "/c/"+plantedCard, "sourcemap", "/?m="+plantedMail), shown{200, "{}", ""}},
}

// None of the answers shows what is masked: it is hidden, or all of it is withheld.
func TestMaskedHostileAnswers(t *testing.T) {
	versions(t, func(t *testing.T, c *http.Client) {
		c.Transport.(*http.Transport).DisableCompression = true
		for _, r := range hostileReturns {
			t.Run(r.name, func(t *testing.T) {
				path := masked(t, shared, "hostile "+r.name, r.answer)
				// What comes before the answer proper is the caller's, too.
				var mu sync.Mutex
				early := ""
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
					mu.Lock()
					defer mu.Unlock()
					early += fmt.Sprint(code, h)
					return nil
				}})
				for _, method := range []string{"GET", "HEAD"} {
					a, err := shared.try(ctx, c, shared.alice, method, path, "")
					mu.Lock()
					a.body += early
					mu.Unlock()
					clean(t, a)
					for _, spelled := range []string{base64Of(plantedMail)[:12], "write to", base64Of(`{"to":"` + plantedMail)[:24], "4111%20", "%34111", "jane.doe%40", "jane.doe&", "4111&nbsp;", "4111111111111111", "exam\r\n ple"} {
						if strings.Contains(a.body+fmt.Sprint(a.header), spelled) {
							t.Errorf("%s: %q got out: %q %v", method, spelled, a.body, a.header)
						}
					}
					if r.want.status == 0 || method == "HEAD" {
						continue // whatever it is, nothing of it got out
					}
					if err != nil {
						t.Fatal(err)
					}
					if a.status != r.want.status || r.want.body != "" && a.body != r.want.body || !strings.Contains(a.body, r.want.has) {
						t.Errorf("%d %.600q", a.status, a.body)
					}
				}
			})
		}
	})
}

// A caller that reads the answer's bytes itself sees no more of them.
func TestMaskedAnswerBytes(t *testing.T) {
	for _, name := range []string{"early hints", "processing", "continue", "another protocol", "a reason", "trailers that nobody announced"} {
		for _, r := range hostileReturns {
			if r.name != name {
				continue
			}
			path := masked(t, shared, "hostile "+r.name, r.answer)
			got := everyByte(t.Context(), t, "GET "+path+" HTTP/1.1\r\nhost: x\r\nte: trailers\r\nauthorization: Bearer "+shared.alice+"\r\nconnection: close\r\n\r\n")
			if strings.Contains(got, plantedCard) || strings.Contains(got, plantedMail) || strings.Contains(got, plantedPhone) || !strings.HasPrefix(got, "HTTP/1.1 ") {
				t.Errorf("%s: %q", name, got)
			}
		}
	}
}

// everyByte sends a request and returns all that comes.
func everyByte(ctx context.Context, t *testing.T, request string) string {
	t.Helper()
	conn, err := dialer(20*time.Second).DialContext(ctx, "tcp", shared.Addrs.Envoy)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}
