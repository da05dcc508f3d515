package audit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/callgate/callgate/audit/ledger"
	"github.com/callgate/callgate/call"
)

// signing is a spool that is signed.
type signing struct {
	*Checkpointer
	t     *testing.T
	spool *Spool
	keys  Keys
	log   *bytes.Buffer
	now   time.Time
}

// sign starts to sign the spool in dir, with the keys in dir.
func sign(t *testing.T, dir string, witness Witness) *signing {
	t.Helper()
	s := &signing{t: t, keys: Keys{Path: filepath.Join(dir, "keys"), Name: "callgate/n1"}, log: new(bytes.Buffer), now: time.Date(2026, 11, 23, 10, 59, 40, 0, time.UTC)}
	cfg := config(t, filepath.Join(dir, "spool"))
	s.spool = open(t, cfg)
	s.Checkpointer = NewCheckpointer(CheckpointerConfig{Spool: s.spool, Keys: s.keys, Node: "n1", Witness: witness,
		Log: slog.New(slog.NewTextHandler(s.log, nil)), Metrics: NewCheckpointMetrics(prometheus.NewRegistry()), Now: func() time.Time { return s.now }})
	return s
}

// next signs, and returns what was signed with the keys that signed it.
func (s *signing) next() (SignedCheckpoint, []string) {
	s.t.Helper()
	s.now = s.now.Add(10 * time.Second)
	if err := s.Sign(context.Background()); err != nil {
		s.t.Fatal(err)
	}
	list := s.Pending(1 << 60)
	cp := list[len(list)-1]
	return cp, ledger.Signers(cp.Signed)
}

