package engine

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"github.com/ebitengine/purego"
)

// library is the engine's shared library, loaded into this process. It can be
// loaded once and never unloaded, and holds one data directory at a time.
//
// Handles are C pointers kept as uintptr: they never point into Go's memory.
type library struct {
	// connecting is held around everything that replaces signal handlers.
	connecting sync.Mutex

	version func() string

	connect func(argc int32, argv unsafe.Pointer) unsafe.Pointer
	close   func(conn unsafe.Pointer)
	signals func(enabled int32)

	classify func(conn uintptr, sql unsafe.Pointer, n uintptr, database unsafe.Pointer, databaseLen uintptr, out unsafe.Pointer) int32

	query func(conn uintptr, sql unsafe.Pointer, n uintptr, format unsafe.Pointer, formatLen uintptr,
		names, nameLens, values, valueLens unsafe.Pointer, count uintptr) uintptr
	whole func(conn uintptr, sql unsafe.Pointer, n uintptr, format unsafe.Pointer, formatLen uintptr,
		names, nameLens, values, valueLens unsafe.Pointer, count uintptr) uintptr
	fetch  func(conn, stream uintptr) uintptr
	cancel func(conn, stream uintptr)
	free   func(result uintptr)

	insert func(conn uintptr, sql unsafe.Pointer, n uintptr, format unsafe.Pointer, formatLen uintptr,
		names, nameLens, values, valueLens unsafe.Pointer, count uintptr) uintptr
	append       func(stream uintptr, data unsafe.Pointer, n uintptr) int32
	done         func(stream uintptr) uintptr
	cancelInsert func(stream uintptr)
	insertError  func(stream uintptr) string
	freeInsert   func(stream uintptr)

	buffer       func(result uintptr) unsafe.Pointer
	length       func(result uintptr) uintptr
	failure      func(result uintptr) string
	storageRows  func(result uintptr) uint64
	storageBytes func(result uintptr) uint64
	rowsWritten  func(result uintptr) uint64
	bytesWritten func(result uintptr) uint64
}

// loadEngine loads the library at an absolute path, and returns what opens
// sessions to it.
func loadEngine(path string) (func(args []string) (session, error), error) {
	lib, err := load(path)
	if err != nil {
		return nil, err
	}
	return lib.open, nil
}

// load opens the library at an absolute path. The library installs handlers
// for signals that belong to Go's runtime; they are put back.
func load(path string) (lib *library, err error) {
	saved := saveSignals()
	defer func() { err = errors.Join(err, saved.restore()) }()

	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", path, err)
	}
	lib = &library{}
	for _, f := range []struct {
		name string
		into any
	}{
		{"chdb_version", &lib.version},
		{"chdb_connect", &lib.connect},
		{"chdb_close_conn", &lib.close},
		{"chdb_set_signal_handlers_enabled", &lib.signals},
		{"chdb_classify_query_n", &lib.classify},
		{"chdb_stream_query_with_params_n", &lib.query},
		{"chdb_query_with_params_n", &lib.whole},
		{"chdb_stream_fetch_result", &lib.fetch},
		{"chdb_stream_cancel_query", &lib.cancel},
		{"chdb_destroy_query_result", &lib.free},
		{"chdb_stream_insert_with_params_n", &lib.insert},
		{"chdb_stream_append", &lib.append},
		{"chdb_stream_done", &lib.done},
		{"chdb_stream_cancel_insert", &lib.cancelInsert},
		{"chdb_stream_insert_error", &lib.insertError},
		{"chdb_destroy_insert_stream", &lib.freeInsert},
		{"chdb_result_buffer", &lib.buffer},
		{"chdb_result_length", &lib.length},
		{"chdb_result_error", &lib.failure},
		{"chdb_result_storage_rows_read", &lib.storageRows},
		{"chdb_result_storage_bytes_read", &lib.storageBytes},
		{"chdb_result_rows_written", &lib.rowsWritten},
		{"chdb_result_bytes_written", &lib.bytesWritten},
	} {
		symbol, err := purego.Dlsym(handle, f.name)
		if err != nil {
			return nil, fmt.Errorf("load %s: it has no function %s, so it is not the ClickHouse engine or too old a one: unset %s to fetch the right one", path, f.name, libraryPart.Env)
		}
		purego.RegisterFunc(f.into, symbol)
	}
	lib.signals(0)
	return lib, nil
}

// open connects to the data directory that the arguments name; the first
// connection starts the engine, which can take as long as its data needs.
func (l *library) open(args []string) (s session, err error) {
	l.connecting.Lock()
	defer l.connecting.Unlock()
	saved := saveSignals()
	defer func() { err = errors.Join(err, saved.restore()) }()

	var pin runtime.Pinner
	defer pin.Unpin()
	argv := make([]unsafe.Pointer, len(args)+1)
	for i, arg := range args {
		c := append([]byte(arg), 0)
		pin.Pin(&c[0])
		argv[i] = unsafe.Pointer(&c[0])
	}
	pin.Pin(&argv[0])
	ptr := l.connect(int32(len(args)), unsafe.Pointer(&argv[0]))
	if ptr == nil {
		return nil, errors.New("the engine would not start; it says why on standard error")
	}
	return &conn{lib: l, ptr: ptr}, nil
}

// handlers are the kernel's records of the signal handlers that the library
// replaces, as opaque bytes: they are only ever put back.
type handlers map[syscall.Signal][64]byte

// replaced are the signals whose handlers loading and connecting replace, even
// when told not to.
var replaced = []syscall.Signal{syscall.SIGILL, syscall.SIGTRAP, syscall.SIGABRT, syscall.SIGBUS,
	syscall.SIGFPE, syscall.SIGSEGV, syscall.SIGSYS,
	// Not seen replaced, and ruinous if they were: these end the process or
	// carry Go's preemption.
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE, syscall.SIGURG, syscall.SIGCHLD}

func saveSignals() handlers {
	saved := handlers{}
	for _, sig := range replaced {
		var record [64]byte
		if _, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&record)), 8, 0, 0); errno == 0 {
			saved[sig] = record
		}
	}
	return saved
}

func (h handlers) restore() error {
	var errs []error
	for sig, record := range h {
		if _, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&record)), 0, 8, 0, 0); errno != 0 {
			errs = append(errs, fmt.Errorf("restore the handler of %v: %w", sig, errno))
		}
	}
	return errors.Join(errs...)
}
