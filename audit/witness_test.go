package audit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A disk that was full for a while leaves half a line, and costs that
// checkpoint alone.
func TestWitnessFileGoesOnBehindHalfALine(t *testing.T) {
	t.Parallel()
	w := FileWitness{Path: filepath.Join(t.TempDir(), "w")}
	for i, torn := range []string{"", `{"checkpoint":"ha`, "", `{`, `{"checkpoint":"whole"}`} {
		if err := w.Put(t.Context(), []byte(fmt.Sprintf("checkpoint %d\n", i))); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(w.Path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(torn); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	data, err := os.ReadFile(w.Path)
	if err != nil {
		t.Fatal(err)
	}
	list, err := ReadWitness(data)
	if err != nil || len(list) != 5 || string(list[2]) != "checkpoint 2\n" || string(list[4]) != "checkpoint 4\n" {
		t.Errorf("%q: %v", list, err)
	}
	for _, bad := range []string{"x\n", `{"checkpoint":"a"}{"checkpoint":"b"}` + "\n", `{"checkpoint":""}` + "\n", `{"checkpoint":1}` + "\n"} {
		if _, err := ReadWitness([]byte(bad)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// A witness that fails tells nobody the credential in its URL.
func TestWitnessErrorsTellNoSecret(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/echo":
			http.Error(w, r.Header.Get("authorization")+r.URL.String(), http.StatusBadGateway)
		case "/slow":
			<-release
		}
	}))
	defer far.Close()
	defer close(release)
	host := strings.TrimPrefix(far.URL, "http://")
	down := httptest.NewServer(nil)
	down.Close()
	for name, url := range map[string]string{
		"it refuses": "http://u:s3cret@" + host + "/echo?key=s3cret",
		"it is slow": "http://u:s3cret@" + host + "/slow?key=s3cret",
		"it is down": "http://u:s3cret@" + strings.TrimPrefix(down.URL, "http://") + "/?key=s3cret",
		"no URL":     "http://u:s3cret@\x7f/?key=s3cret",
		"no scheme":  "s3cret",
	} {
		ctx, cancel := context.WithCancel(t.Context())
		if name == "it is slow" {
			cancel()
		}
		err := HTTPWitness{URL: url, Client: far.Client()}.Put(ctx, []byte("x"))
		cancel()
		if err == nil || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "dTpzM2NyZXQ") {
			t.Errorf("%s: %v", name, err)
		}
		if name == "it is slow" && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// away is a witness that takes nothing until it is told to.
type away struct {
	asked chan struct{}
	open  bool
	got   []string
}

func (a *away) Put(ctx context.Context, signed []byte) error {
	if !a.open {
		a.asked <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	a.got = append(a.got, string(signed))
	return nil
}

// What a witness lacks when a replica stops is brought to it at the end, also
// where nothing happened since.
func TestWitnessGetsTheLastAtTheEnd(t *testing.T) {
	t.Parallel()
	w := &away{asked: make(chan struct{}, 1)}
	s := sign(t, t.TempDir(), w)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	<-w.asked
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	w.open = true
	if err := s.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(w.got) != 1 || w.got[0] != string(s.Pending(1)[0].Signed) {
		t.Errorf("the witness has %q", w.got)
	}
}

// hung is a witness on a disk that hangs until it is let go.
type hung struct{ until chan struct{} }

func (h hung) Put(context.Context, []byte) error {
	<-h.until
	return nil
}

// A witness whose disk hangs holds up neither signing nor the end.
func TestWitnessThatHangs(t *testing.T) {
	t.Parallel()
	h := hung{make(chan struct{})}
	s := sign(t, t.TempDir(), h)
	s.cfg.Every = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	for i := range 3 {
		fill(t, s.spool, i, i+1)
		for s.Status().Size < uint64(i)+2 {
			time.Sleep(time.Millisecond)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	ending, stop := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer stop()
	if err := s.End(ending); err != nil {
		t.Fatal(err)
	}
	if n := testutil.ToFloat64(s.cfg.Metrics.unwitnessed); n == 0 {
		t.Error("nobody is told")
	}
	close(h.until)
}

// A process that was stopped while it edits the keys holds nobody up for good.
func TestKeysThatAreLocked(t *testing.T) {
	t.Parallel()
	k := Keys{Path: filepath.Join(t.TempDir(), "new", "keys"), Name: "n"}
	if _, err := k.Add(t.Context()); err != nil {
		t.Fatal(err)
	}
	lock := flock.New(k.Path + ".lock")
	if err := lock.Lock(); err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	if _, err := k.Add(t.Context()); err == nil || !strings.Contains(err.Error(), k.Path+".lock") {
		t.Errorf("got %v", err)
	}
}
