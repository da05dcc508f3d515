package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"filippo.io/age"
)

// makeInvestigator makes the key of who may look behind masks. Its private half
// lies where the investigator is, and callgate serve never sees it.
func (s *Stack) makeInvestigator(context.Context) error {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return fmt.Errorf("make the investigator's key: %w", err)
	}
	s.investigator = id.Recipient().String()
	if err := os.WriteFile(s.file(investigatorKey), []byte(id.String()+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the investigator's key: %w", err)
	}
	return nil
}

const investigatorKey = "investigator.key"

var anApproval = regexp.MustCompile(`apr_[a-z2-7]{16}`)

// original looks behind a mask, which takes a second person.
func (t *tour) original(ctx context.Context) error {
	a, err := t.rest(ctx, "support-agent for alice", t.agent, "GET", "/crm/customers/c-3", "")
	if err != nil {
		return err
	}
	if _, err := t.row(ctx, a.id); err != nil {
		return err
	}
	unseal := []string{"calls", "unseal", a.id, "--reason", "case 4711", "--key", t.file(investigatorKey)}
	out, err := t.callgate(ctx, t.alice, unseal...)
	id := anApproval.FindString(out)
	if err == nil || id == "" {
		return errors.New("the original was shown, or nobody was asked")
	}
	if _, err := t.callgate(ctx, t.alice, "approvals", "approve", id); err == nil {
		return errors.New("alice agreed to her own wish")
	}
	if _, err := t.callgate(ctx, t.bob, "approvals", "approve", id, "--comment", "the case is known"); err != nil {
		return err
	}
	out, err = t.callgate(ctx, t.alice, unseal...)
	if err != nil || out == a.body || !strings.Contains(out, "@") {
		return errors.New("want the answer as the function gave it")
	}
	if out, err = t.quietly(ctx, t.alice, unseal...); err == nil || anApproval.FindString(out) == id {
		return errors.New("the agreement was good for a second look")
	}
	// Nobody who tries the pages afterwards need wonder what still waits.
	if out, err = t.quietly(ctx, t.bob, "approvals", "deny", anApproval.FindString(out), "--comment", "seen already"); err != nil {
		return fmt.Errorf("refuse the second look: %w: %s", err, out)
	}
	return nil
}
