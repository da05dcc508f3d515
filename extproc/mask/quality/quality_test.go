package quality

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/callgate/callgate/extproc/mask"
)

func all(t *testing.T) *mask.Masker {
	t.Helper()
	m, err := mask.Compile(mask.Spec{Rules: []mask.Rule{{Name: "all", Detect: []string{"all"}}}}, mask.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The aims: F1 of at least 0.98 for what has a checksum, and for secrets; nothing
// else found in what only looks like it.
func TestAims(t *testing.T) {
	const least = 0.98
	var wrong []string
	scores, err := Measure(all(t), Generate(1, 20_000), func(m Mistake) {
		what := "hidden wrongly"
		if m.Missed {
			what = "missed"
		}
		if len(wrong) < 30 {
			wrong = append(wrong, m.Type+" "+what+": "+m.Text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	aimed := append(Checksummed(), Secrets()...)
	seen := 0
	for _, s := range scores {
		if slices.Contains(aimed, s.Type) {
			seen++
			if s.F1 < least {
				t.Errorf("%s: F1 %.4f (%d of %d found, %d wrong)", s.Type, s.F1, s.Found, s.Labelled, s.False)
			}
		} else if s.F1 < 0.95 {
			t.Errorf("%s: F1 %.4f (%d of %d found, %d wrong)", s.Type, s.F1, s.Found, s.Labelled, s.False)
		}
	}
	if seen != len(aimed) {
		t.Errorf("%d of %d types were measured", seen, len(aimed))
	}
	if t.Failed() {
		t.Log(strings.Join(wrong, "\n"))
	}
}

func TestGenerate(t *testing.T) {
	a, _ := json.Marshal(Generate(7, 200))
	b, _ := json.Marshal(Generate(7, 200))
	c, _ := json.Marshal(Generate(8, 200))
	if string(a) != string(b) || string(a) == string(c) {
		t.Error("a seed is one set of samples")
	}
	if got, err := Read(strings.NewReader(string(a))); err != nil || len(got) != 200 {
		t.Errorf("what is generated can't be read: %v", err)
	}
}

func TestMeasure(t *testing.T) {
	samples, err := Read(strings.NewReader(`
{"full_text":"é card 4111111111111111","spans":[{"entity_type":"CREDIT_CARD","entity_value":"4111111111111111","start_position":7,"end_position":23}]}
{"full_text":"to jane@example.com and b@example.com","spans":[{"entity_type":"EMAIL_ADDRESS","start_position":3,"end_position":19}],"template_id":4}

{"full_text":"Jane lives in Bath","spans":[{"entity_type":"PERSON","start_position":0,"end_position":4},{"entity_type":"GPE","start_position":14,"end_position":18}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	scores, err := Measure(all(t), samples, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []Score{
		{Type: "GPE", Labelled: 1, Precision: 1, Unknown: true},
		{Type: "card", Labelled: 1, Found: 1, Precision: 1, Recall: 1, F1: 1},
		{Type: "email", Labelled: 1, Found: 1, False: 1, Precision: 0.5, Recall: 1, F1: 2.0 / 3},
		{Type: "person_name", Labelled: 1, Precision: 1},
	}
	if !slices.Equal(scores, want) {
		t.Errorf("got %+v", scores)
	}
}

func TestReadRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"":                  "no samples",
		"  \n":              "no samples",
		"[]":                "no samples",
		"x":                 "line 1 is not a sample",
		`{"full_text":""}`:  "has no full_text",
		`[{"full_text":1}]`: "read samples",
		`{"full_text":"ab","spans":[{"entity_type":"X","start_position":1,"end_position":3}]}`:                    "from 1 to 3 in a text of 2",
		`{"full_text":"ab","spans":[{"start_position":0,"end_position":1}]}`:                                      "no entity_type",
		`{"full_text":"ab","spans":[{"entity_type":"X","entity_value":"b","start_position":0,"end_position":1}]}`: "positions count characters",
	} {
		if _, err := Read(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q in it", in, err, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(`{"full_text":"ab","spans":[{"entity_type":"X","start_position":0,"end_position":1}]}`)
	f.Add(`[{"full_text":"é"}]`)
	m, err := mask.Compile(mask.Spec{Rules: []mask.Rule{{Name: "all", Detect: []string{"card", "email"}}}}, mask.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in string) {
		samples, err := Read(strings.NewReader(in))
		if err != nil {
			return
		}
		_, _ = Measure(m, samples, func(Mistake) {})
	})
}
