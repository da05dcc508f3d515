package engine

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// request is what a client asks for, apart from the body.
type request struct {
	query    string // from the URL; the body may continue it
	id       string
	database string
	format   string // of the result, unless the SQL says FORMAT
	params   []param
	settings []param // for the engine, in the URL's order
	// decompress and compress: the bodies are in ClickHouse's own frames.
	decompress, compress bool
	method               string // of those frames: LZ4, ZSTD, NONE
	level                int    // of ZSTD, 0 for the default
	wait                 bool   // answer only once the whole result is there
	plain                bool   // no HTTP compression of the answer
	protocol             bool   // speaks the native protocol's block headers
	// session: the request belongs to a session. Many clients say so always;
	// what would be kept from one request to the next is refused.
	session bool
}

// settingName is what may stand in a SET without quoting.
var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)

// maxValue bounds a single URL parameter other than the query.
const maxValue = 256 << 10

// ours are the parameters that the front itself obeys, or that mean nothing
// here; all others are settings for the engine.
var ours = []string{
	"query", "query_id", "database", "user", "password", "quota_key", "default_format",
	"compress", "decompress", "network_compression_method", "network_zstd_compression_level",
	"enable_http_compression", "http_zlib_compression_level", "wait_end_of_query", "buffer_size",
	"client_protocol_version", "session_id", "session_timeout", "session_check", "close_session", "role",
	"send_progress_in_http_headers", "http_headers_progress_interval_ms", "add_http_cors_header", "log_comment",
	"stacktrace",
}

// parseRequest reads the URL and the headers. Its errors are exceptions.
func parseRequest(values url.Values, header http.Header) (request, error) {
	first := func(name, headerName string) string {
		if v := values.Get(name); v != "" || headerName == "" {
			return v
		}
		return header.Get(headerName)
	}
	r := request{
		query:    values.Get("query"),
		id:       first("query_id", "X-ClickHouse-Query-Id"),
		database: first("database", "X-ClickHouse-Database"),
		format:   first("default_format", "X-ClickHouse-Format"),
		method:   strings.ToUpper(values.Get("network_compression_method")),
	}
	for name, given := range values {
		if len(given) != 1 {
			return r, refuse(codeBadArguments, "The URL parameter %q is given %d times: give it once", name, len(given))
		}
		if name != "query" && len(given[0]) > maxValue {
			return r, refuse(codeTooLarge, "The URL parameter %q is longer than %d bytes", name, maxValue)
		}
	}
	if r.format != "" && !settingName.MatchString(r.format) {
		return r, refuse(codeBadArguments, "%q is not a format's name", r.format)
	}
	if len(r.id) > 256 || strings.ContainsFunc(r.id, func(c rune) bool { return c < ' ' || c > '~' }) {
		return r, refuse(codeBadArguments, "A query_id must be at most 256 printable ASCII characters")
	}
	if strings.ContainsRune(r.database, 0) || len(r.database) > 1024 {
		return r, refuse(codeBadArguments, "That is not a database's name")
	}
	r.session = values.Has("session_id")
	if values.Has("role") {
		return r, refuse(codeNotImplemented, "The embedded engine has one user and no roles: leave out the role parameter")
	}
	for _, flag := range []struct {
		name string
		into *bool
	}{{"compress", &r.compress}, {"decompress", &r.decompress}, {"wait_end_of_query", &r.wait}, {"client_protocol_version", &r.protocol}} {
		*flag.into = isOn(values.Get(flag.name))
	}
	if v := values.Get("enable_http_compression"); v != "" {
		r.plain = !isOn(v)
	}
	switch r.method {
	case "", "LZ4", "LZ4HC", "ZSTD", "NONE":
	default:
		return r, refuse(codeBadArguments, "Unknown network_compression_method %q: LZ4, LZ4HC, ZSTD and NONE are known", r.method)
	}
	if v := values.Get("network_zstd_compression_level"); v != "" {
		level, err := strconv.Atoi(v)
		if err != nil || level < 1 || level > 22 {
			return r, refuse(codeBadArguments, "network_zstd_compression_level must be a number from 1 to 22, not %q", v)
		}
		r.level = level
	}
	for _, name := range slices.Sorted(keys(values)) {
		value := values.Get(name)
		if param_, ok := strings.CutPrefix(name, "param_"); ok {
			if !settingName.MatchString(param_) {
				return r, refuse(codeBadArguments, "%q is not a query parameter's name", param_)
			}
			r.params = append(r.params, param{param_, value})
			continue
		}
		if slices.Contains(ours, name) {
			continue
		}
		if !settingName.MatchString(name) {
			return r, refuse(codeBadArguments, "%q is not a setting's name", name)
		}
		r.settings = append(r.settings, param{name, value})
	}
	return r, nil
}

