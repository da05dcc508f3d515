// Package policyv1 is what the control plane sends to decision servers, as
// protobuf messages. Its code is generated from policy.proto.
package policyv1

//go:generate sh generate.sh
