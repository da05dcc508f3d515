// Package counts remembers how often functions were called lately, by session
// and by identity, for rules that ask. It counts what this process decides: of
// several decision servers each has its own counts, so a limit holds for each.
package counts

import (
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/callgate/callgate/call"
)

// The bounds of what is remembered. The sessions and identities that were seen
// least lately are forgotten first.
const (
	keysMost = 16_384
	usesMost = 262_144
	// window is how far counts look back.
	window = time.Hour
	// entriesMost bounds what is kept of one session. Beyond it two entries
	// are taken together as the later of them: counts err to be high.
	entriesMost = 256
)

// Counter counts calls. It is safe for concurrent use.
type Counter struct {
	mu         sync.Mutex
	sessions   *lru.Cache[string, *history]
	identities *lru.Cache[string, *history]
	uses       *lru.Cache[string, call.ID] // by identity and function: the first call
}

// history is the calls of one session or identity, the oldest first.
type history struct{ entries []entry }

type entry struct {
	connection, function string
	at                   time.Time
	n                    int64
}

// New returns a Counter.
func New() *Counter {
	return &Counter{sessions: cache[*history](keysMost), identities: cache[*history](keysMost), uses: cache[call.ID](usesMost)}
}

func cache[V any](size int) *lru.Cache[string, V] {
	c, err := lru.New[string, V](size)
	if err != nil {
		panic(fmt.Sprintf("counts: a cache of %d can always be made: %v", size, err))
	}
	return c
}

// who names an identity, with those who act for it.
func who(c *call.Call) string {
	key := c.Identity.Issuer + "\x00" + c.Identity.Subject
	for _, a := range c.Identity.Actors {
		key += "\x00" + a.Issuer + "\x00" + a.Subject
	}
	return key
}

// session names the session that a call counts in: that of its token (sid), which
// the issuer vouches for, and within it what a header says where the connection
// wants that. Others are the caller's to choose, anew for each call if it likes, so
// without a sid a call counts with the others of its identity.
func session(c *call.Call) string {
	sid, _ := c.Identity.Claims["sid"].(string)
	return who(c) + "\x00\x00" + sid + "\x00\x00" + c.SessionName
}

func use(c *call.Call) string { return who(c) + "\x00\x00" + c.Connection + "\x00" + c.Function }

// Count implements [policies.Counter].
func (c *Counter) Count(what *call.Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	note(c.sessions, session(what), what)
	note(c.identities, who(what), what)
	if key := use(what); !c.uses.Contains(key) {
		c.uses.Add(key, what.ID)
	}
}

func note(in *lru.Cache[string, *history], key string, what *call.Call) {
	h, ok := in.Get(key)
	if !ok {
		h = &history{}
		in.Add(key, h)
	}
	h.add(entry{what.Connection, what.Function, what.Time, 1})
}

func (h *history) add(e entry) {
	old := 0
	for old < len(h.entries) && e.at.Sub(h.entries[old].at) > window {
		old++
	}
	h.entries = append(h.entries[:0], h.entries[old:]...)
	if len(h.entries) < entriesMost {
		h.entries = append(h.entries, e)
		return
	}
	// The oldest that has a later one of the same function goes into that.
	for i := range h.entries {
		for j := i + 1; j < len(h.entries); j++ {
			if h.entries[j].connection == h.entries[i].connection && h.entries[j].function == h.entries[i].function {
				h.entries[j].n += h.entries[i].n
				h.entries = append(append(h.entries[:i], h.entries[i+1:]...), e)
				return
			}
		}
	}
	// As many functions as entries: the oldest is forgotten.
	h.entries = append(h.entries[1:], e)
}

func (h *history) count(c *call.Call, match func(string) bool, within time.Duration) int64 {
	var n int64
	for _, e := range h.entries {
		if e.connection == c.Connection && c.Time.Sub(e.at) < within && match(e.function) {
			n += e.n
		}
	}
	return n
}

// InSession implements [policies.Counter].
func (c *Counter) InSession(what *call.Call, match func(string) bool, within time.Duration) int64 {
	return c.ask(c.sessions, session(what), what, match, within)
}

// ByIdentity implements [policies.Counter].
func (c *Counter) ByIdentity(what *call.Call, match func(string) bool, within time.Duration) int64 {
	return c.ask(c.identities, who(what), what, match, within)
}

func (c *Counter) ask(in *lru.Cache[string, *history], key string, what *call.Call, match func(string) bool, within time.Duration) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	h, ok := in.Get(key)
	if !ok {
		return 0
	}
	return h.count(what, match, within)
}

// First implements [policies.Counter]: the call that is asked about is the
// first of its kind that was counted.
func (c *Counter) First(what *call.Call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	first, known := c.uses.Get(use(what))
	return !known || first == what.ID
}
