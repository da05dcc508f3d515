package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/audit/clickhouse"
)

// tailEvery is how often the trail is asked for new calls.
const tailEvery = time.Second

func newCallsTail() *cobra.Command {
	c := &cobra.Command{
		Use:   "tail",
		Short: "Follow calls as they are recorded",
		Long: `Tail prints calls as their rows arrive in ClickHouse, each once, until it is
interrupted. A call's row arrives when the call has ended; one that was held, or
whose replica had to wait for ClickHouse, arrives long after the call came.`,
		Example: `  callgate calls tail --decision denied
  callgate calls tail --since 10m --json | jq .function`,
		Args: cobra.NoArgs,
	}
	asJSON := c.Flags().Bool("json", false, "print JSON, a call a line")
	v := filterFlags(c)
	c.Flags().StringVar(&v.since, "since", "", "begin with calls that came since then: 90s, 2h, 1d, a date or an RFC 3339 time")
	c.Flags().IntVar(&v.f.Limit, "limit", 1000, "most calls to begin with")
	c.RunE = func(c *cobra.Command, _ []string) (err error) {
		f, err := v.filter()
		if err != nil {
			return err
		}
		db, err := openTrail(c)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		// A reader that has gone is an error to return from here, and no signal
		// to die of.
		signal.Ignore(syscall.SIGPIPE)
		defer signal.Reset(syscall.SIGPIPE)
		p := lines{w: c.OutOrStdout(), json: *asJSON}
		err = follow(c, db, f, p.print)
		if errors.Is(err, syscall.EPIPE) || c.Context().Err() != nil {
			return nil
		}
		return err
	}
	return c
}

// follow prints calls until c's context ends, the reader goes, or something
// fails that waiting does not mend.
func follow(c *cobra.Command, db *clickhouse.DB, f clickhouse.Filter, print func([]clickhouse.Summary) error) error {
	ctx := c.Context()
	tail, list, err := db.Tail(ctx, f)
	if err != nil {
		return withCode(exitNo, err)
	}
	away := false
	for {
		if err := print(list); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(tailEvery):
		}
		if readerGone(c.OutOrStdout()) {
			return nil
		}
		list, err = tail.Next(ctx)
		switch {
		case errors.Is(err, clickhouse.ErrTooMany):
			return withCode(exitNo, errors.Join(print(list), err))
		case err != nil && ctx.Err() == nil && !away:
			fmt.Fprintf(c.ErrOrStderr(), "callgate: %v; still trying, no call will be left out\n", err)
		case err == nil && away:
			fmt.Fprintln(c.ErrOrStderr(), "callgate: ClickHouse answers again")
		}
		away = err != nil
	}
}

// readerGone reports whether w is a pipe that nobody reads any more: a call
// may not come for hours, and printing one is no way to find out.
func readerGone(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && hungUp(f)
}

// lines prints calls as they come.
type lines struct {
	w    io.Writer
	json bool
}

func (l lines) print(list []clickhouse.Summary) error {
	var out []byte
	for _, s := range list {
		if l.json {
			data, err := json.Marshal(s)
			if err != nil {
				return fmt.Errorf("print JSON: %w", err)
			}
			out = append(append(out, clickhouse.EscapeJSON(data)...), '\n')
			continue
		}
		out = append(append(out, strings.Join(cells(s), "  ")...), '\n')
	}
	if len(out) == 0 {
		return nil
	}
	_, err := l.w.Write(out)
	return err
}
