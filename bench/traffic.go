package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/callgate/callgate/call"
)

// traffic makes the calls of an invented company, the same ones from the same
// seed: identities that differ a lot in how much they call, sessions of about
// ten calls, twenty rules that deny one call in twenty, and text in bodies that
// compresses as people's text does and not as a repeated line.
type traffic struct {
	rnd      *rand.Rand
	busy     *rand.Zipf // which identity calls
	callers  []caller
	sessions []session // one for each caller that has one under way
	requests int
}

type caller struct {
	identity call.Identity
	source   string
	agent    string
	uses     []int // functions, the favourite first
	traces   bool  // whether its calls carry a traceparent
}

type session struct {
	id    string
	token string
	ends  time.Time
	left  int
}

const (
	trafficCallers = 2000
	trafficRules   = 20
)

// endpoint is a function and the connection it belongs to.
type endpoint struct {
	connection string
	protocol   call.Protocol
	function   string
	noun       string
}

// endpoints are forty functions on twelve connections.
var endpoints = func() (list []endpoint) {
	for i, c := range []struct {
		name string
		mcp  bool
		verb []string
	}{
		{"crm", true, []string{"find_customer", "update_customer", "list_notes", "add_note"}},
		{"billing", false, []string{"invoices.create", "invoices.get", "refunds.create", "refunds.get"}},
		{"mail", true, []string{"send", "search", "label"}},
		{"tickets", true, []string{"open", "comment", "close", "search"}},
		{"warehouse", false, []string{"stock.get", "stock.move", "orders.ship"}},
		{"payroll", false, []string{"slips.get", "runs.start"}},
		{"docs", true, []string{"search", "read", "write", "share"}},
		{"deploys", false, []string{"releases.create", "releases.get", "rollbacks.create"}},
		{"search", true, []string{"query", "suggest"}},
		{"calendar", true, []string{"list", "book", "cancel"}},
		{"contracts", false, []string{"drafts.create", "drafts.get", "signatures.request", "signatures.get"}},
		{"metrics", true, []string{"query", "alert", "silence", "annotate"}},
	} {
		for _, v := range c.verb {
			e := endpoint{connection: c.name, protocol: call.HTTP, function: v, noun: nouns[i]}
			if c.mcp {
				e.protocol, e.function = call.MCP, "tools/call "+v
			}
			list = append(list, e)
		}
	}
	return list
}()

var nouns = strings.Fields("customer invoice message ticket pallet employee document release query meeting contract series")

func newTraffic(seed uint64) *traffic {
	t := &traffic{rnd: rand.New(rand.NewPCG(seed, 1))}
	t.busy = rand.NewZipf(t.rnd, 1.1, 20, trafficCallers-1)
	for i := range trafficCallers {
		name := first[t.rnd.IntN(len(first))] + "." + last[t.rnd.IntN(len(last))]
		c := caller{
			identity: call.Identity{Issuer: "https://login.corp.example/realms/main", Subject: fmt.Sprintf("%s-%d@corp.example", name, i), Kind: call.Human,
				Groups: []string{teams[i%len(teams)], "staff"}, Method: "oidc"},
			source: fmt.Sprintf("10.%d.%d.%d", 16+i%8, t.rnd.IntN(256), 1+t.rnd.IntN(254)),
			agent:  agents[t.rnd.IntN(len(agents))],
		}
		if i%3 == 0 { // an agent at work for the person
			c.identity.Kind = call.Agent
			c.identity.Actors = []call.Actor{{Issuer: "https://login.corp.example/realms/main", Subject: "agent-" + teams[i%len(teams)]}}
		}
		c.traces = i%2 == 1
		for range 3 + t.rnd.IntN(10) {
			c.uses = append(c.uses, t.rnd.IntN(len(endpoints)))
		}
		t.callers = append(t.callers, c)
	}
	t.sessions = make([]session, len(t.callers))
	return t
}

