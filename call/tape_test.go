package call

import (
	"bytes"
	"reflect"
	"testing"
)

// However a body is cut into writes, its record is the same as of the whole.
func FuzzTape(f *testing.F) {
	f.Add([]byte("0123456789"), uint8(4), uint8(3))
	f.Add([]byte("0123456789"), uint8(10), uint8(1))
	f.Add([]byte("0123456789"), uint8(9), uint8(10))
	f.Add([]byte(""), uint8(0), uint8(1))
	f.Add([]byte("0123456789"), uint8(1), uint8(2))
	f.Fuzz(func(t *testing.T, body []byte, max, step uint8) {
		tape := NewTape(int64(max))
		for rest := body; len(rest) > 0; {
			n := min(len(rest), int(step)+1)
			if _, err := tape.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		got, want := tape.Body("a/b", "gzip"), NewBody(body, int64(max), "a/b", "gzip")
		if !bytes.Equal(got.Head, want.Head) || !bytes.Equal(got.Tail, want.Tail) {
			t.Errorf("streamed %q…%q, whole %q…%q", got.Head, got.Tail, want.Head, want.Tail)
		}
		if !want.Truncated && !bytes.Equal(want.Head, body) {
			t.Errorf("kept %q of %q", want.Head, body)
		}
		got.Head, got.Tail, want.Head, want.Tail = nil, nil, nil, nil
		if !reflect.DeepEqual(got, want) {
			t.Errorf("streamed %+v, whole %+v", got, want)
		}
	})
}
