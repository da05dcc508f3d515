package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/callgate/callgate/app"
	"github.com/callgate/callgate/audit"
	"github.com/callgate/callgate/audit/clickhouse"
	"github.com/callgate/callgate/audit/ledger"
	"github.com/callgate/callgate/audit/verify"
	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
)

func newVerify() *cobra.Command {
	c := &cobra.Command{
		Use:   "verify [CALL-ID]",
		Short: "Check that nobody changed the audit trail",
		Long: `Verify makes the Merkle tree of every spool again from the ledger in ClickHouse,
compares it with the checkpoints that trusted keys signed, and then makes every
row of calls and approvals again from the ledger and compares these. It names
what was edited, deleted, inserted, doubled, cut off or never signed, the first
bad event first, and says what it could not check.

Trusted are the keys given with --key, each a verifier key or a file of them
("callgate audit keys export" on each replica prints them); without any, those
in this replica's own key file. A deletion of the newest events together with
their checkpoints shows only with --witness, the file that audit.ledger.witness
keeps elsewhere.

With a call's id its events are proved one by one. --export writes that proof to
a file that anybody checks with --proof and the keys alone, without ClickHouse
or network.

It exits with 1 where something is wrong.`,
		Example: `  callgate verify --key auditor.keys --witness /mnt/worm/checkpoints
  callgate verify --since 24h
  callgate verify --export 01935b5e-7f6a-7c1e-9d3b-2f1f0a9c8b7d -o call.proof
  callgate verify --proof call.proof --key auditor.keys`,
		Args: cobra.MaximumNArgs(1),
	}
	var o verifyOptions
	c.Flags().StringArrayVar(&o.keys, "key", nil, "a verifier key, or a file of them; may be repeated")
	c.Flags().StringVar(&o.witness, "witness", "", "file of checkpoints that were kept elsewhere")
	c.Flags().StringVar(&o.since, "since", "", "only calls that came since then: 24h, 7d, a date or an RFC 3339 time")
	c.Flags().StringVar(&o.until, "until", "", "only calls that came before then")
	c.Flags().StringVar(&o.export, "export", "", "write the proof of this call's events")
	c.Flags().StringVarP(&o.out, "output", "o", "", "file for --export (default: standard output)")
	c.Flags().BoolVar(&o.bare, "without-content", false, "leave bodies, arguments and path out of --export")
	c.Flags().StringVar(&o.proof, "proof", "", "check a proof that --export wrote; - for standard input")
	o.json = jsonFlag(c)
	c.MarkFlagsMutuallyExclusive("export", "proof")
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 1 {
			if o.export != "" || o.proof != "" || o.since != "" || o.until != "" {
				return withCode(exitUsage, errors.New("with a call's id, leave --export, --proof, --since and --until out"))
			}
			o.call = args[0]
		}
		switch {
		case o.proof != "":
			return o.checkProof(c)
		case o.export != "", o.call != "":
			return o.one(c)
		}
		return o.whole(c)
	}
	return c
}

type verifyOptions struct {
	keys                                      []string
	witness, since, until, export, out, proof string
	call                                      string
	bare                                      bool
	json                                      *bool
}

// trusted are the keys to believe. cfg is nil where only those given count.
func (o *verifyOptions) trusted(c *cobra.Command, cfg *config.Config) ([]string, error) {
	var keys []string
	for _, k := range o.keys {
		if _, err := ledger.Verifiers([]string{k}); err == nil {
			keys = append(keys, k)
			continue
		}
		text, err := os.ReadFile(k)
		if err != nil {
			return nil, withCode(exitUsage, fmt.Errorf("--key: neither a verifier key (name+hash+base64) nor a file that can be read: %w", err))
		}
		list, err := ledger.ParseVerifierKeys(text)
		if err != nil {
			return nil, withCode(exitUsage, fmt.Errorf("--key %s: %w", k, err))
		}
		if len(list) == 0 {
			return nil, withCode(exitUsage, fmt.Errorf("--key %s: it holds no key", k))
		}
		keys = append(keys, list...)
	}
	if len(keys) > 0 {
		return keys, nil
	}
	if cfg == nil {
		return nil, withCode(exitUsage, errors.New("name the keys that you trust with --key"))
	}
	ring, err := app.LedgerKeys(cfg).Load()
	if err != nil {
		return nil, withCode(exitUsage, fmt.Errorf("%w; name the keys that you trust with --key", err))
	}
	fmt.Fprintf(c.ErrOrStderr(), "trusting the keys in %s; an auditor names keys of their own with --key\n", cfg.Audit.Ledger.KeysFile)
	return ring.Trusted(), nil
}

