package endpoint

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// MCP is a server of the Model Context Protocol over streamable HTTP. Its
// credential is «x-api-key: <key>». The tools are search_customers,
// get_customer, issue_refund and run_query.
type MCP struct {
	web
	books  *books
	served *mcp.Server
}

// NewMCP begins to listen; Run serves.
func NewMCP(c Config) (*MCP, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	b, err := openBooks()
	if err != nil {
		return nil, err
	}
	p, err := newPlace(c.Listener)
	if err != nil {
		return nil, err
	}
	s := &MCP{books: b}
	s.web.place, s.web.tls, s.web.log = p, c.TLS, c.Log
	s.web.key, s.web.alone = newKey("x-api-key", c.Credential), true
	server := s.server()
	s.served = server
	serve := func(*http.Request) *mcp.Server { return server }
	options := mcp.StreamableHTTPOptions{
		Logger: c.Log, SessionTimeout: 10 * time.Minute,
		// It guards unprotected servers from web pages; here a key is demanded,
		// and behind a gateway the host is whatever the caller asked for.
		DisableLocalhostProtection: true,
	}
	mux := http.NewServeMux()
	mux.Handle("/mcp", mcp.NewStreamableHTTPHandler(serve, &options))
	plain := options
	plain.JSONResponse = true
	mux.Handle("/mcp/json", mcp.NewStreamableHTTPHandler(serve, &plain))
	s.web.handler = mux
	return s, nil
}

// Describe makes the server offer a tool that does nothing, or describe one of
// its own anew, as a server that means ill might after it was trusted.
func (s *MCP) Describe(name, description string) {
	s.served.AddTool(&mcp.Tool{Name: name, Description: description, InputSchema: json.RawMessage(`{"type":"object"}`)},
		func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			s.ran("tools/call " + name)
			return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "did it"}}}, nil
		})
}

// Withdraw takes a tool away.
func (s *MCP) Withdraw(name string) { s.served.RemoveTools(name) }

// URL of the server, which answers in event streams.
func (s *MCP) URL() string { return s.base() + "/mcp" }

// JSONURL is that of the same server where it answers in plain JSON.
func (s *MCP) JSONURL() string { return s.base() + "/mcp/json" }

func (s *MCP) server() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "customer-tools", Version: "1.0.0"}, &mcp.ServerOptions{
		Instructions: "Look up customers, pay refunds, query the database.",
		Capabilities: &mcp.ServerCapabilities{},
	})
	// Tool calls are counted where the tool runs: a call with wrong arguments
	// gets here too, but never that far.
	server.AddReceivingMiddleware(func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, r mcp.Request) (mcp.Result, error) {
			if method != "tools/call" {
				s.ran(method)
			}
			return next(ctx, method, r)
		}
	})
	look := &mcp.ToolAnnotations{ReadOnlyHint: true}
	add(s, server, &mcp.Tool{Name: "search_customers", Annotations: look,
		Description: "Find customers by a part of their name or e-mail address."}, s.search)
	add(s, server, &mcp.Tool{Name: "get_customer", Annotations: look,
		Description: "One customer, with contact and payment details."}, s.customer)
	add(s, server, &mcp.Tool{Name: "issue_refund",
		Description: "Pay money back to a customer."}, s.refund)
	add(s, server, &mcp.Tool{Name: "run_query",
		Description: "Run SQL on the tables customers and orders."}, s.query)
	return server
}

func add[In, Out any](s *MCP, server *mcp.Server, tool *mcp.Tool, run mcp.ToolHandlerFor[In, Out]) {
	mcp.AddTool(server, tool, func(ctx context.Context, r *mcp.CallToolRequest, in In) (*mcp.CallToolResult, Out, error) {
		s.ran("tools/call " + tool.Name)
		return run(ctx, r, in)
	})
}

type searchArguments struct {
	Query string `json:"query" jsonschema:"a part of the name or e-mail address"`
}

type customerList struct {
	Customers []Customer `json:"customers"`
}

func (s *MCP) search(ctx context.Context, _ *mcp.CallToolRequest, in searchArguments) (*mcp.CallToolResult, customerList, error) {
	found, err := s.books.search(ctx, in.Query)
	return nil, customerList{found}, err
}

type customerArguments struct {
	ID string `json:"id" jsonschema:"the customer's id, such as c-1"`
}

func (s *MCP) customer(ctx context.Context, _ *mcp.CallToolRequest, in customerArguments) (*mcp.CallToolResult, Customer, error) {
	c, err := s.books.customer(ctx, in.ID)
	if err != nil {
		return nil, Customer{}, err
	}
	text := fmt.Sprintf("%s <%s>, customer %s, pays with card %s, balance %.2f.", c.Name, c.Email, c.ID, c.CardNumber, c.Balance)
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}, c, nil
}

type refundArguments struct {
	Customer string  `json:"customer" jsonschema:"the customer's id, such as c-1"`
	Amount   float64 `json:"amount" jsonschema:"how much, more than 0"`
	Currency string  `json:"currency" jsonschema:"ISO 4217 code, such as EUR"`
	Reason   string  `json:"reason" jsonschema:"why"`
}

func (s *MCP) refund(ctx context.Context, _ *mcp.CallToolRequest, in refundArguments) (*mcp.CallToolResult, Refund, error) {
	made, err := s.books.refund(ctx, Refund{Customer: in.Customer, Amount: in.Amount, Currency: in.Currency, Reason: in.Reason})
	return nil, made, err
}

type queryArguments struct {
	Query string `json:"query" jsonschema:"one SQL statement"`
}

func (s *MCP) query(ctx context.Context, _ *mcp.CallToolRequest, in queryArguments) (*mcp.CallToolResult, Rows, error) {
	rows, err := s.books.run(ctx, in.Query)
	return nil, rows, err
}
