package engine

import (
	"encoding/binary"
	"net/http"
	"os"
)

// handshakeQuery is what clickhouse-go asks first over HTTP.
const handshakeQuery = "SELECT displayName(), version(), revision(), timezone()"

// handshake answers it as a server of protocol revision 0. The answer itself
// comes in the newest revision's block form, since that is how the client reads
// it; from then on the client expects plain Native blocks, which are what the
// engine writes: it knows nothing of client_protocol_version.
func (f *front) handshake(w http.ResponseWriter, r request) error {
	var b []byte
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	// Block info: field 1 no overflow, field 2 bucket -1, end of fields.
	b = append(b, 1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0)
	b = binary.AppendUvarint(b, 4) // columns
	b = binary.AppendUvarint(b, 1) // rows
	column := func(name, of string) {
		text(name)
		text(of)
		b = append(b, 0) // no custom serialization
	}
	column("displayName()", "String")
	text(f.name)
	column("version()", "String")
	text(f.version)
	column("revision()", "UInt32")
	b = binary.LittleEndian.AppendUint32(b, 0)
	column("timezone()", "String")
	text(f.timezone)

	r.plain, r.wait = true, false
	answer, err := newReply(w, r, "", "Native", os.TempDir())
	if err != nil {
		return err
	}
	defer answer.close()
	if err := answer.chunk(b, progress{}); err != nil {
		return err
	}
	return answer.finish(progress{})
}
