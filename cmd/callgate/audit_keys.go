package main

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/callgate/callgate/app"
	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/audit/ledger"
)

func newAuditKeys() *cobra.Command {
	c := &cobra.Command{
		Use:   "keys",
		Short: "Manage the keys that sign the ledger of this replica",
		Long: `Keys manages the file that audit.ledger.keys_file names, on the machine of the
replica. A replica makes its first key when it first starts; it notices a change
of the file at its next checkpoint, without a restart.`,
	}
	c.AddCommand(newKeysList(), newKeysExport(), newKeysRotate(), newKeysRevoke())
	return c
}

// ledgerKeys finds the key file of the configuration.
func ledgerKeys(c *cobra.Command) (audit.Keys, error) {
	cfg, err := loadConfig(c)
	if err != nil {
		return audit.Keys{}, err
	}
	return app.LedgerKeys(cfg), nil
}

// readRing reads the keys, and says what to do where there are none.
func readRing(c *cobra.Command) (ledger.Ring, error) {
	keys, err := ledgerKeys(c)
	if err != nil {
		return ledger.Ring{}, err
	}
	ring, err := keys.Load()
	if errors.Is(err, fs.ErrNotExist) {
		return ring, withCode(exitNo, fmt.Errorf("%w; a replica makes its first key when it first starts, as 'callgate audit keys rotate' does", err))
	}
	return ring, withCode(exitUsage, err)
}

// keyView is a key without its secret.
type keyView struct {
	ID       string    `json:"id"`
	Verifier string    `json:"verifier"`
	State    string    `json:"state"` // signs, next, retired, revoked
	Created  time.Time `json:"created"`
	Revoked  time.Time `json:"revoked,omitzero"`
	Reason   string    `json:"reason,omitempty"`
}

func viewKeys(ring ledger.Ring) []keyView {
	out := []keyView{}
	signing := ring.Signing()
	for _, k := range ring.Keys {
		v := keyView{ID: k.ID(), Verifier: k.Verifier, State: "retired", Created: k.Created, Revoked: k.Revoked, Reason: k.Reason}
		for i, s := range signing {
			if s.Verifier == k.Verifier {
				v.State = "signs"
				if i == len(signing)-1 && !k.AddedTold {
					v.State = "next"
				}
			}
		}
		if !k.Revoked.IsZero() {
			v.State = "revoked"
		}
		out = append(out, v)
	}
	return out
}

func newKeysList() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List the keys, oldest first", Args: cobra.NoArgs}
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		ring, err := readRing(c)
		if err != nil {
			return err
		}
		keys := viewKeys(ring)
		if *asJSON {
			return printJSON(c.OutOrStdout(), keys)
		}
		rows := [][]string{{"KEY", "STATE", "CREATED", "REASON"}}
		for _, k := range keys {
			rows = append(rows, []string{k.ID, k.State, k.Created.UTC().Format(time.RFC3339), k.Reason})
		}
		return table(c.OutOrStdout(), rows)
	}
	return c
}

func newKeysExport() *cobra.Command {
	return &cobra.Command{
		Use:   "export",
		Short: "Print the public halves, for auditors",
		Long: `Export prints the verifier keys of this replica that are not revoked, one a line,
in the form that --key of 'callgate verify' takes. Put those of all replicas into
one file. An auditor who got it once follows later rotations by the log itself.`,
		Example: `  callgate audit keys export > auditor.keys`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ring, err := readRing(c)
			if err != nil {
				return err
			}
			for _, k := range ring.Keys {
				if k.Revoked.IsZero() {
					fmt.Fprintf(c.OutOrStdout(), "# made %s\n%s\n", k.Created.UTC().Format(time.RFC3339), k.Verifier)
				}
			}
			return nil
		},
	}
}

func newKeysRotate() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate",
		Short: "Make a new key, which takes over at the next checkpoint",
		Long: `Rotate makes a new key. At its next checkpoint the replica tells of it in the
log, signs once with both keys, so that who trusts the old one comes to trust
the new one, and forgets the old one's private half.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			keys, err := ledgerKeys(c)
			if err != nil {
				return err
			}
			made, err := keys.Add(c.Context())
			if err != nil {
				return withCode(exitNo, err)
			}
			fmt.Fprintln(c.OutOrStdout(), made.Verifier)
			return nil
		},
	}
}

func newKeysRevoke() *cobra.Command {
	c := &cobra.Command{
		Use:   "revoke KEY",
		Short: "Trust a key no more, because it was stolen, say",
		Long: `Revoke forgets a key's private half, and the replica tells of it in the log.
Whatever a later checkpoint of another key covers stays proved. A replica that
has no key left makes a new one, which auditors must be given: the revoked one
can't vouch for it.`,
		Example: `  callgate audit keys revoke 61930c0a --reason "copied from a backup"`,
		Args:    cobra.ExactArgs(1),
	}
	reason := c.Flags().String("reason", "", "why; it is told in the log")
	c.RunE = func(c *cobra.Command, args []string) error {
		if *reason == "" {
			return withCode(exitUsage, errors.New("say why with --reason; it is told in the log"))
		}
		keys, err := ledgerKeys(c)
		if err != nil {
			return err
		}
		if _, err := readRing(c); err != nil {
			return err
		}
		var gone ledger.Key
		_, err = keys.Edit(c.Context(), func(r *ledger.Ring) (err error) {
			gone, err = r.Revoke(args[0], *reason, time.Now())
			return err
		})
		if err != nil {
			return withCode(exitNo, err)
		}
		fmt.Fprintf(c.OutOrStdout(), "revoked %s\n", gone.ID())
		return nil
	}
	return c
}
