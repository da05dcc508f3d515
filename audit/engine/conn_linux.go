package engine

import (
	"errors"
	"runtime"
	"unsafe"
)

// conn is one connection to the engine: one statement at a time.
type conn struct {
	lib *library
	ptr unsafe.Pointer // what close takes; the functions take what it points to
}

func (c *conn) handle() uintptr { return *(*uintptr)(c.ptr) }

func (c *conn) close() {
	c.lib.close(c.ptr)
}

// analyse parses a text without running it, and says how many statements it
// holds and the class of the strictest.
func (c *conn) analyse(sql string) (statements int, of class, err error) {
	var out struct{ size, statements, flags, class uint32 }
	out.size = uint32(unsafe.Sizeof(out))
	text := bytesOf(sql)
	state := c.lib.classify(c.handle(), unsafe.Pointer(&text[0]), uintptr(len(sql)), nil, 0, unsafe.Pointer(&out))
	runtime.KeepAlive(text)
	if state != 0 {
		return 0, unknown, errors.New("the engine could not analyse the statement")
	}
	return int(out.statements), class(out.class), nil
}

// bytesOf is the text followed by a zero byte, so that even an empty one has
// an address.
func bytesOf(s string) []byte { return append([]byte(s), 0) }

// arguments lays the parameters out as the library wants them.
type arguments struct {
	pin                             runtime.Pinner
	names, values                   []unsafe.Pointer
	nameLens, valueLens             []uintptr
	pnames, plens, pvalues, pvalens unsafe.Pointer
}

func layOut(params []param) *arguments {
	a := &arguments{}
	if len(params) == 0 {
		return a
	}
	for _, p := range params {
		n, v := bytesOf(p.name), bytesOf(p.value)
		a.pin.Pin(&n[0])
		a.pin.Pin(&v[0])
		a.names = append(a.names, unsafe.Pointer(&n[0]))
		a.values = append(a.values, unsafe.Pointer(&v[0]))
		a.nameLens = append(a.nameLens, uintptr(len(p.name)))
		a.valueLens = append(a.valueLens, uintptr(len(p.value)))
	}
	a.pin.Pin(&a.names[0])
	a.pin.Pin(&a.values[0])
	a.pnames, a.pvalues = unsafe.Pointer(&a.names[0]), unsafe.Pointer(&a.values[0])
	a.plens, a.pvalens = unsafe.Pointer(&a.nameLens[0]), unsafe.Pointer(&a.valueLens[0])
	return a
}

// counts adds what the library says of one result or chunk.
func (l *library) counts(p *progress, result uintptr) {
	p.readRows += l.storageRows(result)
	p.readBytes += l.storageBytes(result)
	p.writtenRows += l.rowsWritten(result)
	p.writtenBytes += l.bytesWritten(result)
}

// stream is a running statement and its result, of which it holds one chunk at
// a time.
type stream struct {
	c       *conn
	ptr     uintptr
	chunk   uintptr
	ended   bool
	counted progress
}

// query starts a statement whose result comes in the format.
func (c *conn) query(sql, format string, params []param) (rows, error) {
	text, name, args := bytesOf(sql), bytesOf(format), layOut(params)
	defer args.pin.Unpin()
	ptr := c.lib.query(c.handle(), unsafe.Pointer(&text[0]), uintptr(len(sql)), unsafe.Pointer(&name[0]), uintptr(len(format)),
		args.pnames, args.plens, args.pvalues, args.pvalens, uintptr(len(params)))
	runtime.KeepAlive(args)
	if ptr == 0 {
		return nil, errors.New("the engine gave no answer")
	}
	s := &stream{c: c, ptr: ptr}
	if msg := c.lib.failure(ptr); msg != "" {
		s.ended = true
		s.close()
		return nil, parseException(msg)
	}
	return s, nil
}

