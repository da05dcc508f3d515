package mask

import (
	"testing"

	"google.golang.org/protobuf/types/descriptorpb"
)

func TestReaches(t *testing.T) {
	// A message with lists, maps of none, scalars, and itself inside itself.
	in := (&descriptorpb.DescriptorProto{}).ProtoReflect().Descriptor()
	for path, want := range map[string]bool{
		"$": true, "name": true, "field": true, "field[*].name": true, "field[0].name": true, "field.*.name": true, "*": true, "**.name": true,
		"nested_type[*].nested_type[*].nested_type[*].field[*].options.deprecated": true, "**.deprecated": true, "field[*].options.**": true,
		"nme": false, "field.name": false, "name[0]": false, "name.x": false, "field[*].nme": false, "**.nme": false, "nestedType": false,
		"**.field[*].label.x": false, "a..b": false, "": false, "reserved_name[*]": true, "reserved_name[*].x": false,
	} {
		if got := Reaches(path, in); got != want {
			t.Errorf("%q: %v", path, got)
		}
	}
}