func (o *verifyOptions) whole(c *cobra.Command) (err error) {
	cfg, err := loadConfig(c)
	if err != nil {
		return err
	}
	keys, err := o.trusted(c, cfg)
	if err != nil {
		return err
	}
	v := verify.Config{Keys: keys, Now: time.Now()}
	for _, b := range []struct {
		flag, text string
		to         *time.Time
	}{{"since", o.since, &v.Since}, {"until", o.until, &v.Until}} {
		if b.text != "" {
			if *b.to, err = parseWhen(b.text, v.Now); err != nil {
				return withCode(exitUsage, fmt.Errorf("--%s: %w", b.flag, err))
			}
		}
	}
	if o.witness != "" {
		data, err := os.ReadFile(o.witness)
		if err != nil {
			return withCode(exitUsage, fmt.Errorf("--witness: %w", err))
		}
		if v.Witness, err = audit.ReadWitness(data); err != nil {
			return withCode(exitUsage, fmt.Errorf("--witness %s: %w", o.witness, err))
		}
	}
	if !*o.json {
		v.Progress = progress(c)
	}
	db, err := reach(c, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	v.Source = db
	report, err := verify.Run(c.Context(), v)
	if err != nil {
		return withCode(exitUnreachable, err)
	}
	if *o.json {
		err = printJSON(c.OutOrStdout(), report)
	} else {
		err = printReport(c.OutOrStdout(), report, o.witness != "")
	}
	if err == nil && !report.OK() {
		err = withCode(exitNo, fmt.Errorf("the trail is not as it was recorded: %d findings", uint64(len(report.Findings))+report.More))
	}
	return err
}

func printReport(w io.Writer, r verify.Report, witnessed bool) error {
	var b bytes.Buffer
	for _, l := range r.Logs {
		fmt.Fprintf(&b, "spool %s %s: %d events", l.Spool, clickhouse.Text(l.Node), l.Events)
		if l.Checkpoints > 0 || l.Signed > 0 {
			fmt.Fprintf(&b, ", proved up to %d by %d checkpoints, the last of %s", l.Signed, l.Checkpoints, l.SignedAt.UTC().Format(time.RFC3339))
		}
		fmt.Fprintln(&b)
	}
	fmt.Fprintf(&b, "calls: %d rows compared with the ledger", r.Calls)
	if r.Expired+r.Erased > 0 {
		fmt.Fprintf(&b, "; of %d retention took content or row, %d were erased on request", r.Expired, r.Erased)
	}
	fmt.Fprintln(&b)
	for _, u := range r.Unchecked {
		fmt.Fprintf(&b, "not checked: %s\n", clickhouse.Text(u))
	}
	if !witnessed {
		fmt.Fprintln(&b, "not checked: whether the newest events were deleted together with their checkpoints; --witness tells")
	}
	for i, f := range r.Findings {
		first := ""
		if i == 0 {
			first = "FIRST "
		}
		fmt.Fprintf(&b, "%s%s %s: ", first, strings.ToUpper(string(f.Kind)), f.Table)
		if f.Spool != "" {
			fmt.Fprintf(&b, "event %d of spool %s", f.Index, clickhouse.Text(f.Spool))
		}
		if f.CallID != uuid.Nil {
			fmt.Fprintf(&b, ", call %s", f.CallID)
		}
		fmt.Fprintf(&b, ": %s\n", clickhouse.Text(f.What))
	}
	if r.More > 0 {
		fmt.Fprintf(&b, "and %d more\n", r.More)
	}
	if r.OK() {
		fmt.Fprintln(&b, "OK: what was checked is as it was recorded")
	}
	_, err := w.Write(b.Bytes())
	return err
}

// one proves or exports a single call.
func (o *verifyOptions) one(c *cobra.Command) (err error) {
	id, err := call.ParseID(o.export + o.call)
	if err != nil {
		return withCode(exitUsage, err)
	}
	cfg, err := loadConfig(c)
	if err != nil {
		return err
	}
	keys, err := o.trusted(c, cfg)
	if err != nil {
		return err
	}
	db, err := reach(c, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	proof, err := verify.Export(c.Context(), db, keys, id, !o.bare)
	if err != nil {
		return withCode(exitNo, err)
	}
	data, err := json.MarshalIndent(proof, "", "  ")
	if err != nil {
		return fmt.Errorf("write the proof: %w", err)
	}
	if o.call != "" {
		return o.printProof(c, data, keys)
	}
	// What was written must hold.
	if _, _, err := verify.CheckProof(data, keys); err != nil {
		return withCode(exitNo, fmt.Errorf("the trail does not prove this call: %w", err))
	}
	data = append(data, '\n')
	if o.out == "" {
		_, err = c.OutOrStdout().Write(data)
		return err
	}
	if err := os.WriteFile(o.out, data, 0o600); err != nil {
		return fmt.Errorf("write the proof: %w", err)
	}
	fmt.Fprintf(c.ErrOrStderr(), "%s proves %d events; check it with: callgate verify --proof %s --key …\n", o.out, len(proof.Events), o.out)
	return nil
}

func (o *verifyOptions) checkProof(c *cobra.Command) error {
	keys, err := o.trusted(c, nil)
	if err != nil {
		return err
	}
	var data []byte
	if o.proof == "-" {
		data, err = io.ReadAll(c.InOrStdin())
	} else {
		data, err = os.ReadFile(o.proof)
	}
	if err != nil {
		return withCode(exitUsage, fmt.Errorf("--proof: %w", err))
	}
	return o.printProof(c, data, keys)
}

// printProof checks a proof and prints what it proves.
func (o *verifyOptions) printProof(c *cobra.Command, data []byte, keys []string) error {
	id, proved, err := verify.CheckProof(data, keys)
	if err != nil {
		return withCode(exitNo, fmt.Errorf("not proved: %w", err))
	}
	if *o.json {
		return printJSON(c.OutOrStdout(), map[string]any{"call_id": id, "proved": proved})
	}
	w := c.OutOrStdout()
	fmt.Fprintf(w, "call %s\n", id)
	for _, p := range proved {
		e := p.Event
		fmt.Fprintf(w, "PROVED %s: event %d of spool %s, of %s, signed at %s by %s\n", clickhouse.Text(string(e.Kind)), p.Index, clickhouse.Text(p.Spool),
			e.Time.UTC().Format(time.RFC3339Nano), p.Before.UTC().Format("2006-01-02T15:04:05.000Z07:00"), clickhouse.Text(strings.Join(p.Signer, ", ")))
		for _, line := range describe(e) {
			fmt.Fprintf(w, "  %s\n", line)
		}
		if p.Content != "" {
			fmt.Fprintf(w, "  content: %s\n", p.Content)
		}
	}
	return nil
}

// describe tells the main points of an event, for people.
func describe(e call.Event) []string {
	text := func(v any) string { return clickhouse.Text(v) }
	switch {
	case e.Decided != nil:
		d := e.Decided
		out := []string{
			fmt.Sprintf("%s: %s %s by %s (%s)", text(string(d.Decision.Outcome)), text(d.Connection), text(d.Function), text(d.Identity.Subject), text(d.Identity.Issuer)),
			fmt.Sprintf("rule %q, reason %s, policy %s", text(d.Decision.Rule), text(string(d.Decision.Reason)), text(d.Decision.PolicyVersion)),
		}
		if len(d.ArgsJSON) > 0 {
			out = append(out, "arguments "+text(string(d.ArgsJSON)))
		}
		body := fmt.Sprintf("request body of %d bytes, %s", d.Body.Length, text(d.Body.ContentType))
		if len(d.Masked) > 0 {
			body += fmt.Sprintf(", %d kinds of masked values", len(d.Masked))
		}
		return append(out, body)
	case e.Answered != nil:
		a := e.Answered
		return []string{fmt.Sprintf("status %d, response body of %d bytes, %s, %d kinds of masked values", a.Status, a.Body.Length, text(a.Body.ContentType), len(a.Masked))}
	case e.Finished != nil:
		return []string{fmt.Sprintf("status %d after %s, %d bytes in, %d out", e.Finished.Status, e.Finished.Duration, e.Finished.BytesIn, e.Finished.BytesOut)}
	case e.Approval != nil:
		return []string{fmt.Sprintf("approval %s: %s by %s", text(e.Approval.ID), text(e.Approval.Step), text(e.Approval.By))}
	}
	return nil
}
