package mask

import (
	"strings"
	"testing"
)

func TestIP(t *testing.T) {
	m := detecting(t, "ip")
	hides(t, m, "ip", [][2]string{
		{"192.168.1.20", "{}"},
		{"from 10.0.0.1:8080.", "from {}:8080."},
		{"10.0.0.0/8, 172.16.0.0/12", "{}, {}"},
		{"(203.0.113.7)", "({})"},
		{"203.0.113.7.", "{}."},
		{"１９２．１６８．１．２０", "{}"},
		{"ip=1.2.3.4", "ip={}"},
		{`{"client_ip":"1.2.3.4"}`, `{"client_ip":"{}"}`},
		{`{"version":{"ip":"1.2.3.4"}}`, `{"version":{"ip":"{}"}}`},
		{"2001:db8::ff00:42:8329", "{}"},
		{"[2001:db8:85a3:8d3:1319:8a2e:370:7348]:443", "[{}]:443"},
		{"fe80::1ff:fe23:4567:890a", "{}"},
		{"2001:db8:1234::/48 and ::ffff:192.0.2.128", "{} and {}"},
		{"ip ::1", "ip {}"},
		{"addr: 2001:DB8:0:0:8:800:200C:417A", "addr: {}"},
	})
	shows(t, m,
		"v1.2.3.4", "version 1.2.3.4", "version: 10.0.19041.1", `{"version":"1.2.3.4"}`, `{"firmware":{"build":"4.18.2.1"}}`, "release-1.2.3.4", "1.2.3.4-beta", "1.2.3.4.5", "1.2.3",
		"256.1.1.1", "1.2.3.400", "01.2.3.4", "1.2.3.4a", "a1.2.3.4", "1.2.3.4_x",
		"12:16:00", "2026-11-23T12:16:00Z", "std::vector", "a::b", "::", "::1", "00:1B:44:11:3A:B7", "https://example.com:8080", "1:2:3", "key:value", "é::1", ":::::::",
	)
}

func TestPhone(t *testing.T) {
	m := detecting(t, "phone")
	hides(t, m, "phone", [][2]string{
		{"+49 30 901820", "{}"},
		{"call +1 (415) 555-2671 now", "call {} now"},
		{"+442083661177", "{}"},
		{"tel:+33-1-42-68-53-00", "tel:{}"},
		{"+39 06 6982 1234.", "{}."},
		{"＋４９ ３０ ９０１８２０", "{}"},
		{"+4930\u200b901820", "{}"},
		{"phone: 415-555-2671", "phone: {}"},
		{"Tel. 030 901820", "Tel. {}"},
		{`{"mobile":"0151 23456789"}`, `{"mobile":"{}"}`},
		{`{"phone_number":4155552671}`, `{"phone_number":"{}"}`},
		{`{"phone":"(415) 555-2671"}`, `{"phone":"{}"}`},
		{`{"contact":{"phone":{"value":"555 2671 00"}}}`, `{"contact":{"phone":{"value":"{}"}}}`},
	})
	shows(t, m,
		"415-555-2671", "(415) 555-2671", "030 901820", "1+14155552671", "+1234567", "+999123456789", "+1 000 000 0000", "2+2", "+",
		"1700000000", "2026-11-26 12:16:00", "12.11.2026 10:00", "ORD-2024-000123", "19.99", "1 234 567 890", "phone 7", "v+14155552671",
	)
	us := mustCompile(t, Spec{Rules: []Rule{{Name: "r", Detect: []string{"phone_us", "phone_de"}}}})
	hides(t, us, "phone", [][2]string{{"415-555-2671", "{}"}, {"(415) 555-2671", "{}"}, {"030 901820", "{}"}, {"0151 23456789", "{}"}})
	shows(t, us, "2026-11-26 12:16:00", "12.11.2026 10:00", "123-45-6789", "112-7654321-7654321", "000-000-0000", "4155552671")
	if Known("phone_xx") || Known("phone_US") || !Known("phone_gb") {
		t.Error("phone_ takes a country's code in lower case")
	}
}

