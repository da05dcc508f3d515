# Regenerates the Go code of policy.proto. It needs protoc (Debian:
# protobuf-compiler); the plugins are built here, at the versions that go.mod and
# this file pin.
set -eu
command -v protoc >/dev/null || {
	echo "protoc is missing; install it, e.g. with: apt-get install protobuf-compiler" >&2
	exit 1
}
plugins=$(mktemp -d)
trap 'rm -rf "$plugins"' EXIT
GOBIN=$plugins go install google.golang.org/protobuf/cmd/protoc-gen-go
GOBIN=$plugins go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
# The registered name of a .proto file must be unique in a program, so it is
# the package's path rather than the bare file name.
PATH=$plugins:$PATH protoc --proto_path=callgate/policy/v1=. \
	--go_out=. --go_opt=module=github.com/callgate/callgate/xds/policyv1 \
	--go-grpc_out=. --go-grpc_opt=module=github.com/callgate/callgate/xds/policyv1 \
	callgate/policy/v1/policy.proto
