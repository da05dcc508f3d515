// Package analyzer asks a service with the HTTP API of Microsoft Presidio's
// analyzer what is sensitive in texts: POST a text, its language and the kinds
// to look for, get the places of what was found, with a score.
package analyzer

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/callgate/callgate/extproc/mask"
)

// Config is what an [Analyzer] needs.
type Config struct {
	URL      string
	Language string
	Entities []string // empty: all
	MinScore float64
	// Timeout bounds one request, the wait for its turn included.
	Timeout time.Duration
	// MaxText bounds the text of one request, in bytes.
	MaxText int
	// Concurrency bounds the requests under way.
	Concurrency int
	// CAFile holds the roots for an https URL; empty: the system's.
	CAFile string
}

// Analyzer implements [mask.Analyzer]. It is safe for concurrent use.
type Analyzer struct {
	cfg    Config
	client *http.Client
	turns  chan struct{}
}

// maxAnswer bounds an answer, in bytes: some hundred for each thing found.
const maxAnswer = 4 << 20

// overlap is how much of a text that is sent in parts two neighbours share, so
// that what stands at the edge is seen whole.
const overlap = 256

// New returns an Analyzer. Nothing is asked yet.
func New(cfg Config) (*Analyzer, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = cfg.Concurrency
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read ca_file: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file %s has no certificate in PEM form", cfg.CAFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &Analyzer{cfg: cfg, turns: make(chan struct{}, cfg.Concurrency), client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// part is one request's text: the whole of some texts, one a line, or a piece of
// a long one.
type part struct {
	text  strings.Builder
	lines []line
}

type line struct {
	text     int // whose
	from, to int // where in the part
	skip     int // bytes of that text before it
}

// Analyze implements [mask.Analyzer]. Short texts share a request.
func (a *Analyzer) Analyze(ctx context.Context, texts []string) ([][]mask.Span, error) {
	var parts []*part
	var p *part
	add := func(text, skip int, s string) {
		if p == nil || p.text.Len()+1+len(s) > a.cfg.MaxText {
			p = new(part)
			parts = append(parts, p)
		}
		if p.text.Len() > 0 {
			p.text.WriteByte('\n')
		}
		p.lines = append(p.lines, line{text, p.text.Len(), p.text.Len() + len(s), skip})
		p.text.WriteString(s)
	}
	for i, s := range texts {
		for skip := 0; ; {
			rest := s[skip:]
			if len(rest) <= a.cfg.MaxText {
				add(i, skip, rest)
				break
			}
			add(i, skip, rest[:boundary(rest, a.cfg.MaxText)])
			skip += boundary(rest, a.cfg.MaxText-overlap)
		}
	}
	found := make([][]mask.Span, len(parts))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(a.cfg.Concurrency)
	for i, p := range parts {
		g.Go(func() (err error) {
			defer func() { // a fault is the call's alone
				if p := recover(); p != nil {
					err = errors.New("a fault while asking the analyzer")
				}
			}()
			found[i], err = a.ask(ctx, p.text.String())
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	out := make([][]mask.Span, len(texts))
	for i, p := range parts {
		for _, s := range found[i] {
			for _, l := range p.lines {
				if from, to := max(s.Start, l.from), min(s.End, l.to); from < to {
					out[l.text] = append(out[l.text], mask.Span{Start: from - l.from + l.skip, End: to - l.from + l.skip, Type: s.Type})
				}
			}
		}
	}
	return out, nil
}

// boundary is the greatest n up to most at which s can be cut.
func boundary(s string, most int) int {
	for most > 1 && !utf8.RuneStart(s[most]) {
		most--
	}
	return most
}

var entityForm = regexp.MustCompile(`^[A-Za-z0-9_]{1,64}$`)

// ask makes one request. What it finds is told in bytes.
func (a *Analyzer) ask(ctx context.Context, text string) ([]mask.Span, error) {
	call := ctx
	ctx, cancel := context.WithTimeout(call, a.cfg.Timeout)
	defer cancel()
	select {
	case a.turns <- struct{}{}:
		defer func() { <-a.turns }()
	case <-ctx.Done():
		if call.Err() != nil {
			return nil, fmt.Errorf("ask the analyzer: %w", call.Err())
		}
		return nil, fmt.Errorf("the analyzer has %d requests under way, and none ended within %s", a.cfg.Concurrency, a.cfg.Timeout)
	}
	body, err := json.Marshal(struct {
		Text     string   `json:"text"`
		Language string   `json:"language"`
		Entities []string `json:"entities,omitempty"`
		MinScore float64  `json:"score_threshold"`
	}{strings.ToValidUTF8(text, "\uFFFD"), a.cfg.Language, a.cfg.Entities, a.cfg.MinScore})
	if err != nil {
		return nil, fmt.Errorf("ask the analyzer: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask the analyzer: %w", err)
	}
	req.Header.Set("content-type", "application/json")
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the analyzer: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the analyzer's answer: %w", err)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the analyzer answers with status %d", resp.StatusCode) // its text may quote ours
	case len(answer) > maxAnswer:
		return nil, fmt.Errorf("the analyzer's answer is longer than %d bytes", maxAnswer)
	}
	return a.read(answer, strings.ToValidUTF8(text, "\uFFFD"))
}

// errNonsense is an answer that can't be about the text.
var errNonsense = errors.New("the analyzer's answer makes no sense")

// read checks an answer. Its offsets count code points.
func (a *Analyzer) read(answer []byte, text string) ([]mask.Span, error) {
	var list []struct {
		Type  *string  `json:"entity_type"`
		Start *int     `json:"start"`
		End   *int     `json:"end"`
		Score *float64 `json:"score"`
	}
	if err := json.Unmarshal(answer, &list); err != nil || list == nil {
		return nil, fmt.Errorf("%w: it is not a list of results", errNonsense)
	}
	if len(list) == 0 {
		return nil, nil
	}
	at := make([]int, 0, len(text)+1) // of each code point
	for i := range text {
		at = append(at, i)
	}
	at = append(at, len(text))
	var out []mask.Span
	for _, r := range list {
		switch {
		case r.Type == nil || r.Start == nil || r.End == nil || r.Score == nil:
			return nil, fmt.Errorf("%w: a result lacks entity_type, start, end or score", errNonsense)
		case *r.Start < 0 || *r.Start >= *r.End || *r.End >= len(at):
			return nil, fmt.Errorf("%w: a result from %d to %d in a text of %d characters", errNonsense, *r.Start, *r.End, len(at)-1)
		case !entityForm.MatchString(*r.Type):
			return nil, fmt.Errorf("%w: a kind that is not a plain name", errNonsense)
		case *r.Score < a.cfg.MinScore:
			continue
		}
		out = append(out, mask.Span{Start: at[*r.Start], End: at[*r.End], Type: *r.Type})
	}
	return out, nil
}