// Names, addresses and dates of birth are known by the name of their field.
func TestByName(t *testing.T) {
	m := detecting(t, "person_name", "address", "birth_date")
	for _, c := range [][2]string{
		{`{"firstName":"Jane","n":1}`, `{"firstName":"[redacted]","n":1}`},
		{`{"customer":{"name":"Jane Doe","id":7}}`, `{"customer":{"name":"[redacted]","id":7}}`},
		{`{"users":[{"name":"Jane"}]}`, `{"users":[{"name":"[redacted]"}]}`},
		{`{"last_names":["Doe"],"surname":["Doe","Roe"]}`, `{"last_names":["Doe"],"surname":["[redacted]","[redacted]"]}`},
		{`{"address":"12 High St","city":"Bath"}`, `{"address":"[redacted]","city":"Bath"}`},
		{`{"address":{"street":"High St 12","zip":12345,"city":"Bath"}}`, `{"address":{"street":"[redacted]","zip":"[redacted]","city":"Bath"}}`},
		{`{"date_of_birth":"1985-07-09","born":null}`, `{"date_of_birth":"[redacted]","born":null}`},
		{`{"dob":19850709}`, `{"dob":"[redacted]"}`},
		{"Date of birth: 1985-07-09\nok", "Date of birth: [redacted:birth_date]\nok"},
		{"surname=Doe&x=1", "surname=[redacted:person_name]&x=1"},
	} {
		if got := detect(t, m, c[0]); got != c[1] {
			t.Errorf("%s: got %s, want %s", c[0], got, c[1])
		}
	}
	shows(t, m, `{"name":"Widget"}`, `{"product":{"name":"Widget"}}`, `{"created":"1985-07-09"}`, `{"name":{"en":"Widget"}}`, `{"firstName":""}`,
		`{"email_address":"x","ip_address":"y","filename":"z"}`, "at 12:16: name it")
	_, f, err := m.JSON([]byte(`{"dob":"x"}`))
	if err != nil || len(f) != 1 || f[0].Type != "birth_date" {
		t.Errorf("findings %+v, %v", f, err)
	}
}

// A secret without a form of its own is known by its name and its randomness.
func TestKeyedSecrets(t *testing.T) {
	m := detecting(t, "keyed_secret")
	const s = "kJ8x2mQp" + "Zr5tVw9y"
	hides(t, m, "keyed_secret", [][2]string{
		{`{"client_secret":"` + s + `"}`, `{"client_secret":"{}"}`},
		{`{"dbPassword":"hunter2-hunter3"}`, `{"dbPassword":"{}"}`},
		{`{"auth":{"api_key":"550e8400-e29b-41d4-a716-446655440000"}}`, `{"auth":{"api_key":"{}"}}`},
		{"password=" + s + "&x=1", "password={}&x=1"},
		{"DB_PASSWORD=" + s + "\nX=1", "DB_PASSWORD={}\nX=1"},
		{`export API_TOKEN="` + s + `"`, `export API_TOKEN="{}"`},
		{"Server=db;Password=" + s + ";Timeout=3", "Server=db;Password={};Timeout=3"},
		{"access token: " + s, "access token: {}"},
		{`{"log":"token=` + s + ` ok"}`, `{"log":"token={} ok"}`},
	})
	shows(t, m,
		`{"next_page_token":"`+s+`"}`, `{"token_count":"1234abcd5678"}`, `{"max_tokens":"4096tokens"}`, `{"password":"********"}`, `{"password":"changeme"}`,
		`{"secret":"see the wiki page 12"}`, `{"token_type":"bearer123456"}`, `{"id":"`+s+`"}`, `{"password_reset_url":"https://a.example/1b2c3d4e"}`,
		`{"secret":"${DB_SECRET_1}"}`, "the token: it was 12", "password: none",
	)
}

