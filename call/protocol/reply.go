package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/callgate/callgate/call"
)

// Reply is one JSON-RPC message that a function answered with.
type Reply struct {
	Text []byte // as it was written
	// ID is the id that it answers, in a form that can be compared; "" where it
	// has none, or null.
	ID string
	// Answers says that it has a result or an error, and is no request or
	// notification of the server's own.
	Answers, Failed bool
}

// SameID brings a caller's JSON-RPC id into the form of [Reply.ID].
func SameID(rpcID string) string { return identify(rpcID) }

// Replies reads what a function answered to a batch: a list of messages, or one
// of them. It refuses a message whose id or outcome two readers could take
// differently, since by these it is told whose it is.
func Replies(body []byte) (list []Reply, isList bool, err error) {
	if !utf8.Valid(body) || !json.Valid(body) {
		return nil, false, errors.New("the answer to a batch is not a JSON document")
	}
	at := skipSpace(body, 0)
	if body[at] != '[' {
		r, err := reply(bytes.TrimSpace(body))
		return []Reply{r}, false, err
	}
	spans, _ := elements(body, len(body))
	for _, s := range spans {
		r, err := reply(body[s.start:s.end:s.end])
		if err != nil {
			return nil, true, err
		}
		list = append(list, r)
	}
	return list, true, nil
}

// telling are the members that say what a message is.
var telling = []string{"id", "result", "error", "method"}

func reply(text []byte) (Reply, error) {
	r := Reply{Text: text}
	if len(text) == 0 || text[0] != '{' {
		return r, errors.New("the answer to a batch holds something that is no JSON-RPC message")
	}
	known := map[string]bool{}
	at := skipSpace(text, 1)
	for text[at] != '}' {
		end := valueEnd(text, at)
		var key string
		if err := json.Unmarshal(text[at:end], &key); err != nil {
			return r, errors.New("the answer to a batch has a key that can't be read")
		}
		at = skipSpace(text, skipSpace(text, end)+1) // over the colon
		end = valueEnd(text, at)
		value := text[at:end]
		if at = skipSpace(text, end); text[at] == ',' {
			at = skipSpace(text, at+1)
		}
		// A decoder that does not mind case takes one for the other.
		i := slices.IndexFunc(telling, func(name string) bool { return strings.EqualFold(name, key) })
		if i < 0 {
			continue
		}
		name := telling[i]
		if name != key || known[name] {
			return r, errors.New("the answer to a batch has a message in which id, result, error or method stands more than once, or in another case")
		}
		known[name] = true
		switch name {
		case "id":
			r.ID = identify(string(value))
			if r.ID == "" && string(value) != "null" {
				return r, errors.New("the answer to a batch has a message whose id is neither a text nor a number")
			}
		case "error":
			r.Failed = string(value) != "null"
		}
	}
	r.Answers = !known["method"] && (known["result"] || r.Failed)
	return r, nil
}

// RPCError is the JSON-RPC error that tells a caller of a denial, in a batch or
// alone.
func RPCError(rpcID json.RawMessage, id call.ID, d call.Decision) []byte {
	s := shapeOf(d)
	return rpcError(rpcID, s.rpc, detailOf(s, d), rpcData{extra: extraOf(id, d)})
}
