// Package callgate has the protobuf options that services may use to say what
// their messages hold: import "callgate/options.proto". Its code is generated
// from options.proto.
package callgate

//go:generate sh generate.sh
