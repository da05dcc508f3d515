package approvals

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/callgate/callgate/call"
)

// State is where a hold stands.
type State string

// The states. Open and Approved go on to others; the rest are final.
const (
	Open       State = "open"        // waits for people
	Approved   State = "approved"    // people said yes; the call has not gone on yet
	Refused    State = "refused"     // people said no
	Used       State = "used"        // approved, and the call went on
	Expired    State = "expired"     // nobody decided in time, or the approval was not taken up in time
	Canceled   State = "canceled"    // the caller hung up
	BrokeGlass State = "broke_glass" // the call went on without an approval
)

// States are all of them.
var States = []State{Open, Approved, Refused, Used, Expired, Canceled, BrokeGlass}

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
	Terms         call.Hold // who is asked, and how
	Connection    string
	Protocol      call.Protocol
	Function      string
	ArgsJSON      json.RawMessage
	Request       Request
	BreakGlass    string // the caller's reason, for BrokeGlass
	// Owner is the replica whose caller waits with its request open; empty
	// where the caller comes again. See [Replicas].
	Owner string
	// Targets are told of each step; see [Outbox].
	Targets []string
	// Most is how many open holds its caller may have with it; 0: any. It is
	// looked at when the hold is asked for, and not kept.
	Most    int
	AskedAt time.Time
	Expires time.Time // until then people can decide
	Status
}

// Request is what will reach the function if the call is approved. Headers
// other than these are left out: they can carry credentials, and no approval
// is bound to them.
type Request struct {
	Method          string
	Authority       string // as is Path, with credentials replaced as the audit trail does
	Path            string
	ContentType     string
	ContentEncoding string
	Body            []byte
}

// Status is how far a hold has come.
type Status struct {
	State    State
	Stage    int       // that is asked, from 0; the number of stages when all said yes
	Verdicts []Verdict // in the order they were given
	Marks    []Mark    // in the order they were made
	Steps    int       // taken so far
	Attempts int       // how often the caller came with the call
	EndedAt  time.Time // when it left Open
	UseBy    time.Time // until then an approval can be taken up
	UsedAt   time.Time
	UsedFor  call.ID // the call that took it up, or broke glass
	Review   Review  // of BrokeGlass
}

// Person is somebody who decides. Written as a text it is "issuer|subject".
type Person struct {
	Issuer  string `json:"issuer,omitempty"`
	Subject string `json:"subject,omitempty"`
}

func (p Person) String() string {
	if p == (Person{}) {
		return ""
	}
	return p.Issuer + "|" + p.Subject
}

// PersonOf names an identity, without those who act for it.
func PersonOf(i call.Identity) Person { return Person{i.Issuer, i.Subject} }

// Verdict is one person's decision.
type Verdict struct {
	Approve bool   `json:"approve"`
	By      Person `json:"by"`
	// For is who is an approver, where By decides as a delegate.
	For     Person    `json:"for,omitzero"`
	Emails  []string  `json:"emails,omitempty"` // of both, as far as verified
	Stage   int       `json:"stage"`            // that was asked, from 0
	Comment string    `json:"comment,omitempty"`
	At      time.Time `json:"at"`
	Grant   Grant     `json:"grant,omitzero"`
}

// names are all that those behind a verdict are known by.
func (v Verdict) names() []string { return append([]string{v.By.Subject, v.For.Subject}, v.Emails...) }

// Grant is what an approver lets the caller go on doing: the same function, for
// a while.
type Grant struct {
	For    time.Duration `json:"for,omitempty"`
	Bounds string        `json:"bounds,omitempty"` // CEL, beside the function and the caller
	// Alone tells that who gives it may give grants anyway. Of others each who
	// approves must give it.
	Alone bool `json:"alone,omitempty"`
}

// Grants are those that an approved hold comes with, with who gives each. Of
// approvers who could not give one alone, each must: the shortest time counts,
// and all bounds.
func (h *Hold) Grants() (list []Grant, by []string) {
	if h.State != Approved && h.State != Used {
		return nil, nil
	}
	var shared Grant
	var givers []string
	all := true
	for _, v := range h.Verdicts {
		switch g := v.Grant; {
		case g.Alone && g.For > 0:
			list, by = append(list, g), append(by, v.By.String())
		case g.For <= 0:
			all = false
		default:
			if shared.For == 0 || g.For < shared.For {
				shared.For = g.For
			}
			if g.Bounds != "" && shared.Bounds != "" {
				// Each was compiled by itself, so a comment at its end is all
				// that could take the bracket in; a new line ends that.
				shared.Bounds = "(" + shared.Bounds + "\n) && (" + g.Bounds + "\n)"
			} else {
				shared.Bounds += g.Bounds
			}
			givers = append(givers, v.By.String())
		}
	}
	if all && shared.For > 0 {
		list, by = append(list, shared), append(by, strings.Join(givers, ", "))
	}
	return list, by
}

// Mark notes that people were told of a hold, or looked at it, or that a grant
// came with it.
type Mark struct {
	Name  StepName  `json:"name"` // StepNotified, StepSeen or StepGranted
	By    string    `json:"by"`   // the target, or "issuer|subject"
	At    time.Time `json:"at"`
	Grant string    `json:"grant,omitempty"` // the id, of StepGranted
	Until time.Time `json:"until,omitzero"`  // when that ends
}

// Review is what somebody says afterwards of a call that broke glass.
type Review struct {
	By        Person    `json:"by"`
	Justified bool      `json:"justified"`
	Comment   string    `json:"comment"`
	At        time.Time `json:"at"`
}

// Deciders are those who have decided, each as "issuer|subject", in order.
func (s Status) Deciders() []string {
	var out []string
	for _, v := range s.Verdicts {
		out = append(out, v.By.String())
	}
	return out
}

// Last is the newest verdict.
func (s Status) Last() (Verdict, bool) {
	if len(s.Verdicts) == 0 {
		return Verdict{}, false
	}
	return s.Verdicts[len(s.Verdicts)-1], true
}

// Granted reports whether it stands already that a grant was given.
func (s Status) Granted(grant string) bool {
	return slices.ContainsFunc(s.Marks, func(m Mark) bool { return m.Name == StepGranted && m.Grant == grant })
}

// Marked reports whether a mark stands already.
func (s Status) Marked(name StepName, by string) bool {
	return slices.ContainsFunc(s.Marks, func(m Mark) bool { return m.Name == name && m.By == by })
}

// Unreviewed reports whether somebody must still look at the hold.
func (s Status) Unreviewed() bool { return s.State == BrokeGlass && s.Review.At.IsZero() }

// idPrefix makes an approval's id recognisable wherever it turns up.
const idPrefix = "apr_"

// newID returns a fresh id: 80 random bits, so that it can't be guessed, in
// letters that can be read out.
func newID(prefix string) string {
	var b [10]byte
	rand.Read(b[:]) // never fails; see crypto/rand
	return prefix + strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}
