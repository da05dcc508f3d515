package identity

import (
	"sync"
	"time"

	"github.com/callgate/callgate/call"
)

// cache remembers verified tokens by their SHA-256, so that a signature is
// checked once and no token is kept. It has two generations: when the young one
// is full it becomes the old one, and what is still used moves back.
type cache struct {
	shards [16]shard
}

type shard struct {
	mu         sync.Mutex
	young, old map[[32]byte]entry
}

type entry struct {
	identity   call.Identity
	issuer     *issuer
	generation uint64 // of the issuer's keys when it was verified
	until      time.Time
}

const (
	// shardSize bounds a generation of a shard: 64 Ki tokens in all.
	shardSize = 2048
	// longest is how long a verified token is taken at its word.
	longest = 5 * time.Minute
)

func newCache() *cache {
	c := &cache{}
	for i := range c.shards {
		c.shards[i].young, c.shards[i].old = map[[32]byte]entry{}, map[[32]byte]entry{}
	}
	return c
}

func (c *cache) get(key [32]byte, now time.Time) (entry, bool) {
	s := &c.shards[key[0]%16]
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.young[key]
	if !ok {
		if e, ok = s.old[key]; ok {
			s.add(key, e)
		}
	}
	return e, ok && now.Before(e.until)
}

func (c *cache) put(key [32]byte, e entry, now time.Time) {
	if most := now.Add(longest); e.until.After(most) {
		e.until = most
	}
	s := &c.shards[key[0]%16]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(key, e)
}

func (s *shard) add(key [32]byte, e entry) {
	if len(s.young) >= shardSize {
		s.old, s.young = s.young, make(map[[32]byte]entry, shardSize)
	}
	s.young[key] = e
}

func (c *cache) drop(key [32]byte) {
	s := &c.shards[key[0]%16]
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.young, key)
	delete(s.old, key)
}
