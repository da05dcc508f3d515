// Package backtest replays recorded calls through a policy that is not in
// force, and tells which of them it would decide differently.
//
// It never guesses. A row of the audit trail does not hold all that a rule can
// look at: claims are not recorded, credentials in arguments are replaced by
// hashes, content is erased or past its retention. Where the decision depends
// on such a part, the call counts as one that can't be judged, and the report
// says for want of what.
package backtest
