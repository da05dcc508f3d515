package quality

import (
	_ "embed"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"unicode/utf8"
)

// numbers are valid numbers of each kind (kind, without separators, as written).
// They were drawn once by python-stdnum and a script of the published algorithms,
// so that the detectors are not measured against themselves.
//
//go:embed data/numbers.tsv
var numbers string

// labels announce a kind of number, in texts and as names of fields.
var labels = map[string][]string{
	"ssn": {"SSN", "social security number", "ssn"},
	"ar":  {"CUIT", "cuil"}, "at": {"SVNR", "sozialversicherungsnummer"}, "au_medicare": {"Medicare", "medicare_number"}, "au_tfn": {"TFN", "tax_file_number"},
	"be": {"rijksregisternummer", "NISS"}, "bg": {"EGN"}, "br_cnpj": {"CNPJ"}, "br_cpf": {"CPF", "cpf_number"}, "ca": {"SIN", "social_insurance_number"},
	"ch": {"AHV", "ahv_nummer"}, "cl": {"RUT"}, "cn": {"resident_id", "身份证号码"}, "cz": {"rodné číslo", "rodne_cislo"}, "de": {"Steuer-ID", "steuer_id", "IdNr"}, "dk": {"CPR", "cpr_nummer"},
	"ee_lt": {"isikukood", "asmens kodas"}, "es": {"DNI", "NIF"}, "fi": {"henkilötunnus", "hetu"}, "fr": {"NIR", "numéro de sécurité sociale"}, "hr": {"OIB"}, "ie": {"PPS", "pps_number"},
	"il": {"teudat zehut"}, "in_aadhaar": {"Aadhaar", "aadhaar_number"}, "in_pan": {"PAN", "pan_number"}, "it": {"codice fiscale", "codiceFiscale"}, "jp": {"mynumber", "個人番号"},
	"kr": {"RRN", "주민등록번호"}, "mx": {"CURP"}, "nl": {"BSN", "burgerservicenummer"}, "no": {"fødselsnummer", "fodselsnummer"}, "pl": {"PESEL"}, "pt": {"NIF", "contribuinte"}, "ro": {"CNP"},
	"se": {"personnummer"}, "sg": {"NRIC", "nric_no"}, "th": {"thai_id"}, "tr": {"TCKN", "kimlik no"}, "uk_nhs": {"NHS number", "nhs_no"}, "uk_nino": {"NINO", "national insurance"}, "za": {"rsa_id"},
}

// Checksummed lists the types whose values have a checksum, which the aim for F1
// is about; and secrets, which it is about too.
func Checksummed() []string {
	out := []string{"card", "iban"}
	for k := range labels {
		if k != "ssn" && k != "dk" && k != "in_pan" && k != "uk_nino" {
			out = append(out, "national_id_"+k)
		}
	}
	return out
}

// Secrets lists the types of credentials.
func Secrets() []string { return []string{"api_key", "jwt", "private_key", "keyed_secret"} }

// generator draws samples from a seed.
type generator struct {
	r      *rand.Rand
	byKind map[string][][2]string
	kinds  []string
	text   strings.Builder
	chars  int
	spans  []Span
}

// Generate makes n samples, the same for the same seed: texts as services return
// them, with values of all types among what only looks like them.
func Generate(seed uint64, n int) []Sample {
	g := &generator{r: rand.New(rand.NewPCG(seed, seed^0x9E3779B97F4A7C15)), byKind: map[string][][2]string{}}
	for _, line := range strings.Split(strings.TrimSpace(numbers), "\n") {
		c := strings.Split(line, "\t")
		if g.byKind[c[0]] == nil {
			g.kinds = append(g.kinds, c[0])
		}
		g.byKind[c[0]] = append(g.byKind[c[0]], [2]string{c[1], c[2]})
	}
	out := make([]Sample, 0, n)
	for i := range n {
		g.text.Reset()
		g.chars, g.spans = 0, nil
		switch i % 4 {
		case 0:
			g.prose()
		case 1:
			g.object()
		case 2:
			g.logLine()
		default:
			g.decoys()
		}
		out = append(out, Sample{g.text.String(), g.spans})
	}
	return out
}

