package clickhouse

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"
)

// dialer opens connections to the first of several hosts that answers.
// clickhouse-go's own way has one time-out for all of them, so a host that
// swallows packets would hide those behind it.
type dialer struct {
	password func() (string, error) // nil means none
	timeout  time.Duration          // for one host

	mu     sync.Mutex
	failed map[string]time.Time // hosts that did not answer, and when
}

// shunned is how long a host that did not answer comes after all others, so
// that not each new connection waits for it.
const shunned = 30 * time.Second

func (d *dialer) dial(ctx context.Context, _ int, opt *ch.Options, dial ch.Dial) (ch.DialResult, error) {
	with := *opt
	with.DialTimeout = d.timeout
	if d.password != nil {
		password, err := d.password()
		if err != nil {
			return ch.DialResult{}, fmt.Errorf("read the ClickHouse password: %w", err)
		}
		with.Auth.Password = password
	}
	var errs []error
	for _, host := range d.order(opt.Addr) {
		bounded, cancel := context.WithTimeoutCause(ctx, d.timeout, errors.New("it does not answer"))
		found, err := dial(bounded, host, &with)
		if err != nil && bounded.Err() != nil && !errors.Is(err, context.Cause(bounded)) {
			err = fmt.Errorf("%w: %w", context.Cause(bounded), err)
		}
		cancel()
		if err == nil {
			d.mark(host, time.Time{})
			return found, nil
		}
		if ctx.Err() != nil {
			return ch.DialResult{}, errors.Join(append(errs, context.Cause(ctx))...)
		}
		d.mark(host, time.Now())
		errs = append(errs, fmt.Errorf("%s: %w", host, err))
	}
	return ch.DialResult{}, errors.Join(errs...)
}

// order is in which order hosts are tried: as configured, but those that
// failed lately come last, the longest ago first.
func (d *dialer) order(hosts []string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := slices.Clone(hosts)
	slices.SortStableFunc(list, func(a, b string) int {
		return d.lately(a).Compare(d.lately(b))
	})
	return list
}

// lately is when a host failed; zero if that was long ago.
func (d *dialer) lately(host string) time.Time {
	if at := d.failed[host]; time.Since(at) < shunned {
		return at
	}
	return time.Time{}
}

func (d *dialer) mark(host string, failed time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if failed.IsZero() {
		delete(d.failed, host)
	} else {
		d.failed[host] = failed
	}
}

// explainTLS adds what its reader can do about a certificate that is refused.
func explainTLS(err error) error {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var plain tls.RecordHeaderError
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("%w; set audit.clickhouse.ca_file to the authority that signed the server's certificate", err)
	case errors.As(err, &name):
		return fmt.Errorf("%w; audit.clickhouse.url must name the host as its certificate does", err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("%w; the server needs a new certificate", err)
	case errors.As(err, &plain):
		return fmt.Errorf("%w; does that port speak TLS? https and clickhouses do, http and clickhouse don't", err)
	}
	return err
}
