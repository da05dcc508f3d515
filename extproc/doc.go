// Package extproc reads what functions return before their callers do: it
// hides what the decision says must be hidden and records what the caller gets.
//
// It implements Envoy's external processor (ext_proc v3) for responses, in
// FULL_DUPLEX_STREAMED mode: Envoy hands over every chunk and sends on only what
// comes back. That is what makes one rule possible for all shapes of response:
// nothing leaves that was not masked, and the last byte leaves only after the
// record is durable. The headers
// wait for the first bytes, and those until as much as the look-behind is
// searched, so that until then a refusal is a clean answer of its own; later it
// cuts the response off. A stream of events or messages has its headers at once.
package extproc