func (g *generator) put(s string) {
	g.text.WriteString(s)
	g.chars += utf8.RuneCountInString(s)
}

// value writes a value and labels it.
func (g *generator) value(kind, s string) {
	from := g.chars
	g.put(s)
	g.spans = append(g.spans, Span{kind, s, from, g.chars})
}

func (g *generator) pick(list ...string) string { return list[g.r.IntN(len(list))] }

func (g *generator) from(alphabet string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[g.r.IntN(len(alphabet))]
	}
	return string(b)
}

const (
	digits = "0123456789"
	hexes  = "0123456789abcdef"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	alnum  = upper + "abcdefghijklmnopqrstuvwxyz" + digits
	base32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
)

// item is a value of some type, how it is announced, and as what.
type item struct{ kind, value, label string }

func (g *generator) item() item {
	switch g.r.IntN(12) {
	case 0, 1, 2, 3: // a personal number
		k := g.kinds[g.r.IntN(len(g.kinds))]
		for labels[k] == nil {
			k = g.kinds[g.r.IntN(len(g.kinds))]
		}
		n := g.byKind[k][g.r.IntN(len(g.byKind[k]))]
		kind := "national_id_" + k
		if k == "ssn" {
			kind = "ssn"
		}
		return item{kind, n[g.r.IntN(2)], g.pick(labels[k]...)}
	case 4, 5:
		n := g.byKind["card"][g.r.IntN(len(g.byKind["card"]))]
		v := n[g.r.IntN(2)]
		if g.r.IntN(4) == 0 {
			v = strings.ReplaceAll(n[1], " ", "-")
		}
		return item{"card", v, g.pick("card", "card_number", "paid with", "number", "payment")}
	case 6:
		n := g.byKind["iban"][g.r.IntN(len(g.byKind["iban"]))]
		return item{"iban", n[g.r.IntN(2)], g.pick("IBAN", "account", "transfer to", "iban")}
	case 7:
		return item{"email", g.pick("jane", "o'brien", "max.mustermann", "a.b+tag", "x_y-z") + g.from(digits, g.r.IntN(3)) + "@" + g.pick("example.com", "mail.example.co.uk", "firma-gmbh.de", "sub.domain.example.org"), g.pick("email", "contact", "reply to")}
	case 8:
		return item{"phone", g.pick("+49 30 "+g.pick("901820", "23125000"), "+1 415-555-2671", "+44 20 8366 1177", "+33 1 42 68 53 00", "+39 06 6982 1234", "+91 98765 43210", "+81 3-3213-1111"), g.pick("call", "phone", "reach us at")}
	case 9:
		return item{"ip", g.pick(
			fmt.Sprintf("%d.%d.%d.%d", 11+g.r.IntN(200), g.r.IntN(256), g.r.IntN(256), 1+g.r.IntN(254)),
			fmt.Sprintf("2001:db8:%x:%x::%x", 1+g.r.IntN(60000), 1+g.r.IntN(60000), 1+g.r.IntN(60000))), g.pick("from", "client", "peer", "remote_addr")}
	case 10:
		return g.secret()
	}
	return item{"keyed_secret", g.from(alnum, 24), g.pick("client_secret", "db_password", "api token", "access_token", "PASSWORD")}
}

