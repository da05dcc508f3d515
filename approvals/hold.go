package approvals

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"strings"
	"time"

	"github.com/callgate/callgate/call"
)

// State is where a hold stands.
type State string

// The states. Open and Approved go on to others; the rest are final.
const (
	Open     State = "open"     // waits for people
	Approved State = "approved" // people said yes; the call has not gone on yet
	Refused  State = "refused"  // people said no
	Used     State = "used"     // approved, and the call went on
	Expired  State = "expired"  // nobody decided in time
	Canceled State = "canceled" // the caller hung up
)

// Grace is how long after a hold's end an approval given in time can still be
// taken up: the time it may take to reach the waiting call.
const Grace = 10 * time.Second

// Hold is one call that waits for people, and what they are asked about.
type Hold struct {
	ID            string
	CallID        call.ID
	Binding       [32]byte // what an approval is bound to
	PolicyVersion string
	Rule          string // that held the call
	Message       string // the rule's
	Identity      call.Identity
	Approvers     call.Approvers
	Connection    string
	Protocol      call.Protocol
	Function      string
	ArgsJSON      json.RawMessage
	Request       Request
	AskedAt       time.Time
	Expires       time.Time
	Status
}

// Request is what will reach the function if the call is approved. Headers
// other than these are left out: they can carry credentials, and no approval
// is bound to them.
type Request struct {
	Method          string
	Authority       string
	Path            string // credential-like query values replaced
	ContentType     string
	ContentEncoding string
	Body            []byte
}

// Status is how far a hold has come.
type Status struct {
	State     State
	By        string // who decided, "issuer|subject"
	Comment   string
	DecidedAt time.Time // zero: not decided by people
	EndedAt   time.Time // when it left Open
	UsedAt    time.Time
}

// Verdict is one person's decision.
type Verdict struct {
	Approve bool
	By      string // "issuer|subject"
	Comment string
	At      time.Time
}

// idPrefix makes an approval's id recognisable wherever it turns up.
const idPrefix = "apr_"

// newID returns a fresh id: 80 random bits, so that it can't be guessed, in
// letters that can be read out.
func newID() string {
	var b [10]byte
	rand.Read(b[:]) // never fails; see crypto/rand
	return idPrefix + strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}
