package engine

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// exception is an error as ClickHouse numbers and words it.
type exception struct {
	code    int
	message string // "DB::Exception: …"
}

func (e *exception) Error() string { return fmt.Sprintf("Code: %d. %s", e.code, e.message) }

var codePattern = regexp.MustCompile(`(?s)^Code: (\d{1,9})\. (.*)$`)

// parseException reads the engine's error text.
func parseException(text string) *exception {
	text = strings.TrimSpace(text)
	if m := codePattern.FindStringSubmatch(text); m != nil {
		if code, err := strconv.Atoi(m[1]); err == nil {
			return &exception{code: code, message: m[2]}
		}
	}
	return &exception{code: codeUnknown, message: "DB::Exception: " + text + " (UNKNOWN_EXCEPTION)"}
}

// ClickHouse's numbers for what the front itself has to say.
const (
	codeCannotReadAllData = 33
	codeBadArguments      = 36
	codeChecksum          = 40
	codeNotImplemented    = 48
	codeSyntax            = 62
	codeReadonly          = 164
	codeNoPassword        = 194
	codeTooManyQueries    = 202
	codeTooLarge          = 307
	codeDecompress        = 271
	codeCancelled         = 394
	codeAuthentication    = 516
	codeUnknown           = 1002
)

var codeNames = map[int]string{
	codeCannotReadAllData: "CANNOT_READ_ALL_DATA",
	codeBadArguments:      "BAD_ARGUMENTS",
	codeChecksum:          "CHECKSUM_DOESNT_MATCH",
	codeNotImplemented:    "NOT_IMPLEMENTED",
	codeSyntax:            "SYNTAX_ERROR",
	codeReadonly:          "READONLY",
	codeNoPassword:        "REQUIRED_PASSWORD",
	codeTooManyQueries:    "TOO_MANY_SIMULTANEOUS_QUERIES",
	codeTooLarge:          "TOO_MANY_BYTES",
	codeDecompress:        "CANNOT_DECOMPRESS",
	codeCancelled:         "QUERY_WAS_CANCELLED",
	codeAuthentication:    "AUTHENTICATION_FAILED",
	codeUnknown:           "UNKNOWN_EXCEPTION",
}

// refuse is an exception of the front's own.
func refuse(code int, format string, args ...any) *exception {
	return &exception{code: code, message: fmt.Sprintf("DB::Exception: "+format+". (%s)", append(args, codeNames[code])...)}
}

// asException gives any error a number.
func asException(err error) *exception {
	var e *exception
	if errors.As(err, &e) {
		return e
	}
	return refuse(codeUnknown, "%v", err)
}

// isNotStreamed tells the engine's refusal to stream a statement, which comes
// before anything of it ran.
func isNotStreamed(err error) bool {
	var e *exception
	return errors.As(err, &e) && e.code == codeBadArguments &&
		strings.HasPrefix(e.message, "DB::Exception: Streaming query is not supported for query")
}

// isNoStatement tells the engine's answer to words that its command line takes
// for itself, such as «exit»: nothing ran.
func isNoStatement(err error) bool {
	var e *exception
	return errors.As(err, &e) && strings.Contains(e.message, "No active streaming query")
}

// httpStatus is what ClickHouse answers with for an error's number, as far as
// a client may tell cases apart by it; the rest is 500.
func (e *exception) httpStatus() int {
	switch e.code {
	case codeNoPassword:
		return http.StatusUnauthorized
	case codeAuthentication, 497 /* ACCESS_DENIED */, codeReadonly, 452 /* SETTING_CONSTRAINT_VIOLATION */ :
		return http.StatusForbidden
	case 60 /* UNKNOWN_TABLE */, 81 /* UNKNOWN_DATABASE */, 46 /* UNKNOWN_FUNCTION */, 47 /* UNKNOWN_IDENTIFIER */, 115 /* UNKNOWN_SETTING */ :
		return http.StatusNotFound
	case codeSyntax, codeBadArguments, codeCannotReadAllData, codeChecksum, codeDecompress,
		6 /* CANNOT_PARSE_TEXT */, 27 /* CANNOT_PARSE_INPUT_ASSERTION_FAILED */, 38 /* CANNOT_PARSE_DATE */, 41 /* CANNOT_PARSE_DATETIME */, 53 /* TYPE_MISMATCH */, 72 /* CANNOT_PARSE_NUMBER */, 73 /* UNKNOWN_FORMAT */, 117 /* INCORRECT_DATA */, 456 /* UNKNOWN_QUERY_PARAMETER */, 457 /* BAD_QUERY_PARAMETER */ :
		return http.StatusBadRequest
	case codeTooLarge:
		return http.StatusRequestEntityTooLarge
	case codeNotImplemented:
		return http.StatusNotImplemented
	case codeTooManyQueries:
		return http.StatusServiceUnavailable
	case 159 /* TIMEOUT_EXCEEDED */ :
		return http.StatusRequestTimeout
	}
	return http.StatusInternalServerError
}