// secret draws a credential as its issuer documents the form.
func (g *generator) secret() item {
	b64 := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	switch g.r.IntN(14) {
	case 0:
		return item{"jwt", b64(`{"alg":"RS256","typ":"JWT"}`) + "." + b64(`{"sub":"`+g.from(digits, 10)+`"}`) + "." + g.from(alnum, 43), "session"}
	case 1:
		return item{"private_key", "-----BEGIN PRIVATE KEY-----\n" + g.from(alnum, 64) + "\n" + g.from(alnum, 48) + "==\n-----END PRIVATE KEY-----", "file"}
	}
	v := g.pick(
		"AKIA"+g.from(base32, 16), "ghp_"+g.from(alnum, 36), "gho_"+g.from(alnum, 36), "glpat-"+g.from(alnum, 20), "sk_live_"+g.from(alnum, 24), "rk_live_"+g.from(alnum, 24),
		"xoxb-"+g.from(digits, 12)+"-"+g.from(digits, 12)+"-"+g.from(alnum, 24), "AIza"+g.from(alnum, 35), "SG."+g.from(alnum, 22)+"."+g.from(alnum, 43), "npm_"+g.from(alnum, 36),
		"dop_v1_"+g.from(hexes, 64), "hf_"+g.from(upper+strings.ToLower(upper), 34), "shpat_"+g.from(hexes, 32), "sk-ant-api03-"+g.from(alnum, 93)+"AA", "hvs."+g.from(alnum, 95),
		"dapi"+g.from(hexes, 32), "pul-"+g.from(hexes, 40), "lin_api_"+g.from(alnum, 40), "NRAK-"+g.from(upper+digits, 27), "rubygems_"+g.from(hexes, 48),
		"dckr_pat_"+g.from(alnum, 27), "EAAC"+g.from(alnum, 120), "xkeysib-"+g.from(hexes, 64)+"-"+g.from(alnum, 16), "PMAK-"+g.from(hexes, 24)+"-"+g.from(hexes, 34))
	return item{"api_key", v, g.pick("using", "export", "seen in the log", "header")}
}

// decoy is what only looks like a value.
func (g *generator) decoy() (name, value string) {
	switch g.r.IntN(23) {
	case 0:
		h := g.from(hexes, 32)
		return "id", h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-a" + h[17:20] + "-" + h[20:]
	case 1:
		return "commit", g.from(hexes, 40)
	case 2:
		return "trace_id", g.from(hexes, 32)
	case 3:
		return "created_at", fmt.Sprintf("20%02d-%02d-%02dT%02d:%02d:%02d.%03dZ", 10+g.r.IntN(20), 1+g.r.IntN(12), 1+g.r.IntN(28), g.r.IntN(24), g.r.IntN(60), g.r.IntN(60), g.r.IntN(1000))
	case 4:
		return "ts", fmt.Sprint(1_500_000_000_000 + g.r.Int64N(700_000_000_000))
	case 5:
		return "nanos", fmt.Sprint(1_500_000_000_000_000_000 + g.r.Int64N(700_000_000_000_000_000))
	case 6:
		return "price", fmt.Sprintf("%d.%02d", g.r.IntN(100000), g.r.IntN(100))
	case 7:
		return "total", fmt.Sprintf("%d,%03d,%03d.%02d EUR", 1+g.r.IntN(99), g.r.IntN(1000), g.r.IntN(1000), g.r.IntN(100))
	case 8:
		return "order", fmt.Sprintf("ORD-20%02d-%06d", 10+g.r.IntN(20), g.r.IntN(1000000))
	case 9:
		return "order_id", fmt.Sprintf("%03d-%07d-%07d", g.r.IntN(1000), g.r.IntN(10000000), g.r.IntN(10000000))
	case 10:
		return "order_id", g.from("456", 1) + g.from(digits, 15)
	case 11:
		return "isbn", "978-" + g.pick("3-16", "0-306", "1-86197") + "-" + g.from(digits, 6) + "-" + g.from(digits, 1)
	case 12:
		return "ean", "40" + g.from(digits, 11)
	case 13:
		return "version", fmt.Sprintf("%d.%d.%d.%d", g.r.IntN(20), g.r.IntN(20), g.r.IntN(1000), g.r.IntN(10))
	case 14:
		return "mac", strings.Join([]string{g.from(hexes, 2), g.from(hexes, 2), g.from(hexes, 2), g.from(hexes, 2), g.from(hexes, 2), g.from(hexes, 2)}, ":")
	case 15:
		return "image", "data:image/png;base64," + base64.StdEncoding.EncodeToString([]byte(g.from(alnum, 60)))
	case 16:
		return "url", "https://shop.example.com/items/" + g.from(digits, 9) + "?page=" + g.from(digits, 2)
	case 17: // a card whose last digit is wrong
		n := g.byKind["card"][g.r.IntN(len(g.byKind["card"]))][0]
		return "reference", n[:len(n)-1] + string('0'+(n[len(n)-1]-'0'+1+byte(g.r.IntN(9)))%10)
	case 18: // an IBAN whose last two are exchanged, where they differ
		n := g.byKind["iban"][g.r.IntN(len(g.byKind["iban"]))][0]
		l := len(n)
		if n[l-1] == n[l-2] {
			return "iban_check", "none"
		}
		return "iban_check", n[:l-2] + n[l-1:] + n[l-2:l-1]
	case 19:
		return "next_page_token", g.from(alnum, 32)
	case 21:
		return g.pick("merchant_order_id", "order no.", "invoice number", "tracking number", "orderReference"), g.from("456", 1) + g.from(digits, 15)
	case 20:
		return "count", g.from(digits[1:], 9+g.r.IntN(3))
	}
	return "sha256", g.from(hexes, 64)
}

