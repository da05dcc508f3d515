package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/console"
)

// shelf is a trail of n calls; it takes note of what is done to it, in order.
type shelf struct {
	n               int
	did             []string
	events          []call.Event
	erased          int
	recordErr, fail error
}

func (s *shelf) Erasable(_ context.Context, f clickhouse.Filter, ids []uuid.UUID) (list, missing []uuid.UUID, err error) {
	s.did = append(s.did, "look")
	if len(ids) > clickhouse.EraseMost {
		return nil, nil, fmt.Errorf("%w: there are many", clickhouse.ErrEraseTooMany)
	}
	for i := range s.n {
		list = append(list, uuid.NewSHA1(uuid.Nil, []byte(fmt.Sprint(i))))
	}
	if len(ids) > 0 {
		missing = ids[len(ids)-1:]
	}
	return list, missing, nil
}

func (s *shelf) Erase(_ context.Context, ids []uuid.UUID) error {
	s.did = append(s.did, fmt.Sprint("erase ", len(ids)))
	if s.fail == nil {
		s.erased += len(ids)
	}
	return s.fail
}

func (s *shelf) HeldAmong(context.Context, clickhouse.Filter, []uuid.UUID) ([]uuid.UUID, error) {
	return []uuid.UUID{{7}}, nil
}

// store is the shelf's approval store.
type store struct{ *shelf }

func (s store) Erase(_ context.Context, calls []call.ID) (int, error) {
	s.did = append(s.did, fmt.Sprint("held ", len(calls)))
	return len(calls), nil
}

func (s *shelf) Record(_ context.Context, e call.Event) error {
	s.did = append(s.did, fmt.Sprint("record ", len(e.Change.Calls)))
	if s.recordErr == nil {
		s.events = append(s.events, e)
	}
	return s.recordErr
}

var admin = call.Identity{Issuer: "https://idp", Subject: "bob"}

func (s *shelf) ask(t *testing.T, ask console.Erase) (console.Erased, error) {
	t.Helper()
	return eraser{content: s, recorder: s, held: store{s}, roll: func() { s.did = append(s.did, "roll") }, status: func() clickhouse.Status { return clickhouse.Status{Unsettled: 4, Quarantined: 1} },
		node: "n1", now: time.Now}.Erase(t.Context(), admin, ask)
}

// Each deletion follows a durable event that names its calls, who and why.
func TestErasureIsTold(t *testing.T) {
	t.Parallel()
	s := &shelf{n: 2500}
	done, err := s.ask(t, console.Erase{Identity: "alice", Reason: "request 4711"})
	if err != nil || len(done.Calls) != 2500 || done.Held != 1 || done.Unsettled != 4 || done.Quarantined != 1 {
		t.Fatalf("%d, %+v: %v", len(done.Calls), done, err)
	}
	if got := strings.Join(s.did, ", "); got != "look, roll, record 1000, erase 1000, record 1000, erase 1000, record 500, erase 500, held 1" {
		t.Errorf("it did %s", got)
	}
	told := make(map[uuid.UUID]bool)
	for _, e := range s.events {
		c := e.Change
		if e.Kind != call.Changed || c.What != call.ChangeErased || c.By != "https://idp|bob" || c.Node != "n1" || !strings.Contains(c.Detail, "request 4711") || !strings.Contains(c.Detail, `"identity":"alice"`) {
			t.Errorf("told: %+v", c)
		}
		for _, id := range c.Calls {
			told[id] = true
		}
	}
	if len(told) != 2500 {
		t.Errorf("%d calls are told of", len(told))
	}
}

// What can't be recorded is not erased, and what fails is not said to be done.
func TestErasureFails(t *testing.T) {
	t.Parallel()
	full := errors.New("the disk is full")
	s := &shelf{n: 3, recordErr: full}
	if done, err := s.ask(t, console.Erase{Identity: "alice", Reason: "x"}); !errors.Is(err, full) || errors.Is(err, console.ErrErase) || s.erased > 0 || len(done.Calls) > 0 || strings.Join(s.did, ", ") != "look, roll, record 3" {
		t.Errorf("not recorded, and %v: %v", s.did, err)
	}
	away := errors.New("ClickHouse is away")
	s = &shelf{n: 1500, fail: away}
	if done, err := s.ask(t, console.Erase{Identity: "alice", Reason: "x"}); !errors.Is(err, away) || len(done.Calls) > 0 || len(s.events) != 1 {
		t.Errorf("%d events, done %d: %v", len(s.events), len(done.Calls), err)
	}
}

func TestErasureMustMakeSense(t *testing.T) {
	t.Parallel()
	ids := []uuid.UUID{{1}, {2}}
	for name, c := range map[string]struct {
		ask  console.Erase
		want string
	}{
		"no reason":         {console.Erase{Calls: ids}, "say why"},
		"a blank reason":    {console.Erase{Calls: ids, Reason: " \n"}, "say why"},
		"nothing selected":  {console.Erase{Reason: "x"}, "name calls"},
		"a dry run of all":  {console.Erase{DryRun: true}, "name calls"},
		"ids and selection": {console.Erase{Calls: ids, Function: "f", Reason: "x"}, "not both"},
		"ids and a period":  {console.Erase{Calls: ids, Until: time.Now(), Reason: "x"}, "not both"},
		"a long reason":     {console.Erase{Calls: ids, Reason: strings.Repeat("x", maxErasure+1)}, "longer than"},
		"too many":          {console.Erase{Calls: make([]uuid.UUID, clickhouse.EraseMost+1), Reason: "x"}, "too many"},
	} {
		s := &shelf{n: 1}
		if _, err := s.ask(t, c.ask); !errors.Is(err, console.ErrErase) || !strings.Contains(err.Error(), c.want) || s.erased > 0 || len(s.events) > 0 {
			t.Errorf("%s: %v, and did %v", name, err, s.did)
		}
	}
	if _, err := (eraser{recorder: &shelf{}, now: time.Now}).Erase(t.Context(), admin, console.Erase{Calls: ids, Reason: "x"}); !errors.Is(err, console.ErrErase) || !strings.Contains(err.Error(), "audit.clickhouse.url") {
		t.Errorf("without ClickHouse: %v", err)
	}
	// A dry run tells, and does nothing; it needs no reason.
	s := &shelf{n: 2}
	done, err := s.ask(t, console.Erase{Calls: ids, DryRun: true})
	if err != nil || len(done.Calls) != 2 || len(done.Missing) != 1 || done.Missing[0] != ids[1] || len(s.did) != 1 {
		t.Errorf("dry: %+v, %v, %v", done, s.did, err)
	}
	// Nothing to erase is nothing to tell.
	s = &shelf{}
	if done, err := s.ask(t, console.Erase{Identity: "nobody", Reason: "x"}); err != nil || done.Calls == nil || strings.Join(s.did, ", ") != "look, held 1" {
		t.Errorf("nothing: %+v, %v, %v", done, s.did, err)
	}
}
