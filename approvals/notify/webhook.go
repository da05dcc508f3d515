package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Webhook sends messages as JSON, signed in the Standard Webhooks form
// (https://www.standardwebhooks.com): webhook-id, webhook-timestamp and
// webhook-signature, which holds a signature by each secret.
type Webhook struct {
	URL string
	// Secrets read the present signing secrets. While one is replaced there are
	// two, and receivers take either.
	Secrets []func() (string, error)
	Client  *http.Client
}

// event is a webhook's payload.
type event struct {
	Type string    `json:"type"` // approval.asked, approval.decided, …
	Time time.Time `json:"timestamp"`
	Data Message   `json:"data"`
}

// Send tells one message.
func (h *Webhook) Send(ctx context.Context, m Message) error {
	payload, err := json.Marshal(event{Type: "approval." + string(m.Step), Time: m.At.UTC(), Data: m})
	if err != nil {
		return fmt.Errorf("write the payload: %w", err)
	}
	header, err := h.sign(m.ID, time.Now(), payload)
	if err != nil {
		return err
	}
	return post(ctx, h.Client, h.URL, header, payload)
}

func (h *Webhook) sign(id string, at time.Time, payload []byte) (http.Header, error) {
	stamp := strconv.FormatInt(at.Unix(), 10)
	var signatures []string
	for _, read := range h.Secrets {
		text, err := read()
		if err != nil {
			return nil, fmt.Errorf("read the webhook's secret: %w", err)
		}
		key, err := WebhookKey(text)
		if err != nil {
			return nil, err
		}
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.", id, stamp)
		mac.Write(payload)
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	if len(signatures) == 0 {
		return nil, errors.New("the webhook has no secret")
	}
	return http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {stamp}, "Webhook-Signature": {strings.Join(signatures, " ")}}, nil
}

// WebhookKey reads a signing secret as the standard writes it, whsec_ and base64
// of 24 to 64 bytes. The error does not quote it.
func WebhookKey(text string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, "whsec_"))
	if err != nil || len(key) < 24 || len(key) > 64 {
		return nil, errors.New("a webhook's secret is whsec_ and base64 of 24 to 64 bytes: echo whsec_$(openssl rand -base64 32)")
	}
	return key, nil
}
