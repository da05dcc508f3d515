package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"
)

// keptKeys is an issuer's key set as it lies on disk. The keys are public; what
// matters is that nobody else can write them, as with all of state_dir.
type keptKeys struct {
	Issuer  string          `json:"issuer"`
	Fetched time.Time       `json:"fetched"`
	Keys    json.RawMessage `json:"keys"`
}

// keyFile is where an issuer's keys are kept.
func keyFile(folder, url string) string {
	sum := sha256.Sum256([]byte(url))
	return filepath.Join(folder, hex.EncodeToString(sum[:8])+".json")
}

// remember keeps a key set for a start while the issuer is away. That it can't be
// kept stops nothing now.
func (i *issuer) remember(ctx context.Context, set jwk.Set) {
	if i.cache == "" {
		return
	}
	if err := i.write(set); err != nil {
		i.log.WarnContext(ctx, "an issuer's keys could not be kept for a restart while it is away", "issuer", i.URL, "error", err)
	}
}

func (i *issuer) write(set jwk.Set) error {
	keys, err := json.Marshal(set)
	if err != nil {
		return fmt.Errorf("encode the keys: %w", err)
	}
	data, err := json.Marshal(keptKeys{Issuer: i.URL, Fetched: i.now(), Keys: keys})
	if err != nil {
		return fmt.Errorf("encode the keys: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(i.cache), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(i.cache), ".new-")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), i.cache)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// recall takes up the keys of an earlier run where the issuer can't be reached,
// if they are not older than its outage may be. why is why it can't.
func (i *issuer) recall(ctx context.Context, why error) bool {
	if i.cache == "" || i.keys.Load() != nil {
		return false
	}
	set, fetched, err := i.kept()
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		i.log.WarnContext(ctx, "an issuer's kept keys are not used", "issuer", i.URL, "error", err)
		return false
	}
	i.take(set, fetched, fetched)
	i.recalled.Store(true)
	i.log.WarnContext(ctx, "an issuer can't be reached; its keys of an earlier run stay in use", "issuer", i.URL, "fetched", fetched,
		"until", fetched.Add(i.Outage), "error", why)
	return true
}

func (i *issuer) kept() (jwk.Set, time.Time, error) {
	data, err := os.ReadFile(i.cache)
	if err != nil {
		return nil, time.Time{}, err
	}
	var kept keptKeys
	if err := json.Unmarshal(data, &kept); err != nil {
		return nil, time.Time{}, fmt.Errorf("%s is damaged: %w", i.cache, err)
	}
	age := i.now().Sub(kept.Fetched)
	switch {
	case kept.Issuer != i.URL:
		return nil, time.Time{}, fmt.Errorf("%s is of issuer %q", i.cache, kept.Issuer)
	case age < -time.Minute:
		return nil, time.Time{}, fmt.Errorf("%s is from the future; check the clock", i.cache)
	case age >= i.Outage:
		return nil, time.Time{}, fmt.Errorf("they are %s old, and outage is %s", age.Round(time.Second), i.Outage)
	}
	set, err := jwk.Parse(kept.Keys, jwk.WithIgnoreParseError(true))
	if err == nil && set.Len() == 0 {
		err = errors.New("it has no keys")
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%s is damaged: %w", i.cache, err)
	}
	return set, kept.Fetched, nil
}
