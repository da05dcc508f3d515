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

// elicit returns the page of the approval that an MCP call waits for, if the
// client can show one. Only a request that says so itself is believed
// (revision 2026-07-28): what a client said when its session began reached the
// server, and the replica that decides need not have seen it.
func elicit(p call.Protocol, req *call.Request, message string, d call.Decision) (elicitation, bool) {
	if p != call.MCP || req == nil || d.Reason != call.ReasonApprovalPending || d.Approval == nil || d.Approval.Again.PageURL == "" {
		return elicitation{}, false
	}
	var m struct {
		Params struct {
			Meta struct {
				Capabilities struct {
					Elicitation struct {
						URL *struct{} `json:"url"`
					} `json:"elicitation"`
				} `json:"io.modelcontextprotocol/clientCapabilities"`
			} `json:"_meta"`
		} `json:"params"`
	}
	if json.Unmarshal(req.Body, &m) != nil || m.Params.Meta.Capabilities.Elicitation.URL == nil {
		return elicitation{}, false
	}
	return elicitation{Mode: "url", ID: d.Approval.ID, URL: d.Approval.Again.PageURL, Message: message}, true
}
