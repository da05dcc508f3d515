package console

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/control"
	"github.com/callgate/callgate/xds"
	"github.com/callgate/callgate/xds/policyv1"
)

// Control is the control plane; it is a *[control.Plane].
type Control interface {
	Push(context.Context, control.Push) (control.Outcome, error)
	Rollback(ctx context.Context, version, author, message string) (control.Outcome, error)
	Promote(ctx context.Context, author, message string) (control.Outcome, error)
	Abort(ctx context.Context, author, message string) (control.Outcome, error)
	Now() control.Rollout
	History(ctx context.Context, limit int) ([]control.Rollout, error)
	Stored(ctx context.Context, version string) (*policyv1.Policy, error)
	Grant(ctx context.Context, g *policyv1.Grant, author, reason string) (control.Grant, error)
	CheckGrant(g *policyv1.Grant) error
	TakeBack(ctx context.Context, id, author, reason string) error
	Grants(ctx context.Context, all bool) ([]control.Grant, error)
	Revoke(ctx context.Context, r *policyv1.Revocation, author, reason string, expires time.Time) (control.Revocation, error)
	Lift(ctx context.Context, id, author, reason string) error
	Revocations(ctx context.Context, all bool) ([]control.Revocation, error)
	Tools(ctx context.Context, connection string) ([]control.Tool, error)
	AcceptTools(ctx context.Context, connection string, list []control.Acceptance, author, reason string) error
	ForgetTools(ctx context.Context, connection string, names []string, author, reason string) error
}

// Push asks for a policy to decide.
type Push struct {
	Files      []config.File      `json:"files"`
	References []config.Reference `json:"references,omitempty"`
	Message    string             `json:"message,omitempty"`
	Percent    int                `json:"percent,omitempty"` // of callers, for a canary
	Nodes      string             `json:"nodes,omitempty"`   // Envoys, for a canary
}

// Change asks for another rollout.
type Change struct {
	Version string `json:"version,omitempty"`
	Message string `json:"message,omitempty"`
}

// Rollout is what decides, or did, and who made it so.
type Rollout struct {
	At        time.Time `json:"at"`
	Action    string    `json:"action"`
	Version   string    `json:"version"`
	Canary    string    `json:"canary,omitempty"`
	Percent   int       `json:"percent,omitempty"`
	Nodes     string    `json:"nodes,omitempty"`
	Author    string    `json:"author"`
	Message   string    `json:"message,omitempty"`
	Unchanged bool      `json:"unchanged,omitempty"` // it decided already
	// Behind are nodes that had not answered when the wait was over.
	Behind []string `json:"behind,omitempty"`
}

// Grant lets somebody call something beyond the policy.
type Grant struct {
	ID          string    `json:"id,omitempty"`
	Identities  []string  `json:"identities,omitempty"`
	Groups      []string  `json:"groups,omitempty"`
	Actors      []string  `json:"actors,omitempty"`
	Connections []string  `json:"connections"`
	Functions   []string  `json:"functions"`
	When        string    `json:"when,omitempty"`
	Until       time.Time `json:"until,omitzero"`
	Reason      string    `json:"reason,omitempty"`
	Author      string    `json:"author,omitempty"`
	Created     time.Time `json:"created,omitzero"`
	Revoked     time.Time `json:"revoked,omitzero"`
	Behind      []string  `json:"behind,omitempty"`
}

// Revocation ends the validity of tokens.
type Revocation struct {
	ID           string    `json:"id,omitempty"`
	Issuer       string    `json:"issuer,omitempty"`
	Subject      string    `json:"subject,omitempty"`
	TokenID      string    `json:"token_id,omitempty"`
	IssuedBefore time.Time `json:"issued_before,omitzero"`
	Expires      time.Time `json:"expires,omitzero"`
	Reason       string    `json:"reason,omitempty"`
	Author       string    `json:"author,omitempty"`
	Created      time.Time `json:"created,omitzero"`
	Lifted       time.Time `json:"lifted,omitzero"`
	Behind       []string  `json:"behind,omitempty"`
}

// Ended tells that a grant or a revocation was taken back.
type Ended struct {
	ID     string   `json:"id"`
	Behind []string `json:"behind,omitempty"`
}

// ErrNotController says that somebody may not change what decides.
var ErrNotController = errors.New("only those in control.administrators may do this, themselves and not through an agent; add a group or a person of theirs there")

// errNoControl is what a process without the control plane answers.
var errNoControl = errors.New("this process is not the control plane (role xds); ask the one that is")

// maxPush bounds the body of a push, in bytes.
const maxPush = 192 << 20

