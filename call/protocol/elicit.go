package protocol

import (
	"encoding/json"

	"github.com/callgate/callgate/call"
)

// elicitation asks an MCP client to show its person a page (elicitation in URL
// mode, revision 2025-11-25).
type elicitation struct {
	Mode    string `json:"mode"`
	ID      string `json:"elicitationId"`
	URL     string `json:"url"`
	Message string `json:"message"`
}

// capabilities are what a client says that it can do.
type capabilities struct {
	Elicitation struct {
		URL *struct{} `json:"url"`
	} `json:"elicitation"`
}

// Elicits tells whether an MCP request begins a session whose client says that it
// can show its person a page (revision 2025-11-25).
func Elicits(req *call.Request, function string) bool {
	if function != "initialize" {
		return false
	}
	var m struct {
		Params struct {
			Capabilities capabilities `json:"capabilities"`
		} `json:"params"`
	}
	return json.Unmarshal(req.Body, &m) == nil && m.Params.Capabilities.Elicitation.URL != nil
}

// elicit returns the page of the approval that an MCP call waits for, if the
// client can show one: it said so when its session began, where the replica that
// decides has seen that, or it says so in each request (revision 2026-07-28).
func elicit(p call.Protocol, req *call.Request, message string, d call.Decision) (elicitation, bool) {
	if p != call.MCP || req == nil || d.Reason != call.ReasonApprovalPending || d.Approval == nil || d.Approval.Again.PageURL == "" {
		return elicitation{}, false
	}
	var m struct {
		Params struct {
			Meta struct {
				Capabilities capabilities `json:"io.modelcontextprotocol/clientCapabilities"`
			} `json:"_meta"`
		} `json:"params"`
	}
	if !d.Approval.Again.Elicits && (json.Unmarshal(req.Body, &m) != nil || m.Params.Meta.Capabilities.Elicitation.URL == nil) {
		return elicitation{}, false
	}
	return elicitation{Mode: "url", ID: d.Approval.ID, URL: d.Approval.Again.PageURL, Message: message}, true
}