// next returns the result's next chunk, which is valid until the next call of
// any method, or nil at the end.
func (s *stream) next() ([]byte, error) {
	s.drop()
	if s.ended {
		return nil, nil
	}
	s.chunk = s.c.lib.fetch(s.c.handle(), s.ptr)
	if s.chunk == 0 {
		s.ended = true
		return nil, errors.New("the engine gave no answer")
	}
	if msg := s.c.lib.failure(s.chunk); msg != "" {
		s.ended = true
		return nil, parseException(msg)
	}
	s.c.lib.counts(&s.counted, s.chunk)
	n := s.c.lib.length(s.chunk)
	if n == 0 {
		s.ended = true
		return nil, nil
	}
	return unsafe.Slice((*byte)(s.c.lib.buffer(s.chunk)), n), nil
}

func (s *stream) progress() progress { return s.counted }

func (s *stream) drop() {
	if s.chunk != 0 {
		s.c.lib.free(s.chunk)
		s.chunk = 0
	}
}

// close ends the statement if it still runs and frees what it holds.
func (s *stream) close() {
	s.drop()
	if s.ptr == 0 {
		return
	}
	if !s.ended {
		s.c.lib.cancel(s.c.handle(), s.ptr)
	}
	s.c.lib.free(s.ptr)
	s.ptr = 0
}

// whole runs a statement and returns its whole result: for those the engine
// does not stream, whose results are small.
func (c *conn) whole(sql, format string, params []param) (out []byte, p progress, err error) {
	text, name, args := bytesOf(sql), bytesOf(format), layOut(params)
	defer args.pin.Unpin()
	result := c.lib.whole(c.handle(), unsafe.Pointer(&text[0]), uintptr(len(sql)), unsafe.Pointer(&name[0]), uintptr(len(format)),
		args.pnames, args.plens, args.pvalues, args.pvalens, uintptr(len(params)))
	runtime.KeepAlive(args)
	if result == 0 {
		return nil, p, errors.New("the engine gave no answer")
	}
	defer c.lib.free(result)
	if msg := c.lib.failure(result); msg != "" {
		return nil, p, parseException(msg)
	}
	c.lib.counts(&p, result)
	if n := c.lib.length(result); n > 0 {
		out = append(out, unsafe.Slice((*byte)(c.lib.buffer(result)), n)...)
	}
	return out, p, nil
}

// inserting is an INSERT whose data is still coming.
type inserting struct {
	c   *conn
	ptr uintptr
}

// insert starts an INSERT; the statement ends before FORMAT.
func (c *conn) insert(sql, format string, params []param) (sink, error) {
	text, name, args := bytesOf(sql), bytesOf(format), layOut(params)
	defer args.pin.Unpin()
	ptr := c.lib.insert(c.handle(), unsafe.Pointer(&text[0]), uintptr(len(sql)), unsafe.Pointer(&name[0]), uintptr(len(format)),
		args.pnames, args.plens, args.pvalues, args.pvalens, uintptr(len(params)))
	runtime.KeepAlive(args)
	if ptr == 0 {
		return nil, errors.New("the engine gave no answer")
	}
	i := &inserting{c: c, ptr: ptr}
	if msg := c.lib.insertError(ptr); msg != "" {
		i.close()
		return nil, parseException(msg)
	}
	return i, nil
}

// append hands data over; it blocks while the engine is behind.
func (i *inserting) append(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	if i.c.lib.append(i.ptr, unsafe.Pointer(&data[0]), uintptr(len(data))) != 0 {
		// The reason is only known once the insert is wound up.
		if _, err := i.done(); err != nil {
			return err
		}
		return errors.New("the engine stopped reading the insert")
	}
	return nil
}

// done commits the insert.
func (i *inserting) done() (p progress, err error) {
	result := i.c.lib.done(i.ptr)
	if result == 0 {
		return p, errors.New("the engine gave no answer")
	}
	defer i.c.lib.free(result)
	if msg := i.c.lib.failure(result); msg != "" {
		return p, parseException(msg)
	}
	i.c.lib.counts(&p, result)
	return p, nil
}

// close gives up what is not committed and frees what the insert holds.
func (i *inserting) close() {
	if i.ptr != 0 {
		i.c.lib.freeInsert(i.ptr)
		i.ptr = 0
	}
}