func (s *Server) control(mux *routes) {
	mux.HandleFunc("POST /api/v1/policy", s.controller(s.push))
	mux.HandleFunc("POST /api/v1/policy/rollback", s.controller(s.change(func(ctx context.Context, c Change, by string) (control.Outcome, error) {
		return s.cfg.Control.Rollback(ctx, c.Version, by, c.Message)
	})))
	mux.HandleFunc("POST /api/v1/policy/promote", s.controller(s.change(func(ctx context.Context, c Change, by string) (control.Outcome, error) {
		return s.cfg.Control.Promote(ctx, by, c.Message)
	})))
	mux.HandleFunc("POST /api/v1/policy/abort", s.controller(s.change(func(ctx context.Context, c Change, by string) (control.Outcome, error) {
		return s.cfg.Control.Abort(ctx, by, c.Message)
	})))
	mux.HandleFunc("GET /api/v1/policy/history", s.controller(s.history))
	mux.HandleFunc("GET /api/v1/policy/versions/{version}", s.controller(s.stored))
	mux.HandleFunc("GET /api/v1/tools", s.controller(s.toolsOf))
	mux.HandleFunc("POST /api/v1/tools/{connection}/accept", s.controller(s.acceptTools))
	mux.HandleFunc("POST /api/v1/tools/{connection}/forget", s.controller(s.forgetTools))
	mux.HandleFunc("GET /api/v1/grants", s.controller(s.grants))
	mux.HandleFunc("POST /api/v1/grants", s.controller(s.grant))
	mux.HandleFunc("DELETE /api/v1/grants/{id}", s.controller(s.takeBack))
	mux.HandleFunc("GET /api/v1/revocations", s.controller(s.revocations))
	mux.HandleFunc("POST /api/v1/revocations", s.controller(s.revoke))
	mux.HandleFunc("DELETE /api/v1/revocations/{id}", s.controller(s.lift))
}

// controller lets only administrators of the control plane through.
func (s *Server) controller(h func(w http.ResponseWriter, r *http.Request, by string)) http.HandlerFunc {
	return s.as(func(w http.ResponseWriter, r *http.Request, who call.Identity) {
		switch {
		case len(who.Actors) > 0 || !s.cfg.Controllers.Include(who):
			refuse(w, http.StatusForbidden, ErrNotController.Error())
		case s.cfg.Control == nil:
			refuse(w, http.StatusNotFound, errNoControl.Error())
		default:
			h(w, r, who.Issuer+"|"+who.Subject)
		}
	})
}

// read decodes a JSON body strictly; it answers by itself where it can't.
func read(w http.ResponseWriter, r *http.Request, most int64, into any, want string) bool {
	// A form post of a foreign page can't be of this type without the browser
	// asking first.
	if ct := r.Header.Get("content-type"); ct != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "send application/json")
		return false
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, most))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		refuse(w, http.StatusBadRequest, "the body must be JSON with "+want)
		return false
	}
	return true
}

func (s *Server) push(w http.ResponseWriter, r *http.Request, by string) {
	var in Push
	if !read(w, r, maxPush, &in, "files, and with references, message, percent or nodes") {
		return
	}
	out, err := s.cfg.Control.Push(r.Context(), control.Push{Bundle: config.Bundle{Files: in.Files, References: in.References},
		Author: by, Message: in.Message, Canary: control.Canary{Percent: in.Percent, Nodes: in.Nodes}})
	s.rolled(w, r, out, err)
}

func (s *Server) change(do func(context.Context, Change, string) (control.Outcome, error)) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, r *http.Request, by string) {
		var in Change
		if read(w, r, maxComment, &in, "version or message, or {}") {
			out, err := do(r.Context(), in, by)
			s.rolled(w, r, out, err)
		}
	}
}

func (s *Server) rolled(w http.ResponseWriter, r *http.Request, out control.Outcome, err error) {
	if err != nil {
		s.uncontrolled(w, r, err)
		return
	}
	told := RolloutOf(out.Rollout)
	told.Unchanged, told.Behind = out.Unchanged, out.Behind
	answer(w, told)
}

// RolloutOf shows a rollout.
func RolloutOf(r control.Rollout) Rollout {
	return Rollout{At: r.At, Action: r.Action, Version: r.Stable, Canary: r.Canary, Percent: r.Percent, Nodes: r.Nodes, Author: r.Author, Message: r.Message}
}

// uncontrolled turns an error of the control plane into an answer.
func (s *Server) uncontrolled(w http.ResponseWriter, r *http.Request, err error) {
	var invalid *control.Invalid
	var refusal *xds.Refusal
	switch {
	case errors.As(err, &invalid), errors.Is(err, control.ErrInvalid):
		refuse(w, http.StatusUnprocessableEntity, err.Error())
	case errors.As(err, &refusal):
		refuse(w, http.StatusConflict, err.Error()+"; everything stays as it was")
	case errors.Is(err, control.ErrUnknownVersion), errors.Is(err, control.ErrUnknownGrant), errors.Is(err, control.ErrUnknownRevocation), errors.Is(err, control.ErrUnknownTool):
		refuse(w, http.StatusNotFound, err.Error())
	default:
		s.cfg.Log.ErrorContext(r.Context(), "the control plane could not do what was asked", "path", r.URL.Path, "error", err)
		refuse(w, http.StatusServiceUnavailable, "the control plane can't do this now; the log of the service says why")
	}
}

