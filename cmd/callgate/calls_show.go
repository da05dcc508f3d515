package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/call"
)

// story is all that the trail has of one call.
type story struct {
	Call      clickhouse.Row     `json:"call"`
	Approvals []clickhouse.Step  `json:"approvals"`
	Events    []clickhouse.Entry `json:"events"`
	// Batch are the calls that came in the same request, this one included.
	Batch []clickhouse.Member `json:"batch,omitempty"`
}

func newCallsShow() *cobra.Command {
	c := &cobra.Command{
		Use:     "show ID",
		Short:   "Show all that is recorded of one call",
		Example: "  callgate calls show 01935b5e-7f6a-7c1e-9d3b-2f1f0a9c8b7d --json",
		Args:    cobra.ExactArgs(1),
	}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		id, err := call.ParseID(args[0])
		if err != nil {
			return withCode(exitUsage, err)
		}
		db, err := openTrail(c)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		s := story{}
		if s.Events, err = db.Entries(c.Context(), id); err != nil {
			return withCode(exitNo, err)
		}
		if s.Call, err = db.Call(c.Context(), id); err != nil {
			if errors.Is(err, clickhouse.ErrNotFound) && len(s.Events) > 0 {
				err = fmt.Errorf("call %s has no row yet: its last event is %q of %s; the row comes when the call has ended, or audit.clickhouse.settle_after later",
					id, clickhouse.Text(s.Events[len(s.Events)-1].Kind), clickhouse.Text(s.Events[len(s.Events)-1].Time))
			}
			return withCode(exitNo, err)
		}
		if s.Approvals, err = db.Steps(c.Context(), id, s.Call.ApprovalID); err != nil {
			return withCode(exitNo, err)
		}
		if s.Call.BatchSize > 0 {
			if s.Batch, err = db.Batch(c.Context(), s.Call.BatchID); err != nil {
				return withCode(exitNo, err)
			}
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), s)
		}
		p := &page{}
		p.call(s)
		_, err = c.OutOrStdout().Write(p.out.Bytes())
		return err
	}
	return c
}

// page is a call as a person reads it. All text of others goes through
// clickhouse.Text.
type page struct{ out bytes.Buffer }

func (p *page) section(name string) { fmt.Fprintf(&p.out, "\n%s\n", name) }

// line prints what is known of something, and nothing where that is nothing.
func (p *page) line(name string, value any) {
	if t := clickhouse.Text(value); t != "" {
		fmt.Fprintf(&p.out, "  %-12s %s\n", name, t)
	}
}

// block prints text of several lines below what was printed last.
func (p *page) block(text string) {
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		fmt.Fprintf(&p.out, "    %s\n", clickhouse.Text(line))
	}
}

