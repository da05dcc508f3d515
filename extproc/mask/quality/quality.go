// Package quality measures how well the detectors find what labelled texts hold.
// The labels have the form of presidio-research: one sample a line (JSON Lines)
// or a JSON array of samples, each a full_text and the spans in it, whose
// positions count characters (code points).
package quality

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/callgate/callgate/extproc/mask"
)

// Sample is one labelled text.
type Sample struct {
	Text  string `json:"full_text"`
	Spans []Span `json:"spans"`
}

// Span is one value in a text. Positions count characters, the end excluded.
type Span struct {
	Type  string `json:"entity_type"`
	Value string `json:"entity_value"`
	Start int    `json:"start_position"`
	End   int    `json:"end_position"`
}

// types are other names of detectors: those of Presidio and of its data sets.
var types = map[string]string{
	"CREDIT_CARD": "card", "IBAN_CODE": "iban", "IBAN": "iban", "EMAIL_ADDRESS": "email", "EMAIL": "email", "US_SSN": "ssn", "US_ITIN": "ssn", "PHONE_NUMBER": "phone",
	"IP_ADDRESS": "ip", "PERSON": "person_name", "STREET_ADDRESS": "address", "ADDRESS": "address", "DATE_OF_BIRTH": "birth_date",
	"UK_NHS": "national_id_uk_nhs", "UK_NINO": "national_id_uk_nino", "ES_NIF": "national_id_es", "ES_NIE": "national_id_es", "IT_FISCAL_CODE": "national_id_it",
	"PL_PESEL": "national_id_pl", "SG_NRIC_FIN": "national_id_sg", "AU_TFN": "national_id_au_tfn", "AU_MEDICARE": "national_id_au_medicare",
	"IN_AADHAAR": "national_id_in_aadhaar", "IN_PAN": "national_id_in_pan", "FI_PERSONAL_IDENTITY_CODE": "national_id_fi", "KR_RRN": "national_id_kr",
	"TH_TNIN": "national_id_th", "API_KEY": "api_key", "JWT": "jwt", "PRIVATE_KEY": "private_key",
}

// maxSample bounds one line, in bytes.
const maxSample = 16 << 20

// Read reads labelled samples. Every error names the sample and what is wrong.
func Read(r io.Reader) ([]Sample, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		c, err := in.Peek(1)
		if err != nil {
			return nil, errors.New("there are no samples")
		}
		if c[0] != ' ' && c[0] != '\n' && c[0] != '\t' && c[0] != '\r' {
			break
		}
		if _, err := in.Discard(1); err != nil {
			return nil, err
		}
	}
	var out []Sample
	if c, _ := in.Peek(1); c[0] == '[' {
		if err := json.NewDecoder(in).Decode(&out); err != nil {
			return nil, fmt.Errorf("read samples: %w", err)
		}
	} else {
		lines := bufio.NewScanner(in)
		lines.Buffer(nil, maxSample)
		for n := 1; lines.Scan(); n++ {
			if len(bytes.TrimSpace(lines.Bytes())) == 0 {
				continue
			}
			var s Sample
			if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
				return nil, fmt.Errorf("line %d is not a sample: %w", n, err)
			}
			out = append(out, s)
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("read samples: %w", err)
		}
	}
	for i, s := range out {
		if err := s.check(); err != nil {
			return nil, fmt.Errorf("sample %d: %w", i+1, err)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("there are no samples")
	}
	return out, nil
}

func (s Sample) check() error {
	if s.Text == "" {
		return errors.New("has no full_text")
	}
	runes := []rune(s.Text)
	for _, sp := range s.Spans {
		switch {
		case sp.Type == "":
			return errors.New("a span has no entity_type")
		case sp.Start < 0 || sp.Start >= sp.End || sp.End > len(runes):
			return fmt.Errorf("a span %s is from %d to %d in a text of %d characters", sp.Type, sp.Start, sp.End, len(runes))
		case sp.Value != "" && string(runes[sp.Start:sp.End]) != sp.Value:
			return fmt.Errorf("a span %s says %q, and the text has %q there; positions count characters", sp.Type, sp.Value, string(runes[sp.Start:sp.End]))
		}
	}
	return nil
}

// Score is how well values of one type are found.
type Score struct {
	Type string `json:"type"`
	// Labelled are the values in the texts. Found of them were hidden to both
	// ends, as this type. False were hidden as this type and hold none.
	Labelled  int     `json:"labelled"`
	Found     int     `json:"found"`
	False     int     `json:"false"`
	Precision float64 `json:"precision"`
	Recall    float64 `json:"recall"`
	F1        float64 `json:"f1"`
	// Unknown says that no detector finds such values.
	Unknown bool `json:"unknown,omitempty"`
}

// Mistake is a value that was missed or hidden wrongly.
type Mistake struct {
	Sample int    // from 1
	Type   string // of the label, or of what was found
	Missed bool
	Text   string
}

// Measure masks samples and compares with their labels. mistake, if not nil, is
// told of each mistake.
func Measure(m *mask.Masker, samples []Sample, mistake func(Mistake)) ([]Score, error) {
	scores := map[string]*Score{}
	score := func(t string) *Score {
		if scores[t] == nil {
			scores[t] = &Score{Type: t}
		}
		return scores[t]
	}
	for n, s := range samples {
		found, err := m.Find([]byte(s.Text))
		if err != nil {
			return nil, fmt.Errorf("sample %d: %w", n+1, err)
		}
		at := make([]int, 0, len(s.Text)+1) // of each character
		for i := range s.Text {
			at = append(at, i)
		}
		at = append(at, len(s.Text))
		right := make([]bool, len(found))
		for _, label := range s.Spans {
			kind := label.Type
			if ours, ok := types[kind]; ok {
				kind = ours
			}
			sc := score(kind)
			sc.Labelled++
			from, to, hit := at[label.Start], at[label.End], false
			for i, f := range found {
				if f.Type == kind && f.Start < to && f.End > from {
					right[i] = true
					hit = hit || f.Start <= from && f.End >= to
				}
			}
			if hit {
				sc.Found++
			} else if mistake != nil {
				mistake(Mistake{n + 1, kind, true, s.Text[from:to]})
			}
		}
		for i, f := range found {
			if !right[i] {
				score(f.Type).False++
				if mistake != nil {
					mistake(Mistake{n + 1, f.Type, false, s.Text[f.Start:f.End]})
				}
			}
		}
	}
	var out []Score
	for _, sc := range scores {
		sc.Unknown = sc.False == 0 && sc.Found == 0 && !mask.Known(sc.Type)
		sc.Precision, sc.Recall = 1, 1
		if sc.Found+sc.False > 0 {
			sc.Precision = float64(sc.Found) / float64(sc.Found+sc.False)
		}
		if sc.Labelled > 0 {
			sc.Recall = float64(sc.Found) / float64(sc.Labelled)
		}
		if sc.Precision+sc.Recall > 0 {
			sc.F1 = 2 * sc.Precision * sc.Recall / (sc.Precision + sc.Recall)
		}
		if sc.Labelled == 0 {
			sc.Recall, sc.F1 = 0, 0
		}
		out = append(out, *sc)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Type < out[j].Type })
	return out, nil
}
