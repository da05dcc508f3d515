package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/callgate/callgate/call"
)

// refusals are documents that some parsers read one way and some another. To
// add one is to add a line: the document, and a part of what its sender is told.
var refusals = map[string]struct{ doc, says string }{
	"key twice":                     {`{"amount":5,"amount":5000}`, "key twice"},
	"key twice, deep":               {`{"a":[{"b":{"c":1,"d":2,"c":3}}]}`, "key twice"},
	"key twice, escaped":            {`{"amount":5,"\u0061mount":5000}`, "key twice"},
	"key twice, escaped slash":      {`{"a/b":5,"a\/b":5000}`, "key twice"},
	"key twice, both escaped":       {`{"\u0061":5,"\u0061":5000}`, "key twice"},
	"key twice, empty":              {`{"":5,"":5000}`, "key twice"},
	"key twice, pair and character": {`{"😀":5,"\ud83d\ude00":5000}`, "key twice"},
	"keys by case":                  {`{"amount":5,"Amount":5000}`, "only in case"},
	"keys by case, folded":          {`{"task":1,"taſk":2}`, "only in case"},
	"keys by case, Kelvin":          {`{"k":1,"K":2}`, "only in case"},
	"keys by case, many":            {`{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"A":1}`, "only in case"},
	"half a pair":                   {`"\ud800"`, "surrogate"},
	"half a pair, low":              {`"\udc00"`, "surrogate"},
	"half a pair, twice":            {`"\ud800\ud800"`, "surrogate"},
	"half a pair, then text":        {`"\ud800x"`, "surrogate"},
	"half a pair in a key":          {`{"\udead":1}`, "surrogate"},
	"NUL":                           {`{"q":"a\u0000b"}`, `\u0000`},
	"NUL in a key":                  {`{"amount\u0000x":1}`, `\u0000`},
	"not UTF-8":                     {"\"\xff\"", "UTF-8"},
	"not UTF-8, overlong":           {"\"\xc0\xaf\"", "UTF-8"},
	"not UTF-8, surrogate":          {"\"\xed\xa0\x80\"", "UTF-8"},
	"not UTF-8, key":                {"{\"\xff\":1}", "UTF-8"},
	"byte order mark":               {"\uFEFF{}", "byte 0"},
	"control character":             {"\"a\nb\"", "byte 2"},
	"control after an escape":       {"\"a\\n\nb\"", "byte 4"},
	"trailing object":               {`{"a":1}{"a":2}`, "goes on"},
	"trailing comma":                {`{"a":1},`, "goes on"},
	"trailing NUL":                  {"{}\x00", "goes on"},
	"comma at end of object":        {`{"a":1,}`, "not valid JSON"},
	"comma at end of list":          {`[1,]`, "not valid JSON"},
	"comment":                       {`{"a":1/*,"b":2*/}`, "not valid JSON"},
	"line comment":                  {"{\"a\":1 // x\n}", "not valid JSON"},
	"single quotes":                 {`{'a':1}`, "not valid JSON"},
	"bare key":                      {`{a:1}`, "not valid JSON"},
	"form feed":                     {"\f{}", "not valid JSON"},
	"no-break space":                {"\u00a0{}", "not valid JSON"},
	"empty":                         {"", "too early"},
	"space":                         {" \n", "too early"},
	"cut string":                    {`"a`, "too early"},
	"cut escape":                    {`"a\`, "too early"},
	"cut unicode escape":            {`"\u12`, "too early"},
	"cut object":                    {`{"a"`, "too early"},
	"unknown escape":                {`"\x41"`, "not valid JSON"},
	"sign in unicode escape":        {`"\u+041"`, "not valid JSON"},
	"NaN":                           {`NaN`, "not valid JSON"},
	"infinity":                      {`[-Infinity]`, "not valid JSON"},
	"hex":                           {`0x10`, "goes on"},
	"leading zero":                  {`010`, "not valid JSON"},
	"leading plus":                  {`+1`, "not valid JSON"},
	"leading point":                 {`.5`, "not valid JSON"},
	"trailing point":                {`5.`, "too early"},
	"empty exponent":                {`[1e]`, "not valid JSON"},
	"lone minus":                    {`[-]`, "not valid JSON"},
	"capital word":                  {`True`, "not valid JSON"},
	"too large":                     {`1e999`, "would round"},
	"too small":                     {`1e-999`, "would round"},
	"over 64 bits":                  {`9223372036854775808`, "outside 64 bits"},
	"under 64 bits":                 {`-9223372036854775809`, "outside 64 bits"},
	"rounded":                       {`9007199254740993.0`, "would round"},
	"rounded, exponent":             {`9.007199254740993e15`, "would round"},
	"rounded up to the limit":       {`99.99999999999999999`, "would round"},
	"subnormal":                     {`4.9406564584124654417656e-320`, "would round"},
	"long number":                   {"0." + strings.Repeat("3", 100), "more than 64 characters"},
	"deep list":                     {strings.Repeat("[", 65) + strings.Repeat("]", 65), "nested"},
	"deep object":                   {strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65), "nested"},
	"deep, cut":                     {strings.Repeat("[", 1_000_000), "nested"},
	"many values":                   {"[" + strings.Repeat("0,", 100_000) + "0]", "more than 100000"},
}

