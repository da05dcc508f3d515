package console

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/callgate/callgate/call"
	"github.com/callgate/callgate/config"
	"github.com/callgate/callgate/xds/policyv1"
)

// longestGrant bounds a grant that comes with an approval.
const longestGrant = 30 * 24 * time.Hour

// granting is the grant that is to come with an approval; nil: none. It is for
// those who may give grants, and just for what the held call asked: the same
// caller with the same agents, connection and function. It settles the rule that
// held the call, and no other.
func (s *Server) granting(ctx context.Context, id string, who call.Identity, approve bool, d decision) (*policyv1.Grant, int, error) {
	if d.Grant == "" {
		return nil, 0, nil
	}
	period, err := config.ParsePeriod(d.Grant)
	switch {
	case !approve:
		return nil, http.StatusBadRequest, errors.New("a refusal can't give a grant")
	case err != nil || period <= 0 || time.Duration(period) > longestGrant:
		return nil, http.StatusBadRequest, errors.New("grant must be a period up to 30d, such as 1h")
	case s.cfg.Control == nil:
		return nil, http.StatusNotFound, errNoControl
	case len(who.Actors) > 0 || !s.cfg.Controllers.Include(who):
		return nil, http.StatusForbidden, ErrNotController
	}
	v, err := s.cfg.Approvals.Show(ctx, id)
	if err != nil {
		return nil, http.StatusNotFound, errors.New("there is no such held call")
	}
	g := &policyv1.Grant{Identities: []string{v.Identity.Issuer + "|" + v.Identity.Subject}, Connections: []string{literal(v.Connection)}, Functions: []string{literal(v.Function)},
		Until: timestamppb.New(time.Now().Add(time.Duration(period)))}
	g.Settles = []string{v.Rule}
	for _, a := range v.Identity.Actors {
		g.Actors = append(g.Actors, a.Issuer+"|"+a.Subject)
	}
	return g, 0, nil
}

// literal is a glob that matches exactly s.
func literal(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`, "{", `\{`, "}", `\}`).Replace(s)
}