func TestVendorSecrets(t *testing.T) {
	m := detecting(t, "api_key")
	r := strings.Repeat
	hides(t, m, "api_key", [][2]string{
		{`{"DATADOG_API_KEY":"` + r("0a1b2c3d4e", 4) + `"}`, `{"DATADOG_API_KEY":"{}"}`},
		{"datadog_api_key = '" + r("0a1b2c3d4e", 4) + "'", "datadog_api_key = '{}'"},
		{`{"algolia":{"algolia_api_key":"` + r("0a1b2c3d", 4) + `"}}`, `{"algolia":{"algolia_api_key":"{}"}}`},
		{"Authorization: Bearer " + r("aB3.x", 6), "Authorization: Bearer {}"},
		{"Authorization: Basic " + "dXNlcjpwYXNzd29yZA==", "Authorization: Basic {}"},
		{"dt0c01." + "a8Qz2mKp7RtVw9xYbN3cL5dF.g1HjS4kT6uE0iO9aPzXq2WvR7nMbC5yLd8fKh3GtJ1sUeQw4ZrTx6VpAoBi2Nc9m", "{}"},
		{"a8Q~" + "x", "a8Q~x"},
		{" abc8Q~" + "xY3.z_~-aB4dE5fG6hI7jK8lM9nO0pQ1r", " {}"},
	})
	shows(t, m, `{"jira_key":"PROJ-1234"}`, `{"github_sha":"`+r("0a1b2c3d", 5)+`"}`, "sourcegraph "+r("0a1b2c3d", 5), "basic usage of the api, see docs", "twilio", "SKU12345", "adafruit: nice")
}

// Custom detectors: patterns, words, names.
func TestCustom(t *testing.T) {
	custom := map[string]*Custom{}
	for _, d := range []Definition{
		{Name: "employee", Pattern: `\bE-\d{6}\b`},
		{Name: "ticket", Pattern: `(?i)ticket[ #]*([0-9]{4,})`},
		{Name: "plate", Pattern: `[A-Z]{2}-[A-Z]{2} \d{1,4}`},
		{Name: "projects", Words: []string{"Aurora", "Blue  Bird", "Ärger", "京都計画", "c++"}},
		{Name: "exact", Words: []string{"SECRET"}, MatchCase: true},
		{Name: "staff", Keys: []string{"nick", "alias"}},
	} {
		c, err := NewCustom(d)
		if err != nil {
			t.Fatal(err)
		}
		custom[d.Name] = c
	}
	m, err := Compile(Spec{Rules: []Rule{{Name: "r", Detect: []string{"employee", "ticket", "plate", "projects", "exact", "staff", "card"}}}}, Options{Custom: custom})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{"E-123456 and E-1234567, xE-123456", "[redacted:employee] and E-1234567, xE-123456"},
		{`{"id":"E-123456"}`, `{"id":"[redacted:employee]"}`},
		{"Ticket #12345 ticket 12", "Ticket #[redacted:ticket] ticket 12"},
		{"plate B-AA 12, HH-XY 123.", "plate B-AA 12, [redacted:plate]."},
		{"the AURORA plan, aurorae", "the [redacted:projects] plan, aurorae"},
		{"blue bird, blue\n bird, bluebird", "[redacted:projects], [redacted:projects], bluebird"},
		{"ärger ÄRGER Verärgerung", "[redacted:projects] [redacted:projects] Verärgerung"},
		{"これは京都計画です", "これは[redacted:projects]です"},
		{"C++ code", "[redacted:projects] code"},
		{"au\u200brora ａｕｒｏｒａ", "[redacted:projects] [redacted:projects]"},
		{"SECRET secret", "[redacted:exact] secret"},
		{`{"nick":"jd","alias":[1]}`, `{"nick":"[redacted]","alias":"[redacted]"}`},
		{"nick=jd", "nick=[redacted]"},
		{"E-123456 4111111111111111 Aurora", "[redacted:employee] [redacted:card] [redacted:projects]"},
		{`{"Aurora":1}`, `{"[redacted:projects]":1}`},
	} {
		if got := detect(t, m, c[0]); got != c[1] {
			t.Errorf("%q: got %q, want %q", c[0], got, c[1])
		}
	}
}

