package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/audit/ledger"
	"github.com/callgate/callgate/call"
)

// Proof is what a third party needs, beside the public key, to see that the
// events of one call were recorded as they are and when.
type Proof struct {
	Format string       `json:"format"`
	CallID uuid.UUID    `json:"call_id"`
	Events []ProofEvent `json:"events"`
}

// ProofFormat names the form of a [Proof].
const ProofFormat = "callgate-proof/1"

// ProofEvent is one event of the call. The content (aside and body) may be left
// out: the leaf is proved without it.
type ProofEvent struct {
	Spool string `json:"spool"`
	Leaf  []byte `json:"leaf"`
	Aside []byte `json:"aside,omitempty"`
	Head  []byte `json:"body_head,omitempty"`
	Tail  []byte `json:"body_tail,omitempty"`
	// Inclusion is a C2SP tlog-proof with the signed checkpoint.
	Inclusion string `json:"inclusion"`
}

// ErrNotSigned says that no trusted checkpoint covers an event yet.
var ErrNotSigned = errors.New("no trusted checkpoint covers it yet; one is signed every few seconds")

// Export makes the proof of one call. keys are trusted; each checkpoint that is
// used is signed by one of them.
func Export(ctx context.Context, src Source, keys []string, id uuid.UUID, content bool) (Proof, error) {
	p := Proof{Format: ProofFormat, CallID: id}
	trust, err := newTrust(keys)
	if err != nil {
		return p, err
	}
	codec, err := audit.NewCodec()
	if err != nil {
		return p, err
	}
	var events []clickhouse.LedgerEvent
	err = src.EventsOf(ctx, []uuid.UUID{id}, func(e *clickhouse.LedgerEvent) error {
		events = append(events, *e)
		return nil
	})
	if err != nil {
		return p, err
	}
	if len(events) == 0 {
		return p, fmt.Errorf("%w: %s; the ledger has no event of it", clickhouse.ErrNotFound, id)
	}
	row, err := src.Call(ctx, id)
	if err != nil && !errors.Is(err, clickhouse.ErrNotFound) {
		return p, err
	}
	logs := make(map[string]*prover)
	for _, e := range events {
		l := logs[e.Spool]
		if l == nil {
			if l, err = newProver(ctx, src, e.Spool, trust); err != nil {
				return p, err
			}
			logs[e.Spool] = l
		}
		inclusion, err := l.prove(ctx, e.Index)
		if err != nil {
			return p, fmt.Errorf("prove the %s event: %w", e.Kind, err)
		}
		pe := ProofEvent{Spool: e.Spool, Leaf: []byte(e.Leaf), Inclusion: string(inclusion.Encode())}
		if content {
			pe.Aside, pe.Head, pe.Tail = []byte(e.Aside), []byte(e.Head), []byte(e.Tail)
			if e.Aside == "" && row.CallID == id {
				if err := pe.fill(codec, &row); err != nil {
					return p, err
				}
			}
		}
		p.Events = append(p.Events, pe)
	}
	return p, nil
}

// fill takes the content of an event from its call's row.
func (p *ProofEvent) fill(codec *audit.Codec, row *clickhouse.Row) error {
	e, err := codec.Decode(p.Leaf)
	if err != nil {
		return fmt.Errorf("read an event: %w", err)
	}
	row.GiveContent(&e)
	if audit.CheckContent(&e) != nil {
		return nil // erased, or not that event's: the proof does without
	}
	if p.Aside, err = codec.EncodeContent(&e); err != nil {
		return err
	}
	switch {
	case e.Decided != nil:
		p.Head, p.Tail = e.Decided.Body.Head, e.Decided.Body.Tail
	case e.Answered != nil:
		p.Head, p.Tail = e.Answered.Body.Head, e.Answered.Body.Tail
	}
	return nil
}

// prover makes inclusion proofs in one log.
type prover struct {
	src   Source
	spool string
	trust *trust
	marks []mark
}

func newProver(ctx context.Context, src Source, spool string, t *trust) (*prover, error) {
	stored, err := src.Checkpoints(ctx, spool)
	if err != nil {
		return nil, err
	}
	return &prover{src: src, spool: spool, trust: t, marks: marks(stored, nil)}, nil
}