func (s *signing) ring() ledger.Ring {
	s.t.Helper()
	r, err := s.keys.Load()
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// changes are what the log tells of the service itself.
func (s *signing) changes() []string {
	s.t.Helper()
	r := s.spool.NewReader(0)
	defer r.Close()
	records, _, err := r.Read(1<<20, 1<<30)
	if err != nil {
		s.t.Fatal(err)
	}
	var out []string
	for _, rec := range records {
		e, err := rec.Event(s.spool.Codec())
		if err != nil {
			s.t.Fatal(err)
		}
		if e.Change != nil {
			out = append(out, e.Change.What)
		}
	}
	return out
}

func TestCheckpoints(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := sign(t, dir, nil)
	first, by := s.next()
	ring := s.ring()
	if len(by) != 1 || len(ring.Keys) != 1 || by[0] != ring.Keys[0].ID() || first.Size != 1 || len(s.changes()) != 1 || s.changes()[0] != call.ChangeKeyAdded {
		t.Fatalf("the first: %d events by %v, told %v", first.Size, by, s.changes())
	}
	trusted, err := ledger.Verifiers(ring.Trusted())
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := ledger.OpenCheckpoint(first.Signed, trusted)
	if err != nil || c != first.Checkpoint || c.Root != s.spool.Tree().Root() || c.Origin != Origin(s.spool.ID()) {
		t.Fatalf("%+v: %v", c, err)
	}
	if first.Frontier == nil {
		t.Error("the first has no frontier")
	}

	// Nothing happens, and that is signed, too; an hour has one frontier.
	idle, _ := s.next()
	if idle.Size != 1 || !idle.Time.After(first.Time) || len(idle.Prefixes) != 0 {
		t.Errorf("idle: %+v", idle)
	}
	if idle.Frontier == nil || !slices.Equal(idle.Frontier, s.spool.Tree().Frontier()) {
		t.Error("a new hour has no frontier")
	}
	fill(t, s.spool, 0, 5)
	grown, _ := s.next()
	if grown.Size != 6 || grown.Frontier != nil {
		t.Errorf("grown: %+v", grown)
	}
	r := s.spool.NewReader(1)
	defer r.Close()
	records, _, err := r.Read(10, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var prefixes []byte
	for _, rec := range records {
		h := ledger.LeafHash(rec.Leaf)
		prefixes = append(prefixes, h[:PrefixSize]...)
	}
	if !bytes.Equal(grown.Prefixes, prefixes) {
		t.Error("the prefixes are not those of the leaves")
	}

	// ClickHouse gets those whose events it has.
	if list := s.Pending(5); len(list) != 2 || list[1].Size != 1 {
		t.Errorf("pending at 5: %+v", list)
	}
	s.Shipped(s.Pending(5)[1])
	if list := s.Pending(6); len(list) != 1 || list[0].Size != 6 {
		t.Errorf("pending at 6: %+v", list)
	}
}

// A key that takes over is vouched for by the one before, and that one's secret
// is gone then.
func TestKeysRotate(t *testing.T) {
	t.Parallel()
	s := sign(t, t.TempDir(), nil)
	s.next()
	old := s.ring().Keys[0]
	made, err := s.keys.Add(t.Context()) // as the command does
	if err != nil {
		t.Fatal(err)
	}
	both, by := s.next()
	if len(by) != 2 || by[0] != old.ID() || by[1] != made.ID() || both.Size != 2 {
		t.Errorf("rotating: %d by %v", both.Size, by)
	}
	data, err := os.ReadFile(s.keys.Path)
	if err != nil || bytes.Contains(data, []byte(old.Secret)) || !bytes.Contains(data, []byte(made.Secret)) {
		t.Errorf("the old secret is kept, or the new is not: %v", err)
	}
	if _, by := s.next(); len(by) != 1 || by[0] != made.ID() {
		t.Errorf("after: %v", by)
	}
	if _, err := s.keys.Edit(t.Context(), func(r *ledger.Ring) error { _, err := r.Revoke(made.ID(), "stolen", time.Now()); return err }); err != nil {
		t.Fatal(err)
	}
	_, by = s.next()
	s.next()
	if len(by) != 1 || by[0] == made.ID() || by[0] == old.ID() {
		t.Errorf("after the revocation: %v", by)
	}
	if got := strings.Join(s.changes(), " "); got != "key.added key.added key.revoked key.added" {
		t.Errorf("told: %s", got)
	}
	// Secrets are in the key file and nowhere else.
	err = filepath.WalkDir(filepath.Dir(s.spool.Dir()), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || path == s.keys.Path {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte("PRIVATE")) {
			t.Errorf("%s holds a secret", path)
		}
		return err
	})
	if err != nil || strings.Contains(s.log.String(), "PRIVATE") {
		t.Errorf("a secret in the log, or %v", err)
	}
}

// Whatever of ring and tree a kill leaves behind, the log is signed on, and no
// size is ever signed with two roots.
func TestKilledWhileSigning(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	roots := make(map[uint64]ledger.Hash)
	var copies []map[string][]byte
	keep := func() {
		c := make(map[string][]byte)
		for _, f := range []string{"keys", filepath.Join("spool", "tree")} {
			if data, err := os.ReadFile(filepath.Join(dir, f)); err == nil {
				c[f] = data
			}
		}
		copies = append(copies, c)
	}
	last := uint64(0)
	for round := range 6 {
		s := sign(t, dir, nil)
		keep()
		fill(t, s.spool, round, round+2)
		if round == 3 {
			if _, err := s.keys.Add(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		cp, by := s.next()
		if len(by) == 0 || cp.Size < last {
			t.Fatalf("round %d: %d after %d, by %v", round, cp.Size, last, by)
		}
		if was, twice := roots[cp.Size]; twice && was != cp.Root {
			t.Fatalf("round %d: two roots over %d events", round, cp.Size)
		}
		roots[cp.Size], last = cp.Root, cp.Size
		keep()
		s.spool.Close()
		// As if the process had died before these files were last written.
		if round%2 == 0 {
			for f, data := range copies[len(copies)-2] {
				if err := os.WriteFile(filepath.Join(dir, f), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func TestDamagedKeysSignNothing(t *testing.T) {
	t.Parallel()
	s := sign(t, t.TempDir(), nil)
	s.next()
	good, err := os.ReadFile(s.keys.Path)
	if err != nil {
		t.Fatal(err)
	}
	secret := s.ring().Keys[0].Secret
	for _, bad := range [][]byte{good[:len(good)/2], bytes.Replace(good, []byte("PRIVATE+KEY"), []byte("PRIVATE+KEE"), 1), []byte("{}x"), []byte("{}"), nil} {
		if err := os.WriteFile(s.keys.Path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		err := s.Sign(t.Context())
		if err == nil || strings.Contains(err.Error(), secret[20:]) || !strings.Contains(err.Error(), s.keys.Path) {
			t.Errorf("%.20q: %v", bad, err)
		}
		if st := s.Status(); st.Err == "" || st.Size != 1 {
			t.Errorf("status: %+v", st)
		}
	}
	if err := os.WriteFile(s.keys.Path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	fill(t, s.spool, 0, 3)
	if cp, _ := s.next(); cp.Size != 4 || len(cp.Prefixes) != 3*PrefixSize {
		t.Errorf("mended: %d events, %d bytes of prefixes", cp.Size, len(cp.Prefixes))
	}
}

// Those that wait too long for ClickHouse are thinned out, and none of what they
// tell is lost but the times.
func TestThin(t *testing.T) {
	t.Parallel()
	var list []SignedCheckpoint
	var all []byte
	for i := range 9 {
		p := []byte{byte(i), 0, 0, 0}
		all = append(all, p...)
		cp := SignedCheckpoint{Checkpoint: ledger.Checkpoint{Size: uint64(i + 1)}, Prefixes: p}
		if i == 4 {
			cp.Frontier = []ledger.Hash{{1}}
		}
		list = append(list, cp)
	}
	kept := thin(list)
	var sizes []uint64
	var prefixes []byte
	for _, cp := range kept {
		sizes = append(sizes, cp.Size)
		prefixes = append(prefixes, cp.Prefixes...)
	}
	if !slices.Equal(sizes, []uint64{2, 4, 5, 6, 8, 9}) || !bytes.Equal(prefixes, all) {
		t.Errorf("kept %v, prefixes %v", sizes, prefixes)
	}
}

// stubborn is a witness that is down, and later is not.
type stubborn struct {
	mu     sync.Mutex
	status int
	got    []string
}

func (s *stubborn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.status == http.StatusOK {
		s.got = append(s.got, string(body))
	}
	w.WriteHeader(s.status)
}

func TestWitnessByHTTP(t *testing.T) {
	t.Parallel()
	far := &stubborn{status: http.StatusInternalServerError}
	srv := httptest.NewServer(far)
	defer srv.Close()
	s := sign(t, t.TempDir(), HTTPWitness{URL: srv.URL, Client: srv.Client()})
	s.cfg.Every = 10 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	for testutil.ToFloat64(s.cfg.Metrics.unwitnessed) == 0 {
		time.Sleep(time.Millisecond)
	}
	fill(t, s.spool, 0, 3)
	for s.Status().Size != 4 {
		time.Sleep(time.Millisecond)
	}
	far.mu.Lock()
	far.status = http.StatusOK
	far.mu.Unlock()
	for {
		far.mu.Lock()
		n := len(far.got)
		far.mu.Unlock()
		if n > 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	far.mu.Lock()
	defer far.mu.Unlock()
	trusted, err := ledger.Verifiers(s.ring().Trusted())
	if err != nil {
		t.Fatal(err)
	}
	if c, _, err := ledger.OpenCheckpoint([]byte(far.got[len(far.got)-1]), trusted); err != nil || c.Size != 4 {
		t.Errorf("the witness has %+v: %v", c, err)
	}
}

func TestWitnessFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "w")
	s := sign(t, t.TempDir(), FileWitness{Path: path})
	for i := range 3 {
		fill(t, s.spool, i, i+1)
		if err := s.End(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	list, err := ReadWitness(append(data, `{"checkpoint":"torn`...))
	if err != nil || len(list) != 3 {
		t.Fatalf("%d: %v", len(list), err)
	}
	if _, err := ReadWitness([]byte("{}\n")); err == nil {
		t.Error("a line that is no checkpoint is taken")
	}
	gone := FileWitness{Path: filepath.Join(path, "x")}
	if err := gone.Put(t.Context(), []byte("x")); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("below a file: %v", err)
	}
}

func FuzzReadWitness(f *testing.F) {
	f.Add([]byte(`{"checkpoint":"a\n1\n"}` + "\n"))
	f.Add([]byte("\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := ReadWitness(data)
		if err == nil && len(list) > bytes.Count(data, []byte{'\n'}) {
			t.Error("more checkpoints than lines")
		}
	})
}
