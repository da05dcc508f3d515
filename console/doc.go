// Package console is the admin API: what people and the command line ask of a
// running Callgate. Every request carries an OIDC token of the person's own, so
// that a decision is somebody's and not the machine's.
package console