func TestCustomRefused(t *testing.T) {
	for want, d := range map[string]Definition{
		"no pattern, words or keys":   {},
		"not RE2":                     {Pattern: `(?=x)`},
		"matches nothing at all":      {Pattern: `x*`},
		"at most 2048":                {Pattern: strings.Repeat("x", 3000)},
		"instructions":                {Pattern: strings.Repeat(`(a|b[0-9]{100}[a-z]){9}`, 22)},
		"invalid repeat count":        {Pattern: `x{2000}`},
		"shorter than two characters": {Words: []string{"x"}},
		"longer than 128":             {Words: []string{strings.Repeat("x", 200)}},
	} {
		if _, err := NewCustom(d); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q in it", d, err, want)
		}
	}
}

// Literals that every match holds are read out of patterns: without them a
// pattern runs over every text.
func TestRequiredLiterals(t *testing.T) {
	for pattern, want := range map[string]string{
		`\bEMP-\d{6}`: "EMP-", `(?i)ticket\s*\d+`: "ticket", `\d{4}-ABC`: "-ABC", `(?:foo|bar)x?`: "bar foo", `[A-Z]{2}\d+`: "", `x+(abcd)+`: "abcd", `(abc|d\d)`: "", `(?:one1|.*two2)`: "one1 two2",
	} {
		c, err := NewCustom(Definition{Pattern: pattern})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(c.literals, " "); got != want {
			t.Errorf("%s: got %q, want %q", pattern, got, want)
		}
	}
}

