package clickhouse

import (
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/callgate/callgate/audit"
)

// state is what a shipper must know after a kill.
type state struct {
	Spool  string `cbor:"0,keyasint"`
	Events uint64 `cbor:"1,keyasint"` // all below are in the table events
	Low    uint64 `cbor:"2,keyasint"` // all below belong to settled calls

	// What is being sent: the events from Events up to To, and the rows of
	// the calls with these decided events, each index given as its distance
	// from the one before.
	To    uint64   `cbor:"3,keyasint"`
	Calls []uint64 `cbor:"4,keyasint"`

	// Late is until when, by the clock of ClickHouse, unjoined legs were
	// looked at.
	Late time.Time `cbor:"5,keyasint"`
}

// deltas turns ascending indexes into distances, and back.
func deltas(indexes []uint64) []uint64 {
	d := make([]uint64, len(indexes))
	before := uint64(0)
	for i, v := range indexes {
		d[i], before = v-before, v
	}
	return d
}

func sums(d []uint64) []uint64 {
	v := make([]uint64, len(d))
	before := uint64(0)
	for i := range d {
		before += d[i]
		v[i] = before
	}
	return v
}

// stateFile keeps the state over a kill. The file never grows, since shipping
// is what makes room on a full disk.
type stateFile struct {
	slots *audit.Slots
	enc   cbor.EncMode
}

const (
	slotSize = 256 << 10
	// maxSettle bounds the calls of one plan, so that it fits its slot.
	maxSettle = 20_000
)

// openState opens the file at path, or makes it, and returns the last state
// that was saved there. ok is false where there is none.
func openState(path string) (_ *stateFile, st state, ok bool, err error) {
	opts := cbor.CoreDetEncOptions()
	opts.Time = cbor.TimeRFC3339NanoUTC
	enc, err := opts.EncMode()
	if err != nil {
		return nil, st, false, fmt.Errorf("set up CBOR encoding: %w", err)
	}
	slots, saved, err := audit.OpenSlots(path, slotSize)
	if err != nil {
		return nil, st, false, err
	}
	ok = saved != nil && cbor.Unmarshal(saved, &st) == nil
	if !ok {
		st = state{}
	}
	return &stateFile{slots: slots, enc: enc}, st, ok, nil
}

// save returns when st is on disk.
func (s *stateFile) save(st state) error {
	body, err := s.enc.Marshal(st)
	if err != nil {
		return fmt.Errorf("encode shipping state: %w", err)
	}
	if err := s.slots.Save(body); err != nil {
		return fmt.Errorf("shipping: %w", err)
	}
	return nil
}

func (s *stateFile) close() error { return s.slots.Close() }