func (p *page) call(s story) {
	r := s.Call
	fmt.Fprintf(&p.out, "Call %s: %s on %s, %s (%s)\n", r.CallID, clickhouse.Text(orDash(r.Function)), clickhouse.Text(orDash(r.Connection)), r.Decision, clickhouse.Text(r.Reason))

	p.section("Who")
	p.line("subject", r.Subject)
	p.line("kind", r.Kind)
	p.line("issuer", r.Issuer)
	p.line("groups", strings.Join(r.Groups, ", "))
	for i, actor := range r.ActorSubjects {
		if i < len(r.ActorIssuers) && r.ActorIssuers[i] != "" {
			actor += " (" + r.ActorIssuers[i] + ")"
		}
		p.line(map[bool]string{true: "acting", false: "on behalf of"}[i == 0], actor)
	}
	p.line("proved by", r.AuthMethod)
	p.line("token", r.TokenID)
	p.time("expires", r.TokenExpires)
	p.line("narrowed to", strings.Join(r.Scope, " "))
	p.line("from", r.Source)

	p.section("What")
	p.line("connection", r.Connection)
	p.line("protocol", r.Protocol)
	p.line("function", r.Function)
	p.line("session", r.Session)
	if r.Args != "" && r.Args != "{}" {
		p.line("arguments", " ")
		p.block(indented(r.Args))
	}

	if r.BatchSize > 0 {
		p.line("batch", fmt.Sprintf("call %d of %d in one request, whose status, times and bytes are shown", r.BatchIndex+1, r.BatchSize))
		for _, m := range s.Batch {
			fmt.Fprintf(&p.out, "    %d  %s  %s, %s (%s)\n", m.Index+1, m.CallID, clickhouse.Text(orDash(m.Function)), clickhouse.Text(m.Decision), clickhouse.Text(m.Reason))
		}
	}

	p.section("Decision")
	p.line("decision", r.Decision)
	p.line("reason", r.Reason)
	p.line("rule", r.Rule)
	p.line("message", r.Message)
	p.line("policy", r.PolicyVersion)
	p.line("in shadow", strings.Join(r.Shadow, ", "))
	p.line("masks", strings.Join(r.Relaxed, ", "))
	if r.ApprovalID != "" || len(s.Approvals) > 0 {
		p.line("approval", r.ApprovalID)
		p.line("decided by", strings.Join(r.ApprovalBy, ", "))
		p.line("comment", r.ApprovalComment)
		for _, step := range s.Approvals {
			text := step.Step
			if step.By != "" {
				text += " by " + step.By
			}
			if step.InPlaceOf != "" {
				text += " in place of " + step.InPlaceOf
			}
			if step.Stage > 0 && step.Stages > 1 {
				text += fmt.Sprintf(", stage %d of %d", step.Stage, step.Stages)
			}
			if step.ApprovalID != r.ApprovalID || step.CallID != r.CallID {
				text += fmt.Sprintf(" (approval %s, call %s)", step.ApprovalID, step.CallID)
			}
			if step.Comment != "" {
				text += ": " + step.Comment
			}
			fmt.Fprintf(&p.out, "    %s  %s\n", clickhouse.Text(step.Time), clickhouse.Text(text))
		}
	}

	p.section("Request")
	p.line("request", strings.TrimSpace(r.Method+" "+r.Scheme+"://"+r.Authority+r.Path))
	p.line("HTTP, TLS", strings.Trim(r.HTTPVersion+", "+r.TLSVersion, ", "))
	p.headers(r.RequestHeaders)
	for i, path := range r.RequestMaskedPaths {
		p.line("masked", fmt.Sprintf("%s ×%d by %s (%s)", orDash(path), r.RequestMaskedCounts[i], r.RequestMaskedRules[i], r.RequestMaskedTypes[i]))
	}
	p.body(r.RequestBody, r.RequestBodyTail, r.RequestBodyBytes, r.RequestType, r.RequestEncoding, r.RequestBodySHA256(), r.RequestBodyTruncated)

	p.section("Response")
	p.line("recorded", map[clickhouse.LegState]string{clickhouse.LegNone: "not asked for", clickhouse.LegUnknown: "unknown: it was not seen (yet)", clickhouse.LegSeen: "yes"}[r.Answered])
	if r.HTTPStatus != nil {
		p.line("status", uint64(*r.HTTPStatus))
	}
	if r.RPCCode != nil {
		p.line("rpc", strconv.FormatInt(*r.RPCCode, 10)+map[bool]string{true: " " + deref(r.RPCMessage)}[deref(r.RPCMessage) != ""])
	}
	if r.ToolError != nil {
		p.line("tool error", *r.ToolError)
	}
	p.line("withheld", r.Withheld)
	if r.Interrupted {
		p.line("interrupted", "it broke off before its end")
	}
	p.headers(r.ResponseHeaders)
	for i, path := range r.MaskedPaths {
		p.line("masked", fmt.Sprintf("%s ×%d by %s (%s)", orDash(path), r.MaskedCounts[i], r.MaskedRules[i], r.MaskedTypes[i]))
	}
	if r.OriginalSealed != "" {
		p.line("original", fmt.Sprintf("sealed, %d bytes; callgate calls unseal %s", len(r.OriginalSealed), r.CallID))
	}
	if r.ResponseBodyBytes != nil {
		p.body(r.ResponseBody, r.ResponseBodyTail, *r.ResponseBodyBytes, r.ResponseType, r.ResponseEncoding, r.ResponseBodySHA256(), r.ResponseBodyTruncated)
	}

	p.section("Times")
	p.line("came", r.Time)
	p.line("decided", r.DecidedAt)
	p.line("deciding", micros(r.AuthzMicros))
	if r.HoldMicros > 0 {
		p.line("held", micros(r.HoldMicros))
	}
	if r.Finished != clickhouse.LegSeen {
		p.line("ended", map[clickhouse.LegState]string{clickhouse.LegNone: "not asked for", clickhouse.LegUnknown: "unknown: it was not seen (yet)"}[r.Finished])
	}
	for _, t := range []struct {
		name string
		took *uint64
	}{{"upstream", r.UpstreamMicros}, {"total", r.TotalMicros}} {
		if t.took != nil {
			p.line(t.name, micros(*t.took))
		}
	}
	for _, n := range []struct {
		name  string
		bytes *uint64
	}{{"bytes in", r.BytesIn}, {"bytes out", r.BytesOut}} {
		if n.bytes != nil {
			p.line(n.name, *n.bytes)
		}
	}
	p.line("upstream is", strings.TrimSpace(r.Upstream+" "+r.Cluster))
	if r.UpstreamAttempts > 1 {
		p.line("attempts", r.UpstreamAttempts)
	}
	p.line("error", r.UpstreamError)
	p.line("flags", strings.Join(r.ResponseFlags, ", "))
	p.line("details", r.ResponseDetails)

	p.section("Record")
	p.line("Envoy", r.EnvoyNode)
	p.line("trace", r.TraceID)
	p.line("request id", r.RequestID)
	p.line("rpc id", r.RPCID)
	p.line("spool", fmt.Sprintf("%s, event %d", r.Spool, r.SpoolIndex))
	for _, e := range s.Events {
		text := fmt.Sprintf("%s  %-9s spool %s, event %d", clickhouse.Text(e.Time), e.Kind, e.Spool, e.Index)
		if e.Unjoined {
			text += ", apart from its call"
		}
		fmt.Fprintf(&p.out, "    %s\n", clickhouse.Text(text))
	}
}

