package engine

// session is one connection to the engine; it runs one statement at a time and
// keeps what SET and USE did to it. It is not safe for concurrent use.
type session interface {
	// analyse parses a text without running it, and says how many statements
	// it holds and the class of the strictest. A text that does not parse
	// holds none and is unknown.
	analyse(sql string) (statements int, of class, err error)
	// query starts a statement whose result is streamed. The engine streams
	// SELECTs only; isNotStreamed tells the refusal of others.
	query(sql, format string, params []param) (rows, error)
	// whole runs a statement and returns its whole result.
	whole(sql, format string, params []param) ([]byte, progress, error)
	// insert starts an INSERT whose data follows; sql ends before FORMAT.
	insert(sql, format string, params []param) (sink, error)
	close()
}

// rows is a streamed result.
type rows interface {
	// next returns the next chunk, valid until the next call of any method, or
	// nil at the end.
	next() ([]byte, error)
	progress() progress
	// close ends the statement if it still runs.
	close()
}

// sink takes an INSERT's data.
type sink interface {
	// append copies the data; it blocks while the engine is behind.
	append(data []byte) error
	// done commits; without it, close gives the insert up.
	done() (progress, error)
	close()
}

// param is a server-side query parameter, {name:Type} in the SQL.
type param struct{ name, value string }

// progress counts what a statement read and wrote.
type progress struct{ readRows, readBytes, writtenRows, writtenBytes uint64 }

// class is what a statement does to what outlives it, as the engine's own
// parser sees it. The numbers are the library's.
type class uint32

const (
	readOnly       class = iota
	mutating             // INSERT, CREATE, ALTER, DROP and the like
	mutatingGlobal       // functions, users
	control              // SET, USE, SYSTEM, KILL, INTO OUTFILE and the like
	unknown              // did not parse
)
