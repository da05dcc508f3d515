package mask

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// detect masks text with one set of detectors, in brackets so that ends show.
func detect(t *testing.T, m *Masker, in string) string {
	t.Helper()
	out, _, err := m.Text([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// hides checks that each input is changed into want, in which {} stands for the
// replacement; shows that each stays.
func hides(t *testing.T, m *Masker, kind string, cases [][2]string) {
	t.Helper()
	for _, c := range cases {
		want := strings.ReplaceAll(c[1], "{}", "[redacted:"+kind+"]")
		if got := detect(t, m, c[0]); got != want {
			t.Errorf("%q: got %q, want %q", c[0], got, want)
		}
	}
}

func shows(t *testing.T, m *Masker, cases ...string) {
	t.Helper()
	for _, c := range cases {
		if got := detect(t, m, c); got != c {
			t.Errorf("%q: got %q, want it unchanged", c, got)
		}
	}
}

// The test numbers that the schemes and payment providers publish.
func TestCards(t *testing.T) {
	m := detecting(t, "card")
	for _, n := range []string{
		"4111111111111111", "4242424242424242", "4012888888881881", "4000056655665556", // Visa
		"5555555555554444", "5105105105105100", "2223003122003222", "2221000000000009", "2720999999999996", // Mastercard
		"378282246310005", "371449635398431", "378734493671000", "341111111111111", // American Express
		"6011111111111117", "6011000990139424", "6500000000000002", // Discover
		"30569309025904", "38520000023237", "36227206271667", // Diners Club
		"3530111333300000", "3566002020360505", // JCB
		"6200000000000005", "6205500000000000004", // UnionPay
		"6759649826438453", "6304000000000000", // Maestro
		"2200000000000053", "2201382000000013", // Mir
		"6521111111111110", // RuPay
	} {
		hides(t, m, "card", [][2]string{{n, "{}"}, {"no. " + n + ".", "no. {}."}, {`{"a":` + n + `}`, `{"a":"{}"}`}})
	}
	hides(t, m, "card", [][2]string{
		{"4111 1111 1111 1111", "{}"},
		{"4111-1111-1111-1111", "{}"},
		{"4111.1111.1111.1111", "{}"},
		{"4111 - 1111 - 1111 - 1111", "{}"},
		{"4111\u00a01111\u00a01111\u00a01111", "{}"},
		{"4111\u20131111\u20141111\u22121111", "{}"},
		{"41111111 11111111", "{}"},
		{"411111 1111111111", "{}"},
		{"41 11 11 11 11 11 11 11", "{}"},
		{"4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "{}"},
		{"3782 822463 10005", "{}"},
		{"3782 8224 6310 005", "{}"},
		{"3056 930902 5904", "{}"},
		{"6205 5000 0000 0000 004", "{}"},
		{"card: 41 1111 11111-1111 1", "card: {}"},
		{"cc4111111111111111", "cc{}"},
		{"4222 2222 2222 2", "{}"}, // 13 digits, as printed
		{"card 4222222222222", "card {}"},
		{"４１１１１１１１１１１１１１１１", "{}"},
		{"٤١١١١١١١١١١١١١١١", "{}"},
		{"𝟒𝟙𝟣𝟭𝟷11111111111", "{}"},
		{"४१११ ११११ ११११ ११११", "{}"},
		{"④①①①①①①①①①①①①①①①", "{}"},
		{"4\u200b111\u00ad1111\u20601111\ufeff1111", "{}"},
		{"4️⃣111111111111111", "{}"},
		{"卡号4111111111111111号", "卡号{}号"},
		{"card4111111111111111x", "card{}x"},
		{"id_4111111111111111", "id_{}"},
		{"17 4111 1111 1111 1111 12/27 123", "17 {} 12/27 123"},
		{"1001 4111 1111 1111 1111", "1001 {}"},
		{"4111 1111 1111 1111 123", "{} 123"},
		{"4111111111111111 5555555555554444", "{} {}"},
		{"4111111111111111,5555555555554444", "{},{}"},
		{"4111111111111111\n5555555555554444", "{}\n{}"},
		{"-4111111111111111", "-{}"},
	})
	shows(t, m,
		"4111111111111112",                                         // Luhn
		"9111111111111111", "0000000000000000", "1111111111111117", // issuer
		"14111111111111111", "41111111111111110", "9994111111111111111999", // inside a longer run
		"0.4111111111111111", "12.4111111111111111",
		"1700000000000", "1732377600123", "1732377600123456", "1732377600123456789", // epochs
		"2024-11-23 16:20:00.123456789", "2026-11-23T12:16:00.000000000Z", "20261123121600",
		"4242424242424", "4006381333931", // 13 digits: an EAN
		"4000000000000000006",                        // a 63-bit id that passes Luhn
		"402-1234567-1234567", "112-7654321-7654321", // order numbers
		"ORD-2024-000123", "INV/2024/11/000042", "19.99", "1,234,567.89", "192.168.100.200",
		"da39a3ee5e6b4b0d3255bfef95601890afd80709", "e4111111111111111f0000aa",
		"41111111-1111-4111-8111-111111111111", "a1b2c3d4-4111-1111-1111-111111111111",
		"a378282246310005", "span 378282246310005f",
		`{"card_id":"41111111-1111-1111-a111-111111111111"}`, "5018 0000 0009",
		"4 8 15 16 23 42 4 8 15 16 23", "+49 1512 3456789",
		"4111\n1111\n1111\n1111",
		"3704 0044 0532 0130",
		"DE89 3704 0044 0532 0130 00",
	)
	hides(t, detecting(t, "card"), "card", [][2]string{
		{`{"n":4.111111111111111e15}`, `{"n":"{}"}`},
		{`{"n":4111111111111111.0}`, `{"n":"{}"}`},
		{`{"n":-4111111111111111}`, `{"n":"{}"}`},
		{`{"visa":{"number":4222222222222}}`, `{"visa":{"number":"{}"}}`},
		{`{"n":"\u0034111\u00201111 1111\t1111"}`, `{"n":"{}"}`},
	})
	shows(t, m, `{"n":0.4111111111111111}`, `{"n":41111111111111.11}`, `{"n":4111111111111111.5}`, `{"n":4.111111111111111e-15}`, `{"n":3.782822463100055e14}`, `{"n":4e999999999999}`, `{"n":4222222222222}`)
}

// Every range of issuers is hidden, and lists stay sorted so that lookup works.
func TestIssuersAscend(t *testing.T) {
	last := 0
	for _, r := range issuers() {
		if r.lo > r.hi || r.lo <= last {
			t.Errorf("%d-%d does not follow %d", r.lo, r.hi, last)
		}
		last = r.hi
	}
}

func TestSSN(t *testing.T) {
	m := detecting(t, "ssn")
	hides(t, m, "ssn", [][2]string{
		{"219-09-9998", "{}"},
		{"is 219-09-9998.", "is {}."},
		{"219\u201009\u20109998", "{}"},
		{"２１９-０９-９９９８", "{}"},
		{"219 - 09 - 9998", "{}"},
		{"SSN 219 09 9998", "SSN {}"},
		{"SSN: 219099998", "SSN: {}"},
		{"social security number 219099998", "social security number {}"},
		{"SSN-219-09-9998", "SSN-{}"},
		{`{"ssn":"219099998"}`, `{"ssn":"{}"}`},
		{`{"SSN":219099998}`, `{"SSN":"{}"}`},
		{`{"ssn":1099998}`, `{"ssn":"{}"}`}, // 001-09-9998
		{`{"user":{"social_security_number":{"value":"219 09 9998"}}}`, `{"user":{"social_security_number":{"value":"{}"}}}`},
	})
	shows(t, m,
		"000-12-3456", "666-12-3456", "900-12-3456", "999-12-3456", "219-00-9998", "219-09-0000",
		"219099998", "219 09 9998", "219.09.9998", "1-219-09-9998", "219-09-9998-1", "219-09-99981", "2219-09-9998",
		"ORD-219-09-9998", "219-09-9998-A", "A219-09-9998", "2024-09-9998", "219-9-9998", "219-09 9998",
		`{"classname":"219099998"}`, `{"id":219099998}`, `{"ssn":12}`, `{"ssn":"unknown"}`,
	)
}

func TestEmail(t *testing.T) {
	m := detecting(t, "email")
	hides(t, m, "email", [][2]string{
		{"jane@example.com", "{}"},
		{"<jane.doe+x@mail.example.co.uk>,", "<{}>,"},
		{"Write to 'jane@example.com'.", "Write to '{}'."},
		{"a=1&email=jane@example.com&b=2", "a=1&email={}&b=2"},
		{"mailto:o'brien_1@example.org?x", "mailto:{}?x"},
		{"jane@example.com. Next", "{}. Next"},
		{"jane＠example．com", "{}"},
		{"ja\u200bne@exam\u00adple.com", "{}"},
		{"müller@exämple.de", "{}"},
		{"邮箱jane@example.com请", "邮箱{}请"},
		{"jane@xn--bcher-kva.xn--p1ai", "{}"},
		{"a@b.co;c@d.io", "{};{}"},
		{"a@b@c.com", "a@{}"},
	})
	shows(t, m, "@example.com", "jane@", "jane@example", "jane@1.2", "logo@2x.png", "@scope/pkg@1.2.3", "a @ b.com", "@@@@", "jane@-x.com", "x@y.z1", "@")

	p := mustCompile(t, Spec{Rules: []Rule{{Name: "r", Detect: []string{"email"}, How: Partial}}})
	if got := detect(t, p, "to jane@example.com"); got != "to ***@example.com" {
		t.Errorf("partial: %s", got)
	}
}

// The examples of the SWIFT registry and of national banks.
func TestIBAN(t *testing.T) {
	m := detecting(t, "iban")
	for _, n := range []string{
		"AD1200012030200359100100", "AE070331234567890123456", "AL47212110090000000235698741", "AT611904300234573201",
		"BE68539007547034", "BG80BNBG96611020345678", "BR1800360305000010009795493C1", "CH9300762011623852957",
		"CY17002001280000001200527600", "CZ6508000000192000145399", "DE89370400440532013000", "DK5000400440116243",
		"EE382200221020145685", "ES9121000418450200051332", "FI2112345600000785", "FR1420041010050500013M02606",
		"GB29NWBK60161331926819", "GR1601101250000000012300695", "HR1210010051863000160", "HU42117730161111101800000000",
		"IE29AIBK93115212345678", "IL620108000000099999999", "IS140159260076545510730339", "IT60X0542811101000000123456",
		"LI21088100002324013AA", "LT121000011101001000", "LU280019400644750000", "LV80BANK0000435195001",
		"MC5811222000010123456789030", "MT84MALT011000012345MTLCAST001S", "NL91ABNA0417164300", "NO9386011117947",
		"PL61109010140000071219812874", "PT50000201231234567890154", "RO49AAAA1B31007593840000", "SA0380000000608010167519",
		"SE4550000000058398257466", "SI56191000000123438", "SK3112000000198742637541", "SM86U0322509800000000270100",
		"TR330006100519786457841326", "UA213223130000026007233566001", "VG96VPVG0000012345678901", "XK051212012345678906",
	} {
		var grouped []string
		for i := 0; i < len(n); i += 4 {
			grouped = append(grouped, n[i:min(i+4, len(n))])
		}
		hides(t, m, "iban", [][2]string{
			{n, "{}"},
			{"to " + strings.Join(grouped, " ") + " or", "to {} or"},
			{strings.Join(grouped, "-") + ".", "{}."},
			{strings.ToLower(n), "{}"},
			{`{"a":"` + n + `"}`, `{"a":"{}"}`},
		})
		// One digit changed breaks the checksum.
		last := n[:len(n)-1] + string('0'+(n[len(n)-1]-'0'+1)%10)
		if isDigit(n[len(n)-1]) {
			shows(t, m, last)
		}
		shows(t, m, n+"7", "X"+n)
	}
	hides(t, m, "iban", [][2]string{
		{"IBANDE89370400440532013000", "IBAN{}"},
		{"ＤＥ８９３７０４００４４０５３２０１３０００", "{}"},
		{"DE89\u00a03704\u00a00044\u00a00532\u00a00130\u00a000", "{}"},
		{"DE 89 3704 0044 0532 0130 00", "{}"},
	})
	shows(t, m, "DE8937040044053201300", "XX89370400440532013000", "DE00370400440532013000", "de89", "DE89")
	// Taken for an IBAN, it is not searched for cards either.
	shows(t, detecting(t, "card"), "GB29 NWBK 6016 1331 9268 19")
}

func TestSecrets(t *testing.T) {
	m := detecting(t, "secret")
	// Built from parts, so that this file doesn't look like a leak itself.
	r := strings.Repeat
	hides(t, m, "api_key", [][2]string{
		{"AKIA" + "IOSFODNN7EXAMPLE", "{}"},
		{"key=ASIA" + "IOSFODNN7EXAMPLE;", "key={};"},
		{"aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "EXAMPLEKEY", "aws_secret_access_key = {}"},
		{`{"SecretAccessKey":"wJalrXUtnFEMI/K7MDENG/bPxRfiCY` + `EXAMPLEKEY"}`, `{"SecretAccessKey":"{}"}`},
		{"AWS_SECRET_ACCESS_KEY='wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "EXAMPLEKEY'", "AWS_SECRET_ACCESS_KEY='{}'"},
		{"ghp_" + r("aB3", 12), "{}"},
		{"xghp_" + r("aB3", 12) + "zz.", "x{}."},
		{"github_pat_" + r("aB3_", 20), "{}"},
		{"glpat-" + r("aB3-", 5), "{}"},
		{"xoxb-" + "123456789012-123456789012-" + r("aB3", 8), "{}"},
		{"xapp-1-" + r("A1", 20), "{}"},
		{"https://hooks.slack.com/services/T00000000/B00000000/" + r("X", 24), "https://hooks.slack.com/services/{}"},
		{"sk_live_" + r("4eC3", 6), "{}"},
		{"rk_test_" + r("4eC3", 6), "{}"},
		{"whsec_" + r("4eC3", 8), "{}"},
		{"AIza" + r("SyA-_", 7), "{}"},
		{"GOCSPX-" + r("aB3-", 7), "{}"},
		{"sk-" + r("aB3", 16), "{}"},
		{"sk-proj-" + r("aB3_", 30), "{}"},
		{"sk-ant-api03-" + r("aB3-", 24) + "AA", "{}"},
		{"hf_" + r("aB", 17), "{}"},
		{"npm_" + r("aB3", 12), "{}"},
		{"SG." + r("a", 22) + "." + r("b", 43), "{}"},
		{"hvs." + r("aB3", 10), "{}"},
		{"postgres://user:p%40ss@db.local/x", "postgres://user:{}@db.local/x"},
		{"AccountKey=" + r("a", 86) + "==;", "AccountKey={};"},
		{"sk-ant-" + r("x", 2000) + " y", "{} y"},
	})
	hides(t, m, "jwt", [][2]string{
		{"Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0." + r("s", 43) + ",", "Bearer {},"},
		{"_eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", "_{}"},
		{"eyJhbGciOiJSU0EtT0FFUCJ9.a234.b234.c234.d234 x", "{} x"},
		{"eyJx eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "eyJx {}"},
		{"eyJhbGciOiJkaXIifQ..b234.c234.d234. x", "{}. x"},
		{"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln.", "{}."},
	})
	pem := "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----"
	hides(t, m, "private_key", [][2]string{
		{"a\n" + pem + "\nb", "a\n{}\nb"},
		{"a " + pem[:50], "a {}"},
		{`{"k":"` + strings.ReplaceAll(pem, "\n", `\n`) + `\n"}`, `{"k":"{}\n"}`},
		{strings.Replace(pem, "RSA", "OPENSSH", 1), "{}"},
		{"-----BEGIN PGP PRIVATE KEY BLOCK-----\nx\n-----END PGP PRIVATE KEY BLOCK-----", "{}"},
		{"AGE-SECRET-KEY-1" + r("Q", 58), "{}"},
	})
	shows(t, m,
		"-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----", "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----", "----------",
		"AKIASHORT", "task-force-one-is-on-the-case-tomorrow", "desk-"+r("a", 40), "ghp_short", "https://example.com:8080/a@b", "https://a.b/c?d=e:f@g",
		"eyJhbGciOiJIUzI1NiJ9", "eyJ.eyJ.x", "the secretary's key: none", "sk-learn", "key-value", "SG.x",
	)

	p := mustCompile(t, Spec{Rules: []Rule{{Name: "r", Detect: []string{"secret"}, How: Partial}}})
	hides(t, p, "private_key", [][2]string{{pem, "{}"}, {pem[:50] + "secret", "{}"}, {"AKIA" + "IOSFODNN7EXAMPLE", "****MPLE"}})

	_, f, err := m.Text([]byte("ghp_" + r("aB3", 12)))
	if err != nil || len(f) != 1 || f[0].Type != "api_key" || f[0].Detail != "github_token" {
		t.Errorf("findings %+v, %v", f, err)
	}
}

// Every rule of the table, gitleaks' among them, has a pattern that compiles and
// literals to look for.
func TestSecretTable(t *testing.T) {
	for _, r := range secrets().rules {
		if len(r.literals) == 0 || r.name == "" {
			t.Errorf("%+v: no literals or no name", r)
		}
		for _, l := range r.literals {
			if len(l) < 3 {
				t.Errorf("%s: literal %q has less than three bytes", r.name, l)
			}
		}
		if r.pattern != "" && r.re().NumSubexp() < r.group {
			t.Errorf("%s: no group %d", r.name, r.group)
		}
	}
	for _, r := range secrets().keyed {
		if r.re(); len(r.words) == 0 {
			t.Errorf("%s: no words", r.name)
		}
	}
	if n := len(secrets().rules) + len(secrets().keyed); n < 220 {
		t.Errorf("%d rules, of gitleaks' and our own", n)
	}
	for id := range gitleaksSkipped {
		if !bytes.Contains(gitleaksData, []byte("id = \""+id+"\"\n")) {
			t.Errorf("gitleaks has no rule %s any more; remove it from those skipped", id)
		}
	}
}

// No detector may take ordinary identifiers for secrets.
func TestNoFalseAlarms(t *testing.T) {
	m := detecting(t, "all")
	for i := range 3000 {
		h := fmt.Sprintf("%016x%016x%08x", mix(uint64(i)), mix(uint64(i)+1e6), uint32(mix(uint64(i)+2e6)))
		uuid := h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-8" + h[17:20] + "-" + h[20:32]
		ms := 1_500_000_000_000 + mix(uint64(i))%700_000_000_000 // 2017 to 2039
		shows(t, m,
			fmt.Sprintf("%s-%d", h[:16], i), fmt.Sprintf("%012d-%04d", mix(uint64(i))%1e12, i),
			"commit "+h, "md5 "+h[:32], "trace "+h[:32]+" span "+h[32:], uuid,
			fmt.Sprint(ms), fmt.Sprint(ms*1000), fmt.Sprint(ms*1_000_000),
			fmt.Sprintf(`{"price":%d.%02d,"ratio":0.%016d,"ts":%d}`, i*7919%100000, i%100, mix(uint64(i))%1e16, ms),
			fmt.Sprintf("ORD-%d-%06d", 2000+i%30, i), fmt.Sprintf("%03d-%07d-%07d", 100+i%900, mix(uint64(i))%1e7, mix(uint64(i)+7)%1e7),
		)
	}
}

// mix is SplitMix64: numbers that look random and never change.
func mix(x uint64) uint64 {
	x += 0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}
