package protocol

import (
	"encoding/json"
	"errors"
	"maps"
	"math"
	"slices"
	"strconv"
)

// Arguments reads recorded arguments, one JSON object, back into what
// [Parser.Parse] made of the request: the same values of the same types. It
// takes what a gRPC message may hold and a JSON body may not, such as two keys
// that differ only in case.
func Arguments(doc []byte) (map[string]any, error) {
	r, err := newReader(doc)
	if err != nil {
		return nil, err
	}
	r.recorded = true
	v, err := r.document()
	if err != nil {
		return nil, err
	}
	args, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("the recorded arguments are no JSON object")
	}
	return args, nil
}

// errNumber is a number that JSON has no way to write.
var errNumber = errors.New("a number is infinite, or not a number")

// appendJSON writes a value of arguments. A float64 always has a point or an
// exponent, so that who reads the record takes it for one again: to a rule,
// 1.0 / 2 and 1 / 2 differ.
func appendJSON(out []byte, v any) ([]byte, error) {
	var err error
	switch v := v.(type) {
	case map[string]any:
		out = append(out, '{')
		for i, key := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				out = append(out, ',')
			}
			if out, err = appendJSON(out, key); err != nil {
				return nil, err
			}
			if out, err = appendJSON(append(out, ':'), v[key]); err != nil {
				return nil, err
			}
		}
		return append(out, '}'), nil
	case []any:
		out = append(out, '[')
		for i, e := range v {
			if i > 0 {
				out = append(out, ',')
			}
			if out, err = appendJSON(out, e); err != nil {
				return nil, err
			}
		}
		return append(out, ']'), nil
	case int64:
		return strconv.AppendInt(out, v, 10), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, errNumber
		}
		if size := math.Abs(v); size != 0 && (size < 1e-6 || size >= 1e21) {
			return strconv.AppendFloat(out, v, 'e', -1, 64), nil
		}
		out = strconv.AppendFloat(out, v, 'f', -1, 64)
		if v == math.Trunc(v) {
			out = append(out, ".0"...)
		}
		return out, nil
	default:
		text, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		return append(out, text...), nil
	}
}