func (p *page) time(name string, t *time.Time) {
	if t != nil {
		p.line(name, *t)
	}
}

func (p *page) headers(h map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		p.line("header", name+": "+h[name])
	}
}

// bodyShown bounds what a page shows of a body, in bytes; --json has all that
// was recorded.
const bodyShown = 16 << 10

func (p *page) body(head, tail string, length uint64, kind, encoding, sum string, truncated bool) {
	if length == 0 {
		p.line("body", "none")
		return
	}
	text := fmt.Sprintf("%d bytes", length)
	for _, more := range []string{kind, encoding} {
		if more != "" {
			text += ", " + more
		}
	}
	p.line("body", text)
	p.line("SHA-256", fmt.Sprintf("%x", sum))
	if truncated && head == "" && tail == "" {
		p.line("", "no byte of it was kept")
		return
	}
	p.bytes(head)
	if truncated {
		fmt.Fprintf(&p.out, "    … %d bytes were not kept …\n", length-min(length, uint64(len(head)+len(tail))))
		p.bytes(tail)
	}
}

func (p *page) bytes(body string) {
	shown := body[:min(len(body), bodyShown)]
	for len(shown) < len(body) && len(shown) > 0 && !utf8.RuneStart(body[len(shown)]) {
		shown = shown[:len(shown)-1] // not in the middle of a character
	}
	switch {
	case shown == "":
	case !utf8.ValidString(shown):
		p.block(fmt.Sprintf("0x%x", shown))
	default:
		p.block(indented(shown))
	}
	if n := len(body) - len(shown); n > 0 {
		fmt.Fprintf(&p.out, "    … %d more bytes were recorded; --json shows them …\n", n)
	}
}

// indented lays JSON out, and leaves other text as it is.
func indented(text string) string {
	var b bytes.Buffer
	if json.Indent(&b, []byte(text), "", "  ") != nil {
		return text
	}
	return b.String()
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
