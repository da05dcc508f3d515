package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// FileWitness appends checkpoints to a file on another disk or host, a JSON
// object a line: {"checkpoint": "…"}.
type FileWitness struct{ Path string }

type witnessed struct {
	Checkpoint string `json:"checkpoint"`
}

// Put implements [Witness].
func (w FileWitness) Put(_ context.Context, signed []byte) error {
	line, err := json.Marshal(witnessed{Checkpoint: string(signed)})
	if err != nil {
		return fmt.Errorf("encode a checkpoint: %w", err)
	}
	f, err := os.OpenFile(w.Path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	_, err = f.Write(append(line, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	return nil
}

// ReadWitness returns the checkpoints that a [FileWitness] kept, as they were
// signed. A last line that was not written whole is left out.
func ReadWitness(data []byte) ([][]byte, error) {
	var out [][]byte
	for n := 1; len(data) > 0; n++ {
		line, rest, whole := bytes.Cut(data, []byte{'\n'})
		data = rest
		if !whole {
			break
		}
		var w witnessed
		if err := json.Unmarshal(line, &w); err != nil || w.Checkpoint == "" {
			return nil, fmt.Errorf("line %d is no witnessed checkpoint", n)
		}
		out = append(out, []byte(w.Checkpoint))
	}
	return out, nil
}

// HTTPWitness posts checkpoints, as they were signed, to a URL. Any status
// from 200 to 299 means that it is kept.
type HTTPWitness struct {
	URL    string
	Client *http.Client
}

// Put implements [Witness].
func (w HTTPWitness) Put(ctx context.Context, signed []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(signed))
	if err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	req.Header.Set("content-type", "text/plain; charset=utf-8")
	res, err := w.Client.Do(req)
	if err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 200)) // a hint; the status tells enough
		return fmt.Errorf("witness: it answered %s: %s", res.Status, strings.TrimSpace(string(text)))
	}
	return nil
}
