// Package pages is what people see in a browser: calls that wait for them, one
// call byte for byte, and the form that decides about it.
//
// Opening a page, and following a link of a message, never decides. A decision is
// a form that the same login was given, about the bytes that it was shown, sent
// from this very site. The pages work without scripts and allow none.
package pages
