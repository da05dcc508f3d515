package approvals

import "errors"

// What can stand against a decision. The service wraps them with the cause
// and what to do about it.
var (
	ErrNotFound     = errors.New("there is no such approval")
	ErrNotApprover  = errors.New("not an approver of it")
	ErrSelfApproval = errors.New("nobody decides about a call of their own")
	ErrDecided      = errors.New("already decided")
	ErrTwice        = errors.New("each person decides once")
	ErrStage        = errors.New("others are asked now")
	ErrExpired      = errors.New("expired")
	ErrCanceled     = errors.New("the caller hung up")
	ErrNoReview     = errors.New("there is nothing to review")
	ErrInvalid      = errors.New("it can't be taken as it is")
)

// ErrTooMany keeps a caller from asking for ever more.
var ErrTooMany = errors.New("too many of the caller's calls wait for approval")

// Why an approval does not pass a call.
var (
	ErrNotApproved = errors.New("not approved")
	ErrUsed        = errors.New("already used")
	ErrBinding     = errors.New("bound to another call")
)
