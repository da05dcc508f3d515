//go:build linux

package soak

import (
	"context"
	"math/rand/v2"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/demo"
)

// replicas: two services on one ClickHouse, and each leg of a call comes to one
// of them by chance.
func replicas(t *testing.T) {
	w := newWorld(t, plan{second: true})
	tr := begin(t, w)
	ctx := t.Context()
	l := w.load(ctx, 4, 4*time.Millisecond, 200)
	l.last(t, set.time(0.04, 1500*time.Millisecond), 60)
	l.stop()
	// Nobody was killed, so every leg has come.
	if f := w.settled(t); f.unknown > 0 {
		t.Errorf("%d rows miss a leg, though each came to one of the replicas", f.unknown)
	}
	if n := w.crossed(t); n < 20 {
		t.Errorf("only %d calls had legs on both replicas: no test", n)
	}

	// And now one is killed, and then the other.
	l = w.load(ctx, 4, 4*time.Millisecond, 200)
	for until := time.Now().Add(set.time(0.04, 0)); tr.faults < 2 || time.Now().Before(until); tr.faults++ {
		s := w.services[tr.faults%2]
		sleep(ctx, 200*time.Millisecond+rand.N(600*time.Millisecond))
		must(t, s.kill())
		must(t, s.again(ctx))
	}
	l.last(t, 200*time.Millisecond, 20)
	l.stop()
	tr.end(60)
}

// crossed counts the calls with legs in more than one spool.
func (w *world) crossed(t *testing.T) int {
	t.Helper()
	cells, err := store.ask(t.Context(), w.database, `SELECT toString(call_id) FROM events WHERE kind IN ('decided', 'answered', 'finished')
		GROUP BY call_id HAVING uniqExact(spool) > 1`)
	must(t, err)
	return len(cells)
}

// replicate makes the second service one that shares the call path with the
// first: Envoy asks a proxy, which asks one of the two. It ends with ctx.
func (w *world) replicate(ctx context.Context, cfg *config.Config) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var addrs [4]string
	for i := range addrs {
		if addrs[i], err = demo.FreeAddr(); err != nil {
			return err
		}
	}
	first, second := w.services[0], w.services[1]
	first.env = append(first.env, "CALLGATE_ENVOY_SERVICES="+l.Addr().String())
	second.metrics = addrs[0]
	second.args = []string{"--roles", "extauthz,extproc,accesslog"}
	second.env = append(second.env, "CALLGATE_NODE=second", "CALLGATE_LISTEN_METRICS="+addrs[0], "CALLGATE_LISTEN_GRPC="+addrs[1],
		"CALLGATE_LISTEN_XDS="+addrs[2], "CALLGATE_LISTEN_CONSOLE="+addrs[3],
		"CALLGATE_APPROVALS_FILE="+filepath.Join(w.dir, "second.db"))
	return spread(ctx, l, cfg.Listen.GRPC, addrs[1])
}
