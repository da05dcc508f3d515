package extproc

import (
	"fmt"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/extproc/sealed"
)

// Sealer encrypts originals for investigators (age public keys), and returns what
// commits to one.
type Sealer interface {
	Seal(o sealed.Original, recipients []string) (blob []byte, commitment [32]byte, err error)
}

// original keeps a body as the function sends it, for as far as bodies are
// recorded, where the connection keeps originals.
type original struct {
	of     sealed.Original
	max    int64
	sealed *call.Original
}

func (r *response) keepOriginal() {
	if r.masker == nil || len(r.meta.Record.Originals) == 0 || r.meta.Record.Response == call.RecordOff {
		return
	}
	r.original = &original{max: r.meta.Record.MaxBody, of: sealed.Original{Call: r.meta.CallID.String(),
		Type: r.headers.Get("content-type"), Encoding: r.headers.Get("content-encoding")}}
}

func (o *original) write(p []byte) {
	if o == nil {
		return
	}
	o.of.Length += int64(len(p))
	room := o.max - int64(len(o.of.Body))
	o.of.Body = append(o.of.Body, p[:min(int64(len(p)), max(room, 0))]...)
}

func (o *original) held() int {
	if o == nil {
		return 0
	}
	return len(o.of.Body)
}

// seal puts the original beside the event of a response that the caller did not
// get as it was.
func (r *response) seal(o *original, a *call.AnsweredEvent) error {
	if o == nil || o.of.Length == 0 || len(a.Masked) == 0 && a.Withheld == "" {
		return nil
	}
	if o.sealed == nil {
		blob, commitment, err := r.server.cfg.Sealer.Seal(o.of, r.meta.Record.Originals)
		if err != nil {
			return fmt.Errorf("the original can't be sealed: %w", err)
		}
		o.sealed = &call.Original{Commitment: commitment, Sealed: blob}
	}
	a.Original = o.sealed
	return nil
}
