package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/console"
	"github.com/callgate/callgate/extproc/sealed"
)

func newCallsUnseal() *cobra.Command {
	c := &cobra.Command{
		Use:   "unseal ID",
		Short: "See what a mask hid, when a second person agrees",
		Long: `Unseal shows the response of a call as the function sent it, before masks changed
it, where its connection keeps originals (record.originals). It takes somebody
whom audit.unseal.investigators names, the private key that the original was
sealed for, which stays on this machine, and the agreement of a second person, one
of audit.unseal.approvers: they see who asks, for which call and why. The
agreement holds for one look. Who asked, who agreed and that the original was
released is in the ledger.

What is opened is checked against what the ledger committed to when the response
was masked, so it is the original, and nobody can pass off another one.`,
		Example: `  callgate calls unseal 01935b5e-7f6a-7c1e-9d3b-2f1f0a9c8b7d --reason "case 4711" --key fraud.key
  callgate calls unseal 01935b5e-7f6a-7c1e-9d3b-2f1f0a9c8b7d --reason "case 4711" --key fraud.key --wait 1h -o original.json`,
		Args: cobra.ExactArgs(1),
	}
	apiFlags(c.Flags())
	reason := c.Flags().String("reason", "", "why; who must agree reads it, and it stays in the ledger")
	key := c.Flags().String("key", "", "file with the private key, as age-keygen writes it")
	wait := c.Flags().Duration("wait", 0, "how long to wait for the second person; default: ask, and come again")
	out := c.Flags().StringP("output", "o", "", "write the original there, readable for you alone; default: to the terminal")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		id, err := call.ParseID(args[0])
		if err != nil {
			return withCode(exitUsage, err)
		}
		switch {
		case *reason == "":
			return withCode(exitUsage, errors.New("say why with --reason; who must agree reads it"))
		case *key == "":
			return withCode(exitUsage, errors.New("name the file with the private key: --key"))
		}
		// Nobody need be asked for a key that can't be read.
		keys, err := os.ReadFile(*key)
		if err != nil {
			return withCode(exitUsage, fmt.Errorf("read the private key: %w", err))
		}
		api, err := client(c)
		if err != nil {
			return err
		}
		got, err := unsealed(c.Context(), api, id.String(), *reason, *wait)
		if err != nil {
			return answered(err)
		}
		if got.State != console.UnsealReleased {
			if *asJSON {
				if err := printJSON(c.OutOrStdout(), got); err != nil {
					return err
				}
			}
			if got.State == console.UnsealWaiting {
				return withCode(exitNo, fmt.Errorf("approval %s: %s", got.Approval, got.Message))
			}
			return withCode(exitNo, errors.New(got.Message))
		}
		o, err := sealed.Open(got.Original, bytes.NewReader(keys), id.String(), [32]byte(append(got.Commitment, make([]byte, 32)...)))
		if err != nil {
			return withCode(exitNo, fmt.Errorf("open the original of %s: %w", id, err))
		}
		if n := o.Length - int64(len(o.Body)); n > 0 {
			fmt.Fprintf(c.ErrOrStderr(), "the last %d of %d bytes were not kept (record.max_body)\n", n, o.Length)
		}
		if o.Encoding != "" {
			fmt.Fprintf(c.ErrOrStderr(), "the original is in content-encoding %s\n", o.Encoding)
		}
		switch {
		case *asJSON:
			return printJSON(c.OutOrStdout(), map[string]any{"call": id, "approval": got.Approval, "type": o.Type, "encoding": o.Encoding, "length": o.Length,
				"body": base64.StdEncoding.EncodeToString(o.Body)})
		case *out != "":
			if err := os.WriteFile(*out, o.Body, 0o600); err != nil {
				return fmt.Errorf("write the original: %w", err)
			}
			fmt.Fprintf(c.ErrOrStderr(), "wrote %d bytes, which are what the ledger committed to, to %s\n", len(o.Body), *out)
			return nil
		}
		_, err = c.OutOrStdout().Write(o.Body)
		return err
	}
	return c
}

// unsealed asks, and asks again until somebody has decided or wait is over.
func unsealed(ctx context.Context, api *console.Client, id, reason string, wait time.Duration) (console.Unsealed, error) {
	until := time.Now().Add(wait)
	for {
		got, err := api.Unseal(ctx, id, reason)
		if err != nil || got.State != console.UnsealWaiting {
			return got, err
		}
		pause := time.Duration(max(1, got.RetryAfter)) * time.Second
		if time.Now().Add(pause).After(until) {
			return got, nil
		}
		select {
		case <-ctx.Done():
			return got, ctx.Err()
		case <-time.After(pause):
		}
	}
}
