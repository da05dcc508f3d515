package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
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
	f, err := os.OpenFile(w.Path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	// A disk that was full may have left a line without its end.
	end := make([]byte, 1)
	if at, err := f.Seek(0, io.SeekEnd); err == nil && at > 0 {
		if _, err := f.ReadAt(end, at-1); err == nil && end[0] != '\n' {
			line = append([]byte{'\n'}, line...)
		}
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
// signed. Lines that were not written whole are left out: a disk that is full
// leaves such.
func ReadWitness(data []byte) ([][]byte, error) {
	var out [][]byte
	for n := 1; len(data) > 0; n++ {
		line, rest, whole := bytes.Cut(data, []byte{'\n'})
		data = rest
		if !whole {
			break
		}
		var w witnessed
		dec := json.NewDecoder(bytes.NewReader(line))
		switch err := dec.Decode(&w); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		case err != nil || w.Checkpoint == "" || len(bytes.TrimSpace(line[dec.InputOffset():])) > 0:
			return nil, fmt.Errorf("line %d is no witnessed checkpoint", n)
		default:
			out = append(out, []byte(w.Checkpoint))
		}
	}
	return out, nil
}

// HTTPWitness posts checkpoints, as they were signed, to a URL. Any status
// from 200 to 299 means that it is kept. Its errors don't hold the URL, which may
// hold a credential, nor what the witness answered, which may repeat it.
type HTTPWitness struct {
	URL    string
	Client *http.Client
}

// Put implements [Witness].
func (w HTTPWitness) Put(ctx context.Context, signed []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(signed))
	if err != nil {
		return errors.New("witness: its URL can't be used; see audit.ledger.witness")
	}
	req.Header.Set("content-type", "text/plain; charset=utf-8")
	res, err := w.Client.Do(req)
	if err != nil {
		if with := (*url.Error)(nil); errors.As(err, &with) {
			err = with.Err
		}
		return fmt.Errorf("witness at %s: %w", req.URL.Host, err)
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("witness at %s: it answered %d %s", req.URL.Host, res.StatusCode, http.StatusText(res.StatusCode))
	}
	return nil
}