func TestDocumentRefuses(t *testing.T) {
	for name, tt := range refusals {
		t.Run(name, func(t *testing.T) {
			v, err := document([]byte(tt.doc))
			var e *Error
			if !errors.As(err, &e) || e.Reason != call.ReasonMalformedRequest || !strings.Contains(e.Message, tt.says) {
				t.Errorf("got %v, %v; want an error with %q", v, err, tt.says)
			}
		})
	}
}

func TestDocumentAccepts(t *testing.T) {
	for doc, want := range map[string]any{
		`null`:                        nil,
		` true `:                      true,
		`9223372036854775807`:         int64(9223372036854775807),
		`-9223372036854775808`:        int64(-9223372036854775808),
		`9007199254740993`:            int64(9007199254740993),
		`0.1`:                         0.1,
		`0.10000000000000001`:         0.1, // what C's %.17g writes
		`0.30000000000000004`:         0.30000000000000004,
		`1.7976931348623157e308`:      1.7976931348623157e308,
		`5e-324`:                      5e-324,
		`1E2`:                         100.0,
		`0e999`:                       0.0,
		`1e22`:                        1e22,
		`"\"\\\/\b\f\n\r\t\u00e9😀"`:   "\"\\/\b\f\n\r\té😀",
		`"\ud83d\ude00"`:              "😀",
		`[]`:                          []any{},
		`[[],{}]`:                     []any{[]any{}, map[string]any{}},
		`{"a":{"a":1},"b":[{"a":2}]}`: map[string]any{"a": map[string]any{"a": int64(1)}, "b": []any{map[string]any{"a": int64(2)}}},
		"{\"a\":\"\x7f\u2028\"}":      map[string]any{"a": "\x7f\u2028"},
		strings.Repeat("[", 64) + strings.Repeat("]", 64): nest(64),
	} {
		if got, err := document([]byte(doc)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%.80s: got %#v, %v; want %#v", doc, got, err, want)
		}
	}
}

func nest(n int) any {
	v := []any{}
	for range n - 1 {
		v = []any{v}
	}
	return v
}

// What is accepted is the same to other parsers; what they accept is refused
// only for one of the reasons that there are to.
func FuzzDocument(f *testing.F) {
	for _, tt := range refusals {
		if len(tt.doc) < 10_000 {
			f.Add([]byte(tt.doc))
		}
	}
	f.Add(kilobyte)
	f.Add([]byte(`{"Aa":[1,-0,1.5e3,"\u00e9\ud83d\ude00",null,true,{}],"b":{"c":"d"}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		got, err := document(doc)
		strict := jsontext.Value(doc).IsValid()
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%T is no *Error", err)
			}
			for _, reason := range []string{"only in case", `\u0000`, "nested", "more than", "outside 64 bits", "would round"} {
				strict = strict && !strings.Contains(e.Message, reason)
			}
			if strict {
				t.Fatalf("refused without need: %v", err)
			}
			return
		}
		if !strict || !utf8.Valid(doc) {
			t.Fatalf("accepted what a strict parser refuses: %v", jsontext.Value(doc))
		}
		dec := json.NewDecoder(bytes.NewReader(doc))
		dec.UseNumber()
		var want any
		if err := dec.Decode(&want); err != nil {
			t.Fatalf("accepted what encoding/json refuses: %v", err)
		}
		if _, err := dec.Token(); !errors.Is(err, io.EOF) {
			t.Fatal("accepted what goes on after the document")
		}
		if want = plain(t, want); !reflect.DeepEqual(got, want) {
			t.Fatalf("got %#v, encoding/json has %#v", got, want)
		}
	})
}

// plain turns encoding/json's numbers into ours.
func plain(t *testing.T, v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		n, err := v.Float64()
		if err != nil {
			t.Fatalf("accepted number %s: %v", v, err)
		}
		return n
	case []any:
		for i := range v {
			v[i] = plain(t, v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = plain(t, v[k])
		}
	}
	return v
}