func TestTokens(t *testing.T) {
	compile := func(r Rule) *Masker {
		m, err := Compile(Spec{Rules: []Rule{r}}, Options{HashKey: []byte("0123456789abcdef0123456789abcdef")})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	m := compile(Rule{Name: "r", Detect: []string{"all"}, Keys: []string{"x"}, How: Token})
	form := func(s string) string {
		out := []byte(s)
		for i, c := range out {
			switch {
			case isDigit(c):
				out[i] = '9'
			case c >= 'a' && c <= 'z':
				out[i] = 'a'
			case c >= 'A' && c <= 'Z':
				out[i] = 'A'
			}
		}
		return string(out)
	}
	for _, in := range []string{
		"4111 1111 1111 1111", "4111111111111111", "378282246310005", "DE89370400440532013000", "GB29 NWBK 6016 1331 9268 19", "219-09-9998", "+49 30 901820",
		"RSSMRA85T10A562S", "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc", "192.168.100.200",
	} {
		got := detect(t, m, in)
		if got == in || form(got) != form(in) || got != detect(t, m, in) {
			t.Errorf("%q became %q", in, got)
		}
	}
	// A token is no card, so it is not masked again, and spacing does not tell.
	one, two := detect(t, m, "4111 1111 1111 1111"), detect(t, m, "4111111111111111")
	if strings.ReplaceAll(one, " ", "") != two || detect(t, m, two) != two {
		t.Errorf("%q and %q: the same number, and no card", one, two)
	}
	if got := detect(t, m, `{"x":"4111-1111-1111-1111","y":4111111111111111}`); !strings.Contains(got, `"y":"`+two+`"`) || strings.ReplaceAll(got[6:25], "-", "") != two {
		t.Errorf("by key and as a number: %s, want %s", got, two)
	}
	if got := detect(t, m, "jane.doe@example.com"); form(got) != form("jane.doe@example.com") || !strings.HasSuffix(got, ".com") || strings.Contains(got, "example") {
		t.Errorf("an address became %s", got)
	}
	// Too few values to stand for each other, or letters that have no place.
	for _, in := range []string{`{"x":"12345"}`, `{"x":"abcd"}`, `{"x":"Jürgen Müller"}`, `{"x":"12 Main Street\nSpringfield"}`, `{"x":true}`, `{"x":12}`} {
		if got := detect(t, m, in); got != `{"x":"[redacted]"}` {
			t.Errorf("%s became %s", in, got)
		}
	}
	if got := detect(t, m, "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----"); got != "[redacted:private_key]" {
		t.Errorf("a private key became %s", got)
	}
	// Different values never meet.
	seen := map[string]bool{}
	digits := compile(Rule{Name: "r", Keys: []string{"x"}, How: Token})
	for i := range 2000 {
		out, _, err := digits.JSON([]byte(`{"x":"` + strings.Repeat("0", 2) + string('A'+rune(i%26)) + string('0'+rune(i/26%10)) + string('0'+rune(i/260)) + `abz"}`))
		if err != nil || seen[string(out)] {
			t.Fatalf("%s twice, %v", out, err)
		}
		seen[string(out)] = true
	}
	// Between the others in strictness.
	both := Spec{Rules: []Rule{{Name: "a", Detect: []string{"card"}, How: Token}, {Name: "b", Detect: []string{"card"}, How: Partial}}}
	w, err := Compile(both, Options{HashKey: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	if got := detect(t, w, "4111111111111111"); len(got) != 16 {
		t.Errorf("token and partial: %s", got)
	}
	if _, err := Compile(both, Options{}); err == nil || !strings.Contains(err.Error(), "how: token needs a hash key") {
		t.Errorf("without a key: %v", err)
	}
}

// Names such as order_id keep what passes for a card by chance, unless it is
// written as cards are.
func TestOrdinals(t *testing.T) {
	m := detecting(t, "card")
	shows(t, m, `{"order":{"id":"4111111111111111"}}`, `{"orders":[{"id":4111111111111111}]}`, `{"merchant_order_id":"4111111111111111"}`, `{"order_ids":["4111111111111111"]}`, `{"invoice":{"ref":4111111111111111}}`,
		"order no. 4111111111111111 left", "Order #4111111111111111", "order number: 4111111111111111", "Invoice No. 4111111111111111", "tracking number 4111111111111111", "transaction id 4111111111111111",
		"Bestellnummer: 4111111111111111", "my order: 4111111111111111", "card=none order_id=4111111111111111")
	shows(t, m, `{"order_id":4111111111111111}`, `{"orderNumber":"4111111111111111"}`, `{"tracking_number":"4111111111111111"}`, "order_id: 4111111111111111", "order_id=4111111111111111 x")
	hides(t, m, "card", [][2]string{
		{`{"order_id":"4111 1111 1111 1111"}`, `{"order_id":"{}"}`},
		{`{"order":{"number":"4111111111111111"}}`, `{"order":{"number":"{}"}}`},
		{`{"order_id":"paid with 4111111111111111 4111 1111 1111 1111"}`, `{"order_id":"paid with {} {}"}`},
		{"order_id of 4111111111111111", "order_id of {}"},
		// Names that don't number, and what speaks of cards.
		{`{"id":"4111111111111111"}`, `{"id":"{}"}`}, {`{"reference":4111111111111111}`, `{"reference":"{}"}`}, {`{"order":{"payment":{"id":"4111111111111111"}}}`, `{"order":{"payment":{"id":"{}"}}}`},
		{`{"order":{"card":{"id":"4111111111111111"}}}`, `{"order":{"card":{"id":"{}"}}}`}, {`{"card_order_id":"4111111111111111"}`, `{"card_order_id":"{}"}`}, {`{"card":{"order_id":"4111111111111111"}}`, `{"card":{"order_id":"{}"}}`},
		{"the order 4111111111111111 came", "the order {} came"}, {"card for order no. 4111111111111111", "card for order no. {}"}, {"card of order: 4111111111111111", "card of order: {}"}, {"order no. 4111 1111 1111 1111", "order no. {}"},
		{"order number is 4111111111111111", "order number is {}"}, {"number 4111111111111111", "number {}"}, {"order no. 17, 4111111111111111", "order no. 17, {}"},
	})
}
