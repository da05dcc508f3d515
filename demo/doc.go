// Package demo shows the product at work on one machine: a real Envoy, the
// embedded ClickHouse engine, Callgate itself, an OIDC issuer, and three
// functions that know nothing of Callgate, with a tour through them by real
// clients. The end-to-end tests run the same stack.
package demo
