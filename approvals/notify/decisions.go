package notify

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/slack-go/slack"

	"github.com/callgate/callgate/approvals"
	"github.com/callgate/callgate/call"
)

// SlackPath is where Slack sends what people press (the app's Request URL).
const SlackPath = "/slack/interactive"

// SlackApp is one Slack app whose buttons are taken.
type SlackApp struct {
	Target string // of notifications
	// Secret reads the app's signing secret.
	Secret func() (string, error)
	// People says who somebody in Slack is, by "TEAM/USER" (T012AB/U345CD).
	// Nobody else decides: what Slack tells of names and addresses is not
	// believed, since people can change it there.
	People map[string]call.Identity
}

// Decisions takes decisions that people make in Slack.
type Decisions struct {
	Apps []*SlackApp
	// Show returns what a hold's approver is shown.
	Show func(ctx context.Context, id string) (approvals.View, error)
	// Decide decides in somebody's name, under the rules that hold for all.
	Decide func(ctx context.Context, id string, by call.Identity, approve bool, comment string) error
	// Base is where messages are changed afterwards; only below it does an
	// answer go. Default https://hooks.slack.com/.
	Base   string
	Client *http.Client
	Log    *slog.Logger

	mu      sync.Mutex
	seen    map[[32]byte]time.Time // signatures, until their time is over
	answers sync.WaitGroup
}

const (
	slackBase = "https://hooks.slack.com/"
	// slackWindow is how old a request of Slack's may be, to either side.
	slackWindow    = 5 * time.Minute
	maxInteraction = 256 << 10
	// slackWait is how long Slack waits for an answer, less some.
	slackWait = 2500 * time.Millisecond
)

// interaction is what is read of a block_actions payload.
type interaction struct {
	Type string `json:"type"`
	Team struct {
		ID string `json:"id"`
	} `json:"team"`
	User struct {
		ID     string `json:"id"`
		TeamID string `json:"team_id"`
	} `json:"user"`
	ResponseURL string `json:"response_url"`
	Actions     []struct {
		ID    string `json:"action_id"`
		Block string `json:"block_id"`
		Value string `json:"value"`
	} `json:"actions"`
	State struct {
		Values map[string]map[string]struct {
			Value string `json:"value"`
		} `json:"values"`
	} `json:"state"`
}

// ServeHTTP takes one interaction.
func (d *Decisions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxInteraction))
	if err != nil {
		http.Error(w, "the body can't be read", http.StatusBadRequest)
		return
	}
	app, err := d.verified(r.Header, body)
	if err != nil {
		d.Log.WarnContext(r.Context(), "a request that claims to be Slack's is refused", "cause", err)
		http.Error(w, "this is not signed by a Slack app that is configured here, or not now", http.StatusUnauthorized)
		return
	}
	in, err := readInteraction(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, a := range in.Actions {
		if a.Block == actionsBlock && (a.ID == approveAction || a.ID == denyAction) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), slackWait)
			defer cancel()
			answer := d.decide(ctx, app, in, a.Value, a.ID == approveAction)
			d.answers.Add(1)
			go func() { defer d.answers.Done(); d.answer(context.WithoutCancel(ctx), in.ResponseURL, answer) }()
			break
		}
	}
	w.WriteHeader(http.StatusOK)
}

// Wait waits for messages that are being changed.
func (d *Decisions) Wait() { d.answers.Wait() }

// verified tells which app signed a request
// (https://docs.slack.dev/authentication/verifying-requests-from-slack), if it is
// fresh and was not seen before.
func (d *Decisions) verified(h http.Header, body []byte) (*SlackApp, error) {
	err := errors.New("no app takes decisions")
	for i := range d.Apps {
		var secret string
		if secret, err = d.Apps[i].Secret(); err != nil {
			err = fmt.Errorf("read the signing secret of %s: %w", d.Apps[i].Target, err)
			continue
		}
		var v slack.SecretsVerifier
		if v, err = slack.NewSecretsVerifier(h, secret); err != nil {
			continue
		}
		if _, err = v.Write(body); err != nil {
			continue
		}
		if err = v.Ensure(); err != nil {
			continue
		}
		if !d.first(sha256.Sum256([]byte(strings.ToLower(h.Get("x-slack-signature"))))) {
			return nil, errors.New("it was sent before")
		}
		return d.Apps[i], nil
	}
	return nil, err
}