// phrases hold nothing.
var phrases = []string{
	"The parcel was late again, by 3.5 days.", "Please ring twice; reception closes at 18:30.", "Step 2 of 5 is done (40%).", "We ship to 27 countries, see https://example.com/t/12.",
	"Le colis est arrivé à 9h45.", "Die Lieferung kam am 12.11.2026 um 10:00 Uhr.", "Rated 4.7 of 5 by 1,204 people.", "Use std::vector and a::b.", "Aspect ratio 16:9, 1920x1080 @ 60Hz.",
	"Room 12-345, floor 6.", "See RFC 9457, section 3.1.", "It costs $1,299.00 or €1.199,00.", "token ring networks are old", "password reset is under settings",
}

func (g *generator) prose() {
	for range 1 + g.r.IntN(3) {
		g.put(phrases[g.r.IntN(len(phrases))] + " ")
		it := g.item()
		sign := g.pick(": ", " ", ": ")
		if it.kind == "keyed_secret" {
			sign = g.pick(": ", "=") // a name and its value
		}
		g.put(it.label + sign)
		g.value(it.kind, it.value)
		g.put(g.pick(". ", " ok. ", ", thanks. ", "\n"))
	}
}

// object writes a JSON object. Values of several lines would need escapes, which
// labels can't point into.
func (g *generator) object() {
	g.put(`{"id":`)
	g.put(fmt.Sprint(g.r.IntN(100000)))
	for range 2 + g.r.IntN(4) {
		if g.r.IntN(2) == 0 {
			name, v := g.decoy()
			g.put(`,"` + name + `":"` + v + `"`)
			continue
		}
		it := g.item()
		if strings.ContainsAny(it.value, "\n") {
			continue
		}
		g.put(`,"` + it.label + `":"`)
		g.value(it.kind, it.value)
		g.put(`"`)
	}
	g.put("}")
}

func (g *generator) logLine() {
	_, ts := "", fmt.Sprintf("2026-11-%02dT%02d:%02d:%02dZ", 1+g.r.IntN(28), g.r.IntN(24), g.r.IntN(60), g.r.IntN(60))
	g.put(ts + " INFO [worker-" + g.from(digits, 2) + "] ")
	for range 1 + g.r.IntN(3) {
		if g.r.IntN(2) == 0 {
			name, v := g.decoy()
			g.put(name + "=" + v + " ")
			continue
		}
		it := g.item()
		g.put(strings.ReplaceAll(it.label, " ", "_") + "=")
		g.value(it.kind, it.value)
		g.put(" ")
	}
	g.put("done")
}

func (g *generator) decoys() {
	for range 4 {
		name, v := g.decoy()
		g.put(name + g.pick(": ", " ", "=") + v + g.pick(" ", "; ", "\n"))
	}
}
