package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/callgate/callgate/approvals"
)

// Teams posts messages to a channel of Microsoft Teams, through the URL of a
// workflow that posts Adaptive Cards.
type Teams struct {
	// URL reads the workflow's address, which is a secret: who has it can post.
	URL    func() (string, error)
	Client *http.Client
}

// Send tells one message.
func (t *Teams) Send(ctx context.Context, m Message) error {
	to, err := address(t.URL)
	if err != nil {
		return err
	}
	payload, err := json.Marshal(teamsMessage(m))
	if err != nil {
		return fmt.Errorf("write the card: %w", err)
	}
	return post(ctx, t.Client, to, http.Header{}, payload)
}

// card is what is used of Adaptive Cards 1.4.
type card struct {
	Schema  string         `json:"$schema"`
	Type    string         `json:"type"`
	Version string         `json:"version"`
	MSTeams map[string]any `json:"msteams"`
	Body    []cardElement  `json:"body"`
	Actions []cardAction   `json:"actions,omitempty"`
}

type cardElement struct {
	Type     string     `json:"type"`
	Text     string     `json:"text,omitempty"`
	Size     string     `json:"size,omitempty"`
	Weight   string     `json:"weight,omitempty"`
	Color    string     `json:"color,omitempty"`
	FontType string     `json:"fontType,omitempty"`
	Wrap     bool       `json:"wrap,omitempty"`
	Facts    []cardFact `json:"facts,omitempty"`
}

type cardFact struct {
	Title string `json:"title"`
	Value string `json:"value"`
}

type cardAction struct {
	Type  string `json:"type"`
	Title string `json:"title"`
	URL   string `json:"url"`
}

// A Teams message holds 28 KiB at most.
const maxTeamsText = 8 << 10

func teamsMessage(m Message) any {
	heading := cardElement{Type: "TextBlock", Text: cardText(m.Heading()), Size: "Medium", Weight: "Bolder", Wrap: true}
	if m.Step == approvals.StepBrokeGlass {
		heading.Color = "Attention"
	}
	set := cardElement{Type: "FactSet"}
	for _, f := range m.facts() {
		set.Facts = append(set.Facts, cardFact{f.name, cardText(cut(f.value, 2000))})
	}
	c := card{Schema: "http://adaptivecards.io/schemas/adaptive-card.json", Type: "AdaptiveCard", Version: "1.4",
		MSTeams: map[string]any{"width": "Full"}, Body: []cardElement{heading, set}}
	if r := m.Request; r != nil {
		text := r.Arguments
		if text == "" {
			text = r.Body
		}
		c.Body = append(c.Body, cardElement{Type: "TextBlock", Text: cardText(r.Method + " " + cut(r.Path, 1000)), FontType: "Monospace", Wrap: true})
		if text != "" {
			c.Body = append(c.Body, cardElement{Type: "TextBlock", Text: cardText(cut(text, maxTeamsText)), FontType: "Monospace", Wrap: true})
		}
	}
	if m.Link != "" {
		title := "Open in Callgate"
		if m.asks() {
			title = "Look and decide"
		}
		c.Actions = []cardAction{{Type: "Action.OpenUrl", Title: title, URL: m.Link}}
	}
	return map[string]any{"type": "message", "attachments": []any{
		map[string]any{"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": nil, "content": c}}}
}

// cardText keeps a text from being read as Markdown or as a date function, which
// Adaptive Cards do in texts: what a caller wrote must not become a link.
var cardText = strings.NewReplacer(`\`, `\\`, "[", `\[`, "]", `\]`, "(", `\(`, ")", `\)`, "*", `\*`, "_", `\_`, "`", "\\`", "#", `\#`,
	"<", "&lt;", ">", "&gt;", "&", "&amp;", "{{", "{\u200b{", "://", ":\u200b//", "\n", "\n\n").Replace