// next is one call that is decided at the given time, with its legs in order.
func (t *traffic) next(at time.Time) []call.Event {
	t.requests++
	who := int(t.busy.Uint64())
	c, s := &t.callers[who], &t.sessions[who]
	if s.left == 0 || at.After(s.ends) {
		*s = session{id: t.hex(16), token: t.uuid().String(), ends: at.Add(time.Hour), left: 5 + t.rnd.IntN(11)}
	}
	s.left--
	f := endpoints[c.uses[min(t.rnd.IntN(len(c.uses)), t.rnd.IntN(len(c.uses)))]]
	args := t.args(f)
	request, path := args, "/"+strings.ReplaceAll(f.function, ".", "/")
	rpc := ""
	if f.protocol == call.MCP {
		rpc = fmt.Sprint(t.requests % 5000)
		path = "/mcp"
		request = fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":%q,"arguments":%s,"_meta":{"progressToken":%s}}}`,
			rpc, strings.TrimPrefix(f.function, "tools/call "), args, rpc)
	}
	decision := call.Decision{Outcome: call.Allow, Rule: "allow-" + f.connection, Reason: call.ReasonRule, PolicyVersion: fmt.Sprintf("2026-%02d", at.YearDay()/4)}
	denied := t.rnd.IntN(20) == 0
	expect := []call.EventKind{call.Answered, call.Finished}
	if denied {
		rule := min(t.rnd.IntN(trafficRules), t.rnd.IntN(trafficRules))
		decision = call.Decision{Outcome: call.Deny, Rule: fmt.Sprintf("deny-%s-%d", nouns[rule%len(nouns)], rule), Reason: call.ReasonRule,
			Message: "this " + f.noun + " may only be touched by its owner", PolicyVersion: decision.PolicyVersion}
		expect = expect[1:]
	}
	id, trace, requestID := t.id(at), t.hex(16), t.uuid().String()
	took := 60*time.Microsecond + time.Duration(t.rnd.ExpFloat64()*float64(80*time.Microsecond))
	upstream := 5*time.Millisecond + time.Duration(t.rnd.ExpFloat64()*float64(60*time.Millisecond))
	identity := c.identity
	traceparent := call.Headers{{Name: "traceparent", Value: "00-" + trace + "-" + t.hex(8) + "-01"}}
	if !c.traces {
		trace, traceparent = "", nil
	}
	identity.TokenID, identity.Expires = s.token, s.ends.Truncate(time.Second)
	headers := call.Headers{{Name: "accept", Value: "application/json, text/event-stream"}, {Name: "content-type", Value: "application/json"},
		{Name: "user-agent", Value: c.agent}, {Name: "x-forwarded-for", Value: c.source}, {Name: "x-request-id", Value: requestID}}
	headers = append(headers, traceparent...)
	node := fmt.Sprintf("edge-%d", t.rnd.IntN(3))
	decided := call.Event{Kind: call.Decided, CallID: id, Time: at, Decided: &call.DecidedEvent{
		Identity: identity, Connection: f.connection, Protocol: f.protocol, Function: f.function, ArgsJSON: args, Session: s.id, Decision: decision,
		Method: "POST", Scheme: "https", Authority: f.connection + ".api.corp.example", Path: path, Headers: headers,
		Body: call.NewBody(request, 1<<20, "application/json", ""), Source: fmt.Sprintf("%s:%d", c.source, 32768+t.rnd.IntN(28000)),
		TraceID: trace, RequestID: requestID, RPCID: rpc, Started: at.Add(-took), Took: took, Expect: expect,
	}}
	finished := &call.FinishedEvent{Status: 200, Details: "via_upstream", Started: at.Add(-took), Duration: took + upstream + time.Millisecond,
		BytesIn: int64(len(request) + 400), EnvoyNode: node, HTTPVersion: "HTTP/2", TLSVersion: "TLSv1.3"}
	if denied {
		finished.Status, finished.Details, finished.Flags, finished.BytesOut = 403, "ext_authz_denied", []string{"UAEX"}, 310
		finished.Duration = took + time.Millisecond
		return []call.Event{decided, {Kind: call.Finished, CallID: id, Time: at.Add(finished.Duration), Finished: finished}}
	}
	response := t.response(f, rpc)
	finished.Upstream, finished.Cluster = fmt.Sprintf("10.96.%d.%d:8443", len(f.connection), t.rnd.IntN(4)), f.connection
	finished.Attempts, finished.UpstreamTook, finished.BytesOut = 1, upstream, int64(len(response)+200)
	answered := &call.AnsweredEvent{Status: 200, Headers: call.Headers{{Name: "content-type", Value: "application/json"},
		{Name: "date", Value: at.Truncate(time.Second).Format("Mon, 02 Jan 2006 15:04:05 GMT")}},
		Body: call.NewBody(response, 1<<20, "application/json", "")}
	if f.protocol == call.MCP {
		failed := false
		answered.RPCStatus, answered.ToolError = &call.RPCStatus{}, &failed
	}
	return []call.Event{decided,
		{Kind: call.Answered, CallID: id, Time: at.Add(upstream), Answered: answered},
		{Kind: call.Finished, CallID: id, Time: at.Add(finished.Duration), Finished: finished}}
}