func (p *prover) prove(ctx context.Context, index uint64) (ledger.Proof, error) {
	proof := ledger.Proof{Index: index}
	start := ledger.NewTree()
	var over *mark
	for i, m := range p.marks {
		if m.size <= index {
			if tree := m.start(p.spool, p.trust); tree != nil {
				start = tree
			}
			continue
		}
		if _, err := m.open(p.spool, p.trust); err == nil {
			over = &p.marks[i]
			break
		}
	}
	if over == nil {
		return proof, ErrNotSigned
	}
	leaves := make([]ledger.Hash, 0, over.size-start.Size())
	err := p.src.Leaves(ctx, p.spool, start.Size(), over.size, func(i uint64, leaf []byte) error {
		for start.Size()+uint64(len(leaves)) < i {
			leaves = append(leaves, ledger.LostLeaf)
		}
		if start.Size()+uint64(len(leaves)) == i {
			leaves = append(leaves, ledger.LeafHash(leaf))
		}
		return nil
	})
	if err != nil {
		return proof, err
	}
	for start.Size()+uint64(len(leaves)) < over.size {
		leaves = append(leaves, ledger.LostLeaf)
	}
	if proof.Hashes, err = ledger.Prove(start, leaves, index); err != nil {
		return proof, err
	}
	proof.Checkpoint = over.signed
	return proof, nil
}

// Proved is one event that a proof shows.
type Proved struct {
	Event  call.Event
	Spool  string
	Index  uint64
	Before time.Time // when it was signed: it was recorded before
	Signer []string
	// Content says what is known of the content: "proved", or "left out or
	// erased".
	Content string
}

// maxProofFile bounds a proof file, in bytes: two bodies of a record in base64,
// and then some.
const maxProofFile = 512 << 20

// CheckProof checks a proof with nothing but the keys, and returns what it
// proves. It needs no network.
func CheckProof(data []byte, keys []string) (uuid.UUID, []Proved, error) {
	if len(data) > maxProofFile {
		return uuid.Nil, nil, fmt.Errorf("a proof of %d bytes", len(data))
	}
	var p Proof
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		return uuid.Nil, nil, fmt.Errorf("read the proof: %w", err)
	}
	if p.Format != ProofFormat {
		return uuid.Nil, nil, fmt.Errorf("the proof is of format %q, this program reads %q", p.Format, ProofFormat)
	}
	if len(p.Events) == 0 {
		return p.CallID, nil, errors.New("the proof has no events")
	}
	trust, err := newTrust(keys)
	if err != nil {
		return p.CallID, nil, err
	}
	codec, err := audit.NewCodec()
	if err != nil {
		return p.CallID, nil, err
	}
	var out []Proved
	for i, pe := range p.Events {
		one, err := pe.check(codec, trust, p.CallID)
		if err != nil {
			return p.CallID, out, fmt.Errorf("event %d of the proof: %w", i+1, err)
		}
		if slices.ContainsFunc(out, func(o Proved) bool { return o.Spool == one.Spool && o.Index == one.Index }) {
			return p.CallID, out, fmt.Errorf("event %d of the proof is there twice", i+1)
		}
		out = append(out, one)
	}
	return p.CallID, out, nil
}

func (p ProofEvent) check(codec *audit.Codec, t *trust, id uuid.UUID) (Proved, error) {
	inclusion, err := ledger.ParseProof([]byte(p.Inclusion))
	if err != nil {
		return Proved{}, err
	}
	c, err := inclusion.Verify(p.Leaf, t.verify)
	if err != nil {
		return Proved{}, err
	}
	if c.Origin != audit.Origin(p.Spool) {
		return Proved{}, fmt.Errorf("it is signed for the log %q, not for spool %s", c.Origin, p.Spool)
	}
	e, err := codec.Decode(p.Leaf)
	if err != nil {
		return Proved{}, err
	}
	if e.CallID != id {
		return Proved{}, fmt.Errorf("it is of another call, %s", e.CallID)
	}
	out := Proved{Spool: p.Spool, Index: inclusion.Index, Before: c.Time, Signer: ledger.Signers(inclusion.Checkpoint), Content: "left out or erased"}
	if len(p.Aside) > 0 {
		rec := audit.Record{Index: inclusion.Index, Leaf: p.Leaf, Aside: p.Aside, Head: p.Head, Tail: p.Tail}
		if e, err = rec.Event(codec); err != nil {
			return Proved{}, err
		}
		if err := audit.CheckContent(&e); err != nil {
			return Proved{}, err
		}
		out.Content = "proved"
	} else if len(p.Head)+len(p.Tail) > 0 {
		return Proved{}, errors.New("it has a body without what commits to it")
	}
	if e.Decided == nil && e.Answered == nil {
		out.Content = "" // there is none
	}
	out.Event = e
	return out, nil
}
