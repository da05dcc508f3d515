# Regenerates the Go code of options.proto. It needs protoc (Debian:
# protobuf-compiler); the plugin is built here, at the version that go.mod pins.
set -eu
command -v protoc >/dev/null || {
	echo "protoc is missing; install it, e.g. with: apt-get install protobuf-compiler" >&2
	exit 1
}
plugins=$(mktemp -d)
trap 'rm -rf "$plugins"' EXIT
GOBIN=$plugins go install google.golang.org/protobuf/cmd/protoc-gen-go
# Others import it as callgate/options.proto.
PATH=$plugins:$PATH protoc --proto_path=callgate=. --proto_path="$(dirname "$(command -v protoc)")/../include" \
	--go_out=. --go_opt=module=github.com/callgate/callgate/proto/callgate \
	callgate/options.proto
