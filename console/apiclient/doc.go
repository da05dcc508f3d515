// Package apiclient is a client of the admin API, generated from its OpenAPI
// description. "make generate" writes it anew.
package apiclient

//go:generate go tool -modfile=../../tools/go.mod oapi-codegen -config config.yaml ../openapi.json