func (s *Server) history(w http.ResponseWriter, r *http.Request, _ string) {
	limit := listMost
	if n, err := strconv.Atoi(r.URL.Query().Get("limit")); err == nil && n > 0 {
		limit = min(n, listMost)
	}
	list, err := s.cfg.Control.History(r.Context(), limit)
	if err != nil {
		s.uncontrolled(w, r, err)
		return
	}
	out := make([]Rollout, len(list))
	for i, one := range list {
		out[i] = RolloutOf(one)
	}
	answer(w, out)
}

func (s *Server) stored(w http.ResponseWriter, r *http.Request, _ string) {
	p, err := s.cfg.Control.Stored(r.Context(), r.PathValue("version"))
	if err != nil {
		s.uncontrolled(w, r, err)
		return
	}
	b := xds.Bundle(p)
	answer(w, Push{Files: b.Files, References: b.References, Message: p.GetMessage()})
}

// behind takes nodes that are late out of an error that is only that.
func behind(err error) ([]string, error) {
	var late *xds.Behind
	if errors.As(err, &late) {
		return late.Nodes, nil
	}
	return nil, err
}

func (s *Server) grant(w http.ResponseWriter, r *http.Request, by string) {
	var in Grant
	if !read(w, r, maxPush, &in, "identities or groups, connections, functions, and with actors, when, until or reason") {
		return
	}
	g := &policyv1.Grant{Identities: in.Identities, Groups: in.Groups, Actors: in.Actors, Connections: in.Connections, Functions: in.Functions, When: in.When}
	if !in.Until.IsZero() {
		g.Until = timestamppb.New(in.Until)
	}
	given, err := s.cfg.Control.Grant(r.Context(), g, by, in.Reason)
	late, err := behind(err)
	if err != nil {
		s.uncontrolled(w, r, err)
		return
	}
	out := grantOf(given)
	out.Behind = late
	answer(w, out)
}

func grantOf(g control.Grant) Grant {
	out := Grant{ID: g.GetId(), Identities: g.GetIdentities(), Groups: g.GetGroups(), Actors: g.GetActors(), Connections: g.GetConnections(),
		Functions: g.GetFunctions(), When: g.GetWhen(), Reason: g.Reason, Author: g.Author, Created: g.Created, Revoked: g.Revoked}
	if g.GetUntil() != nil {
		out.Until = g.GetUntil().AsTime()
	}
	return out
}

func (s *Server) grants(w http.ResponseWriter, r *http.Request, _ string) {
	list, err := s.cfg.Control.Grants(r.Context(), r.URL.Query().Get("all") == "true")
	if err != nil {
		s.uncontrolled(w, r, err)
		return
	}
	out := make([]Grant, len(list))
	for i, g := range list {
		out[i] = grantOf(g)
	}
	answer(w, out)
}

// ended answers that something was taken back.
func (s *Server) ended(w http.ResponseWriter, r *http.Request, err error) {
	late, err := behind(err)
	if err != nil {
		s.uncontrolled(w, r, err)
		return
	}
	answer(w, Ended{ID: r.PathValue("id"), Behind: late})
}

func (s *Server) takeBack(w http.ResponseWriter, r *http.Request, by string) {
	s.ended(w, r, s.cfg.Control.TakeBack(r.Context(), r.PathValue("id"), by, strings.TrimSpace(r.URL.Query().Get("reason"))))
}

func (s *Server) revoke(w http.ResponseWriter, r *http.Request, by string) {
	var in Revocation
	if !read(w, r, maxComment, &in, "token_id, subject, issuer or issued_before, and with expires or reason") {
		return
	}
	rev := &policyv1.Revocation{Issuer: in.Issuer, Subject: in.Subject, TokenId: in.TokenID}
	if !in.IssuedBefore.IsZero() {
		rev.IssuedBefore = timestamppb.New(in.IssuedBefore)
	}
	made, err := s.cfg.Control.Revoke(r.Context(), rev, by, in.Reason, in.Expires)
	late, err := behind(err)
	if err != nil {
		s.uncontrolled(w, r, err)
		return
	}
	out := revocationOf(made)
	out.Behind = late
	answer(w, out)
}

func revocationOf(r control.Revocation) Revocation {
	out := Revocation{ID: r.GetId(), Issuer: r.GetIssuer(), Subject: r.GetSubject(), TokenID: r.GetTokenId(), Expires: r.Expires,
		Reason: r.Reason, Author: r.Author, Created: r.Created, Lifted: r.Lifted}
	if r.GetIssuedBefore() != nil {
		out.IssuedBefore = r.GetIssuedBefore().AsTime()
	}
	return out
}

func (s *Server) revocations(w http.ResponseWriter, r *http.Request, _ string) {
	list, err := s.cfg.Control.Revocations(r.Context(), r.URL.Query().Get("all") == "true")
	if err != nil {
		s.uncontrolled(w, r, err)
		return
	}
	out := make([]Revocation, len(list))
	for i, one := range list {
		out[i] = revocationOf(one)
	}
	answer(w, out)
}

func (s *Server) lift(w http.ResponseWriter, r *http.Request, by string) {
	s.ended(w, r, s.cfg.Control.Lift(r.Context(), r.PathValue("id"), by, strings.TrimSpace(r.URL.Query().Get("reason"))))
}