// args are a function's arguments, about 120 bytes.
func (t *traffic) args(f endpoint) []byte {
	args := map[string]any{
		f.noun:   map[string]any{"id": fmt.Sprintf("%s-%06d", f.noun[:2], t.rnd.IntN(400_000)), "region": regions[t.rnd.IntN(len(regions))]},
		"amount": t.rnd.IntN(200_000),
		"note":   t.text(4 + t.rnd.IntN(6)),
	}
	if t.rnd.IntN(4) == 0 {
		args["urgent"] = true
	}
	return encode(args)
}

// response is what the function answers, about 500 bytes.
func (t *traffic) response(f endpoint, rpc string) []byte {
	result := map[string]any{
		"id": t.uuid().String(), "status": states[t.rnd.IntN(len(states))], "owner": first[t.rnd.IntN(len(first))] + " " + last[t.rnd.IntN(len(last))],
		"updated": t.rnd.IntN(1_000_000_000), "summary": t.text(25 + t.rnd.IntN(40)), f.noun + "_count": t.rnd.IntN(500),
	}
	if f.protocol != call.MCP {
		return encode(result)
	}
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":%s}],"isError":false}}`, rpc, encode(string(encode(result))))
}

// text is so many words, common ones more often, now and then a rare one.
func (t *traffic) text(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(' ')
		}
		switch {
		case t.rnd.IntN(25) == 0:
			fmt.Fprintf(&b, "ref%05d", t.rnd.IntN(100_000))
		default:
			b.WriteString(words[min(t.rnd.IntN(len(words)), t.rnd.IntN(len(words)))])
		}
	}
	return b.String()
}

func (t *traffic) bytes(p []byte) {
	for i := range p {
		p[i] = byte(t.rnd.Uint32())
	}
}

func (t *traffic) hex(n int) string {
	p := make([]byte, n)
	t.bytes(p)
	return hex.EncodeToString(p)
}

func (t *traffic) uuid() (id uuid.UUID) {
	t.bytes(id[:])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

// id is a UUID of version 7 that was made at the given time.
func (t *traffic) id(at time.Time) (id uuid.UUID) {
	t.bytes(id[:])
	ms := at.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	return id
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("bench: " + err.Error())
	}
	return b
}

var (
	first   = strings.Fields("ada alan barbara blaise claude dennis donald edsger frances grace hedy ida jean john katherine ken linus margaret mary niklaus radia robin sophie tim")
	last    = strings.Fields("allen backus clarke dijkstra easley franklin goldberg hamilton hopper iverson johnson knuth liskov lovelace mauchly naur perlman ritchie shannon turing wirth zuse")
	teams   = strings.Fields("support finance sales platform legal people logistics research security data")
	regions = strings.Fields("eu-west eu-north us-east us-west ap-south")
	states  = strings.Fields("accepted pending done rejected archived")
	agents  = []string{"corp-agent/3.4.1 (linux; amd64)", "python-httpx/0.28.1", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36", "node-mcp-client/1.12.0", "go-resty/2.16.5", "corp-cli/0.9.2"}
	words   = strings.Fields(`the to of and a in for is on that by this with you it not or be are from at as your all have new more an was we will
		can us about if my has but our one other do no time they site he up may what which their news out use any there see only so his when contact here business
		who web also now help get view first been would how were services some these click its like service than find price date back top people had list name just
		over state year day into email two health world next used go work last most products music buy data make them should product system post her city add policy
		number such please available copyright support message after best software then good video well where info rights public books high school through each links she
		review years order very privacy book items company read group need many user said does set under general research university mail full map reviews program life
		know games way days management part could great united hotel real item international center must store travel comments made development report off member details
		line terms before hotels did send right type because local those using results office education national car design take posted internet address community within
		states area want phone shipping reserved subject between forum family long based code show even black check special prices website index being women much sign file
		link open today technology south case project same pages version section own found sports house related security both county american photo game members power while
		care network down computer systems three total place end following download him without per access think north resources current posts big media law control water
		history pictures size art personal since including guide shop directory board location change white text small rating rate government children during return students
		invoice overdue customer complained parcel damaged refund agreed escalate manager approved shipment delayed warehouse pallet contract renewal signature quarterly forecast
		payroll correction vacation onboarding laptop replacement outage postmortem rollback canary latency regression dashboard threshold alert silence incident handover`)
)
