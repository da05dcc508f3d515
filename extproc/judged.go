package extproc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"mime"
	"slices"
	"strings"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/call/protocol"
	"github.com/callgate/callgate/extproc/mask"
)

// Judge tells what the rules say of a function that a model has its client call.
type Judge interface {
	// Judge rules on a call of a function of the connection, as the caller's.
	// An error denies.
	Judge(ctx context.Context, meta call.Metadata, function string, args map[string]any) (call.Ruling, error)
}

// deniedTool is an answer of a model's with a tool call that is denied.
type deniedTool struct {
	tool     string
	decision call.Decision
	// last is what the caller of a stream still gets: what came before the tool
	// call, and an event that says why no more comes.
	last []byte
}

func (d *deniedTool) Error() string {
	by := string(d.decision.Reason)
	if d.decision.Rule != "" {
		by = fmt.Sprintf("rule %q", d.decision.Rule)
	}
	return fmt.Sprintf("the model's call of tool %q is denied by %s: %s", d.tool, by, d.decision.Message)
}

// behind puts what a caller is still to get before the end of a stream that a
// denied tool call makes.
func behind(out []byte, err error) error {
	var tool *deniedTool
	if errors.As(err, &tool) && tool.last != nil {
		tool.last = append(out[:len(out):len(out)], tool.last...)
	}
	return err
}

// judged hands a model's answer on once each tool call in it was judged. A
// document is held whole; of a stream, what comes from the first piece of a tool
// call on until the call is whole. What is denied never leaves, nor does
// anything behind it.
type judged struct {
	ctx    context.Context
	meta   call.Metadata
	judge  Judge
	limit  int
	next   flow
	calls  protocol.ToolCalls
	stream *eventLines // nil: the body is one document
	body   []byte      // held back
	shadow []string    // what rules in shadow would have done
}

// maxShadow bounds what is told of rules in shadow in one answer.
const maxShadow = 100

// judges reports whether what is answered to the call may hold tool calls.
func (r *response) judges() bool {
	return r.meta.Protocol == call.OpenAI && (r.meta.Function == protocol.ChatCompletions || r.meta.Function == protocol.Responses)
}

// judgedBy puts the judge before next, where the response may hold tool calls.
func (r *response) judgedBy(limit int, next flow) (flow, error) {
	if r.server.cfg.Judge == nil || r.meta.Caller == nil {
		return nil, errors.New("it can't be told here which tools the caller may use, so the model's answer can't be judged")
	}
	j := &judged{ctx: r.ctx, meta: r.meta, judge: r.server.cfg.Judge, limit: limit, next: next}
	types := r.headers.Values("content-type")
	media, params, err := mime.ParseMediaType(strings.Join(types, ","))
	cs := strings.ToLower(params["charset"])
	known := err == nil && len(types) == 1 && (cs == "" || cs == "utf-8" || cs == "utf8")
	switch {
	case known && (media == "application/json" || strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json")):
	case known && media == "text/event-stream":
		j.stream = &eventLines{}
	case strings.HasPrefix(r.headers.Get(":status"), "2"):
		return nil, errors.New("the model's answer is neither JSON nor a stream of events in UTF-8, so the tool calls in it can't be judged")
	default:
		return next, nil // an error page
	}
	return j, nil
}

func (j *judged) write(p []byte) ([]byte, error) {
	if j.kept()+len(p) > j.limit {
		return nil, fmt.Errorf("a model's answer, or a tool call in a stream, of over %d bytes can't be held to be judged; raise the connection's max_response", j.limit)
	}
	if j.stream == nil {
		j.body = append(j.body, p...)
		return nil, nil
	}
	var out []byte
	for len(p) > 0 { // line by line: each may end an event
		n := bytes.IndexAny(p, "\r\n") + 1
		if n == 0 {
			n = len(p)
		}
		event, err := j.stream.write(p[:n], j.event)
		if err != nil {
			return nil, j.ended(out, err)
		}
		some, err := j.pass(event)
		if err != nil {
			return nil, err
		}
		out, p = append(out, some...), p[n:]
	}
	return out, nil
}

// pass hands on what came, with what was held back before it, unless a tool call
// is not whole.
func (j *judged) pass(event []byte) ([]byte, error) {
	if len(event) == 0 {
		return nil, nil
	}
	if j.calls.Open() {
		j.body = append(j.body, event...)
		return nil, nil
	}
	if len(j.body) > 0 {
		event = append(j.body, event...)
		j.body = nil
	}
	return j.next.write(event)
}

// ended puts the end of a stream into the error that a tool call is denied with.
func (j *judged) ended(out []byte, err error) error {
	var tool *deniedTool
	if !errors.As(err, &tool) {
		return err
	}
	rest, closed := j.next.close()
	if closed != nil {
		return errors.Join(err, closed)
	}
	out = append(out, rest...)
	tool.last = append(out, protocol.OpenAIErrorEvent(j.meta.Function, j.meta.CallID, tool.decision)...)
	return tool
}

func (j *judged) close() ([]byte, error) {
	var out []byte
	if j.stream == nil {
		if len(bytes.TrimSpace(j.body)) > 0 {
			if err := j.each(j.calls.Document(j.body)); err != nil {
				return nil, err
			}
		}
	} else {
		event, err := j.stream.close(j.event)
		if err != nil {
			return nil, j.ended(nil, err)
		}
		if out, err = j.pass(event); err != nil {
			return nil, err
		}
	}
	if err := j.calls.Close(); err != nil {
		return nil, err
	}
	last, err := j.next.write(j.body)
	if err != nil {
		return nil, err
	}
	rest, err := j.next.close()
	return append(append(out[:len(out):len(out)], last...), rest...), err
}

// event judges the calls that an event makes whole. The event stays as it is.
func (j *judged) event(data []byte) ([]byte, error) { return data, j.each(j.calls.Event(data)) }

// each judges calls.
func (j *judged) each(calls []protocol.ToolCall, err error) error {
	if err != nil {
		return err
	}
	for _, c := range calls {
		ruling, err := j.judge.Judge(j.ctx, j.meta, c.Function(), c.Args)
		if err != nil {
			return fmt.Errorf("the model's call of tool %q can't be judged: %w", c.Name, err)
		}
		for _, s := range ruling.Shadow {
			if s = c.Function() + ": " + s; len(j.shadow) < maxShadow && !slices.Contains(j.shadow, s) {
				j.shadow = append(j.shadow, s)
			}
		}
		if ruling.Action == call.ActionAllow {
			continue
		}
		d := call.Decision{Outcome: call.Deny, Rule: ruling.Rule, Reason: ruling.Reason, Message: ruling.Message, PolicyVersion: ruling.PolicyVersion}
		if ruling.Action == call.ActionHold {
			d.Message = fmt.Sprintf("tool %q needs approval, which can't be waited for inside a model's answer", c.Name)
		}
		return &deniedTool{tool: c.Name, decision: d}
	}
	return nil
}

func (j *judged) findings() []mask.Finding { return j.next.findings() }
func (j *judged) waits() bool              { return j.stream == nil || j.next.waits() }

func (j *judged) held() int { return j.kept() + j.next.held() }

// kept counts what is held back twice: tool calls are put together beside it.
func (j *judged) kept() int {
	n := cap(j.body)
	if j.stream != nil {
		n += len(j.body) + j.stream.held()
	}
	return n
}