// first tells whether a signature is new. What is forgotten is too old to be
// taken by its time.
func (d *Decisions) first(signature [32]byte) bool {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen == nil {
		d.seen = map[[32]byte]time.Time{}
	}
	for s, until := range d.seen {
		if now.After(until) {
			delete(d.seen, s)
		}
	}
	if _, again := d.seen[signature]; again {
		return false
	}
	d.seen[signature] = now.Add(2*slackWindow + time.Minute)
	return true
}

func readInteraction(body []byte) (interaction, error) {
	var in interaction
	form, err := url.ParseQuery(string(body))
	if err != nil || len(form["payload"]) != 1 {
		return in, errors.New("the body must be a form with one payload")
	}
	if err := json.Unmarshal([]byte(form.Get("payload")), &in); err != nil {
		return in, errors.New("the payload is not JSON as Slack writes it")
	}
	if in.Type != "block_actions" {
		return in, errors.New("only block_actions are taken")
	}
	return in, nil
}

// told is what Slack is to show after a press.
type told struct {
	text    string
	replace bool // in place of the message; else to the one who pressed alone
}

func (d *Decisions) decide(ctx context.Context, app *SlackApp, in interaction, value string, approve bool) told {
	id, _, _ := strings.Cut(value, " ")
	user := in.Team.ID + "/" + in.User.ID
	if in.User.TeamID != "" && in.User.TeamID != in.Team.ID { // somebody of another workspace in a shared channel
		user = in.User.TeamID + "/" + in.User.ID
	}
	who, known := app.People[user]
	log := d.Log.With("approval", id, "slack_user", user, "target", app.Target)
	if !known {
		log.WarnContext(ctx, "somebody unknown pressed a button in Slack")
		return told{text: "Nothing was decided: Callgate does not know you (" + user + "). Those who run it can add you under approvals.notify, slack.people; or use the link and log in."}
	}
	v, err := d.Show(ctx, id)
	if err == nil && value != buttonValue(v.ID, v.BodySHA256) {
		err = fmt.Errorf("%w with the request that the message showed", approvals.ErrNotFound)
	}
	if err == nil {
		reason := in.State.Values[reasonBlock][reasonInput].Value
		err = d.Decide(ctx, id, who, approve, strings.TrimSpace(reason))
	}
	if err != nil {
		log.WarnContext(ctx, "a decision in Slack was not taken", "who", who.Issuer+"|"+who.Subject, "error", err)
		return told{text: "Nothing was decided: " + why(err)}
	}
	verb := "Refused"
	if approve {
		verb = "Approved"
	}
	return told{text: fmt.Sprintf("%s by %s: %s on %s by %s (%s)", verb, who.Subject, v.Function, v.Connection, caller(v.Identity), id), replace: true}
}

// why is a refusal for the one who pressed, without what is only for the log.
func why(err error) string {
	for _, known := range []error{approvals.ErrNotFound, approvals.ErrNotApprover, approvals.ErrSelfApproval, approvals.ErrDecided,
		approvals.ErrTwice, approvals.ErrStage, approvals.ErrExpired, approvals.ErrCanceled, approvals.ErrInvalid} {
		if errors.Is(err, known) {
			return err.Error()
		}
	}
	return "approvals can't be decided now; try again, or use the link"
}

// answer changes the message, or tells the one who pressed.
func (d *Decisions) answer(ctx context.Context, to string, t told) {
	base := d.Base
	if base == "" {
		base = slackBase
	}
	if !below(to, base) {
		d.Log.WarnContext(ctx, "Slack's answer address is not Slack's; nothing is sent there")
		return
	}
	msg := slack.WebhookMessage{Text: slackText(line(t.text)), ReplaceOriginal: t.replace}
	if !t.replace {
		msg.ResponseType = slack.ResponseTypeEphemeral
	}
	payload, err := json.Marshal(msg)
	if err == nil {
		err = post(ctx, d.Client, to, http.Header{}, payload)
	}
	if err != nil {
		d.Log.WarnContext(ctx, "a message in Slack could not be changed", "error", err)
	}
}

// below tells whether a URL is on the same scheme, host and port as base, and no
// other by any reading.
func below(to, base string) bool {
	u, err := url.Parse(to)
	if err != nil || strings.ContainsAny(to, "\\\r\n\t ") {
		return false
	}
	b, err := url.Parse(base)
	return err == nil && u.User == nil && u.Opaque == "" && u.Scheme == b.Scheme && u.Host == b.Host
}