func keys(values url.Values) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for name := range values {
			if !yield(name) {
				return
			}
		}
	}
}

func isOn(v string) bool { return v != "" && v != "0" && v != "false" }

// set is the SQL that puts the settings into effect on a session.
func set(settings []param) string {
	var b strings.Builder
	b.WriteString("SET ")
	for i, s := range settings {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(s.name)
		b.WriteString(" = ")
		b.WriteString(literal(s.value))
	}
	return b.String()
}

var escapes = strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\x00", `\0`, "\n", `\n`, "\r", `\r`, "\t", `\t`)

// literal is a text as an SQL string.
func literal(s string) string { return "'" + escapes.Replace(s) + "'" }

var nameEscapes = strings.NewReplacer(`\`, `\\`, "`", "\\`")

// identifier is a text as an SQL name.
func identifier(s string) string { return "`" + nameEscapes.Replace(s) + "`" }

// guard knows who may in.
type guard struct{ user, password [sha256.Size]byte }

func newGuard(user, password string) guard {
	return guard{sha256.Sum256([]byte(user)), sha256.Sum256([]byte(password))}
}

// admit checks the credentials of a request: one of ClickHouse's headers,
// basic authentication, or URL parameters, never two of them. What it compares
// are digests, so that the time taken tells nothing, not even a length.
func (g guard) admit(r *http.Request, values url.Values) error {
	var user, password string
	var ways []string
	if r.Header.Get("X-ClickHouse-User") != "" || r.Header.Get("X-ClickHouse-Key") != "" {
		user, password = r.Header.Get("X-ClickHouse-User"), r.Header.Get("X-ClickHouse-Key")
		ways = append(ways, "X-ClickHouse headers")
	}
	if authorization := r.Header.Get("Authorization"); authorization != "" {
		u, p, ok := r.BasicAuth()
		if !ok {
			return refuse(codeAuthentication, "The embedded engine takes a user and a password, no other Authorization")
		}
		user, password = u, p
		ways = append(ways, "Authorization")
	}
	if values.Has("user") || values.Has("password") {
		user, password = values.Get("user"), values.Get("password")
		ways = append(ways, "URL parameters")
	}
	switch len(ways) {
	case 0:
		return refuse(codeNoPassword, "A user and a password are needed: as basic authentication, as X-ClickHouse-User and X-ClickHouse-Key, or as URL parameters")
	case 1:
	default:
		return refuse(codeAuthentication, "Credentials came in more than one way (%s): use one", strings.Join(ways, ", "))
	}
	given := newGuard(user, password)
	if subtle.ConstantTimeCompare(given.user[:], g.user[:])&subtle.ConstantTimeCompare(given.password[:], g.password[:]) != 1 {
		return refuse(codeAuthentication, "Authentication failed: the user or the password is wrong")
	}
	return nil
}

// summary is the X-ClickHouse-Summary header.
func (p progress) summary(elapsedNanos int64) string {
	return fmt.Sprintf(`{"read_rows":"%d","read_bytes":"%d","written_rows":"%d","written_bytes":"%d","total_rows_to_read":"0","result_rows":"0","result_bytes":"0","elapsed_ns":"%d"}`,
		p.readRows, p.readBytes, p.writtenRows, p.writtenBytes, elapsedNanos)
}
