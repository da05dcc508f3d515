// Package extproc reads what functions return before their callers do: it
// hides what the decision says must be hidden and records what the caller gets.
//
// It implements Envoy's external processor (ext_proc v3) for responses, in
// FULL_DUPLEX_STREAMED mode: Envoy hands over every chunk and sends on only what
// comes back. That is what makes one rule possible for all shapes of response:
// nothing leaves that was not masked, and the last byte leaves only after the
// record is durable. A response that can be judged only as a whole (JSON, text)
// is held with its headers, so that a refusal is a clean answer of its own; a
// stream of events or messages flows, and a refusal cuts it off.
package extproc
