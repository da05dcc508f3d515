package notify

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/slack-go/slack"

	"github.com/callgate/callgate/approvals"
)

// channel is a chat's receiver.
func channel(t *testing.T) (*httptest.Server, chan []byte) {
	t.Helper()
	got := make(chan []byte, 10)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("content-type") != "application/json" || !json.Valid(b) {
			http.Error(w, "invalid_payload", http.StatusBadRequest)
			return
		}
		got <- b
		_, _ = io.WriteString(w, "ok")
	}))
	t.Cleanup(s.Close)
	return s, got
}

func slackBlocks(t *testing.T, payload []byte) map[string]slack.Block {
	t.Helper()
	var msg slack.WebhookMessage
	if err := json.Unmarshal(payload, &msg); err != nil {
		t.Fatalf("%v in %s", err, payload)
	}
	out := map[string]slack.Block{}
	for _, b := range msg.Blocks.BlockSet {
		out[b.ID()+"/"+string(b.BlockType())] = b
	}
	return out
}

func TestSlack(t *testing.T) {
	s, got := channel(t)
	send := func(m Message, buttons bool) map[string]slack.Block {
		if err := (&Slack{URL: text(s.URL + "/services/x"), Client: s.Client(), Buttons: buttons}).Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		return slackBlocks(t, <-got)
	}
	actions := func(b map[string]slack.Block) (ids []string) {
		a, ok := b["decide/actions"].(*slack.ActionBlock)
		if !ok {
			return nil
		}
		for _, e := range a.Elements.ElementSet {
			ids = append(ids, e.(*slack.ButtonBlockElement).ActionID)
		}
		return ids
	}
	whole := letterMessage
	whole.Request = &Request{Method: "POST", Path: "/crm/refunds", Arguments: "{}", Body: "{}", Length: 2, SHA256: strings.Repeat("a", 64)}
	long := whole
	long.Request = &Request{Method: "POST", Path: "/crm/refunds", Arguments: strings.Repeat("x", maxSlackText)}
	without, ended, over := whole, whole, whole
	without.Request = nil
	ended.State = approvals.Refused
	over.Step = approvals.StepApproved
	for name, c := range map[string]struct {
		m       Message
		buttons bool
		want    string
	}{
		"all of the request": {whole, true, "approve deny open"},
		"no app":             {whole, false, "open"},
		"too long to show":   {long, true, "open"},
		"not shown":          {without, true, "open"},
		"ended":              {ended, true, "open"},
		"told of the end":    {over, true, "open"},
	} {
		if ids := strings.Join(actions(send(c.m, c.buttons)), " "); ids != c.want {
			t.Errorf("%s: buttons %q, want %q", name, ids, c.want)
		}
	}
	b := send(whole, true)
	if _, ok := b["reason/input"]; !ok {
		t.Errorf("no place for a reason: %v", b)
	}
	for _, wanted := range []bool{false, true} {
		m := whole
		m.reason = wanted
		if in, ok := send(m, true)["reason/input"].(*slack.InputBlock); !ok || in.Optional == wanted {
			t.Errorf("a reason that is wanted (%v): %+v", wanted, in)
		}
	}
	approve := b["decide/actions"].(*slack.ActionBlock).Elements.ElementSet[0].(*slack.ButtonBlockElement)
	if approve.Value != "apr_1 "+whole.Request.SHA256 || approve.Confirm == nil || !strings.Contains(approve.Confirm.Text.Text, "refunds.create on crm by alice") {
		t.Errorf("button %+v", approve)
	}
	for _, bad := range []string{"http://hooks.slack.com/x", "", "hooks.slack.com", "file:///etc/passwd"} {
		if err := (&Slack{URL: text(bad), Client: s.Client()}).Send(t.Context(), whole); err == nil || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// What a caller wrote is shown as text: no mention, link or markup comes of it,
// and no bound of Slack's is passed.
func TestChatInjection(t *testing.T) {
	for _, evil := range []string{"<!channel> look", "<https://evil.example|approve here>", "@here", "[approve](https://evil.example)", "https://evil.example", "*x* _y_ `z` ```", "{{DATE(2017-02-14T06:08:00Z)}}",
		"\\", "&lt;!channel&gt;", strings.Repeat("ä", 5000)} {
		m := letterMessage
		m.Function, m.Connection, m.Caller, m.Text, m.Rule, m.Comment, m.Asked = evil, evil, evil, evil, evil, evil, []string{evil}
		m.Request = &Request{Method: "POST", Path: evil, Arguments: evil, Body: evil, SHA256: strings.Repeat("a", 64)}
		m.Request.bound()
		msg := (&Slack{Buttons: true}).message(m)
		payload, err := json.Marshal(msg)
		if err != nil || len(payload) > maxPayload {
			t.Errorf("%.20q: %d bytes, %v", evil, len(payload), err)
		}
		if strings.Contains(msg.Text, "<!") || strings.Contains(msg.Text, "<http") {
			t.Errorf("%.20q: text %s", evil, msg.Text)
		}
		for _, b := range msg.Blocks.BlockSet {
			raw, err := json.Marshal(b)
			if err != nil || strings.Contains(string(raw), `"mrkdwn"`) {
				t.Errorf("%.20q: block %s %v", evil, raw, err)
			}
			if h, ok := b.(*slack.HeaderBlock); ok && len(h.Text.Text) > maxSlackHeader {
				t.Errorf("%.20q: a header of %d", evil, len(h.Text.Text))
			}
		}
		// Markdown of cards is [text](url), and a bare URL becomes a link.
		card, err := json.Marshal(teamsMessage(m))
		if err != nil || len(card) > 28<<10 && len(evil) < 1000 {
			t.Errorf("%.20q: a card of %d bytes, %v", evil, len(card), err)
		}
		for _, link := range []string{"](https", "https://evil", "{{DATE"} {
			if strings.Contains(string(card), link) {
				t.Errorf("%.20q: %q in the card", evil, link)
			}
		}
	}
}

func TestTeams(t *testing.T) {
	s, got := channel(t)
	alert := letterMessage
	alert.Step, alert.Comment, alert.State = approvals.StepBrokeGlass, "the database is on fire", approvals.BrokeGlass
	for _, m := range []Message{letterMessage, alert} {
		if err := (&Teams{URL: text(s.URL + "/workflow?sig=x"), Client: s.Client()}).Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		var msg struct {
			Type        string
			Attachments []struct {
				ContentType string
				Content     card
			}
		}
		if err := json.Unmarshal(<-got, &msg); err != nil || msg.Type != "message" || len(msg.Attachments) != 1 || msg.Attachments[0].ContentType != "application/vnd.microsoft.card.adaptive" {
			t.Fatalf("%+v, %v", msg, err)
		}
		c := msg.Attachments[0].Content
		if c.Type != "AdaptiveCard" || c.Version != "1.4" || len(c.Actions) != 1 || c.Actions[0].URL != m.Link || c.Body[0].Type != "TextBlock" || c.Body[1].Type != "FactSet" ||
			(c.Body[0].Color == "Attention") != (m.Step == approvals.StepBrokeGlass) {
			t.Errorf("card %+v", c)
		}
	}
}
