package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/slack-go/slack"

	"github.com/callgate/callgate/approvals"
)

// Slack posts messages to a channel of Slack, through an incoming webhook.
type Slack struct {
	// URL reads the webhook's address, which is a secret: who has it can post.
	URL    func() (string, error)
	Client *http.Client
	// Buttons offers a decision in the message itself, where the whole request
	// is in it; see [Decisions].
	Buttons bool
}

// Send tells one message.
func (s *Slack) Send(ctx context.Context, m Message) error {
	to, err := address(s.URL)
	if err != nil {
		return err
	}
	payload, err := json.Marshal(s.message(m))
	if err != nil {
		return fmt.Errorf("write the message: %w", err)
	}
	return post(ctx, s.Client, to, http.Header{}, payload)
}

// address reads a URL that is kept as a secret. The error does not quote it.
func address(read func() (string, error)) (string, error) {
	text, err := read()
	if err != nil {
		return "", fmt.Errorf("read the receiver's URL: %w", err)
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return "", errors.New("the receiver's URL must be https (http is for loopback only)")
	}
	return text, nil
}

// Bounds of Slack's blocks, in characters; these are counted in bytes, which are
// never fewer.
const (
	maxSlackHeader  = 150
	maxSlackText    = 2900
	maxSlackConfirm = 300
)

// The blocks and actions that answers name.
const (
	reasonBlock   = "reason"
	reasonInput   = "reason"
	actionsBlock  = "decide"
	approveAction = "approve"
	denyAction    = "deny"
)

// plainText is a text that Slack shows as it is: no link, no mention, no emoji.
func plainText(s string) *slack.TextBlockObject {
	return slack.NewTextBlockObject(slack.PlainTextType, s, false, false)
}

func (s *Slack) message(m Message) *slack.WebhookMessage {
	no := false
	blocks := []slack.Block{slack.NewHeaderBlock(plainText(cut(m.Heading(), maxSlackHeader)))}
	var facts []slack.RichTextSectionElement
	for i, f := range m.facts() {
		if i > 0 {
			facts = append(facts, slack.NewRichTextSectionTextElement("\n", nil))
		}
		facts = append(facts, slack.NewRichTextSectionTextElement(f.name+": ", &slack.RichTextSectionTextStyle{Bold: true}),
			slack.NewRichTextSectionTextElement(cut(f.value, 1000), nil))
	}
	blocks = append(blocks, slack.NewRichTextBlock("facts", slack.NewRichTextSection(facts...)))
	whole := false
	if r := m.Request; r != nil {
		text := r.text()
		whole = !r.Cut && !r.withheld() && len(text) <= maxSlackText
		blocks = append(blocks, slack.NewRichTextBlock("request", &slack.RichTextPreformatted{
			Type: slack.RTEPreformatted, Elements: []slack.RichTextSectionElement{slack.NewRichTextSectionTextElement(cut(text, maxSlackText), nil)}}))
		if !whole {
			more := "The request is longer than fits here; the page shows all of it."
			if r.withheld() {
				more = "Not all of the request can be shown; decide on the page."
			}
			blocks = append(blocks, slack.NewContextBlock("", plainText(more)))
		}
	}
	asks := m.asks() && m.State == approvals.Open
	var elements []slack.BlockElement
	if s.Buttons && asks && whole {
		reason := slack.NewPlainTextInputBlockElement(nil, reasonInput).WithMaxLength(2000)
		blocks = append(blocks, slack.NewInputBlock(reasonBlock, plainText("Reason"), nil, reason).WithOptional(!m.reason))
		elements = append(elements, decisionButton(m, true), decisionButton(m, false))
	}
	if m.Link != "" {
		title := "Open in Callgate"
		if asks && len(elements) == 0 {
			title = "Look and decide"
		}
		b := slack.NewButtonBlockElement("open", "", plainText(title))
		b.URL = m.Link
		elements = append(elements, b)
	}
	if len(elements) > 0 {
		blocks = append(blocks, slack.NewActionBlock(actionsBlock, elements...))
	}
	return &slack.WebhookMessage{Text: slackText(m.Heading()), Blocks: &slack.Blocks{BlockSet: blocks}, UnfurlLinks: &no, UnfurlMedia: &no}
}

// text is what is to be decided about: the call's arguments, and its body, byte
// for byte but for credentials.
func (r *Request) text() string {
	parts := []string{r.Method + " " + r.Path}
	if r.Arguments != "" {
		parts = append(parts, r.Arguments)
	}
	switch {
	case r.withheld():
		parts = append(parts, fmt.Sprintf("%d bytes that are not shown: there are credentials among them.", r.Length))
	case r.Body != "" && r.SHA256 == "":
		parts = append(parts, fmt.Sprintf("%d bytes:\n%s", r.Length, r.Body))
	case r.Body != "":
		parts = append(parts, fmt.Sprintf("%d bytes, SHA-256 %s:\n%s", r.Length, r.SHA256, r.Body))
	}
	return strings.Join(parts, "\n\n")
}

func decisionButton(m Message, approve bool) *slack.ButtonBlockElement {
	action, verb, style := approveAction, "Approve", slack.StylePrimary
	if !approve {
		action, verb, style = denyAction, "Refuse", slack.StyleDanger
	}
	b := slack.NewButtonBlockElement(action, buttonValue(m.Approval, m.Request.SHA256), plainText(verb)).WithStyle(style)
	what := cut(fmt.Sprintf("%s on %s by %s, as the message shows it. The decision is yours, on record, and final.", line(m.Function), line(m.Connection), line(m.Caller)), maxSlackConfirm)
	return b.WithConfirm(slack.NewConfirmationBlockObject(plainText(verb+" this call?"), plainText(what), plainText(verb), plainText("Back")))
}

// buttonValue names what a button decides about: the hold, and the bytes that
// were shown.
func buttonValue(approval, sha string) string { return approval + " " + sha }

// slackText keeps a text in Slack's mrkdwn from being read as a mention or a link.
var slackText = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace
