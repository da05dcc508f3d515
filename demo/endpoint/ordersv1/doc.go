// Package ordersv1 is the generated code of the demo's gRPC service.
package ordersv1

//go:generate sh generate.sh
