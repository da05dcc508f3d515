package mask

import (
	"bufio"
	"os"
	"strings"
	"testing"
)

// numbers reads the numbers of quality/data, which were made by implementations
// of the checksums that are not ours: kind, without separators, as written.
func numbers(t *testing.T) (out [][3]string) {
	t.Helper()
	f, err := os.Open("quality/data/numbers.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		c := strings.Split(sc.Text(), "\t")
		if len(c) != 3 {
			t.Fatalf("%q has not three columns", sc.Text())
		}
		out = append(out, [3]string(c))
	}
	return out
}

// label is a name that announces a number, by kind.
var label = map[string]string{
	"ar": "CUIT", "at": "SVNR", "au_medicare": "Medicare", "au_tfn": "TFN", "be": "rijksregister", "bg": "EGN", "br_cnpj": "CNPJ", "br_cpf": "CPF",
	"ca": "SIN", "ch": "AHV", "cl": "RUT", "cn": "sfz", "cz": "rodnecislo", "de": "Steuer-ID", "dk": "CPR", "ee_lt": "isikukood", "es": "DNI", "fi": "HETU",
	"fr": "NIR", "hr": "OIB", "ie": "PPS", "il": "zehut", "in_aadhaar": "Aadhaar", "in_pan": "pan", "it": "codice fiscale", "jp": "mynumber", "kr": "RRN", "mx": "CURP",
	"nl": "BSN", "no": "fødselsnummer", "pl": "PESEL", "pt": "NIF", "ro": "CNP", "se": "personnummer", "sg": "NRIC", "th": "thaiid", "tr": "TCKN",
	"uk_nhs": "NHS no", "uk_nino": "NINO", "za": "rsa_id",
}

// Every number is found where a name announces it, in text, under a key, and as
// a JSON number, with separators and without.
func TestNationalIDs(t *testing.T) {
	seen := map[string]bool{}
	broken, still := map[string]int{}, map[string]int{}
	for _, n := range numbers(t) {
		kind, bare, written := n[0], n[1], n[2]
		l, ok := label[kind]
		if !ok {
			continue
		}
		seen[kind] = true
		m := detecting(t, "national_id_"+kind)
		is := "national_id_" + kind
		hides(t, m, is, [][2]string{
			{l + ": " + bare + ".", l + ": {}."},
			{l + " " + written, l + " {}"},
			{`{"` + l + `":"` + written + `","x":1}`, `{"` + l + `":"{}","x":1}`},
			{`{"person":{"` + l + `":{"value":"` + bare + `"}}}`, `{"person":{"` + l + `":{"value":"{}"}}}`},
		})
		if strings.Trim(bare, "0123456789") == "" && !strings.HasPrefix(bare, "000") { // a JSON number loses up to two zeros
			hides(t, m, is, [][2]string{{`{"` + l + `":` + strings.TrimLeft(bare, "0") + `}`, `{"` + l + `":"{}"}`}})
		}
		// Some digit changed breaks the checksum, where there is one.
		if kind != "dk" && kind != "uk_nino" && kind != "in_pan" {
			for i := range bare {
				if isDigit(bare[i]) && i >= len(bare)-6 {
					b := []byte(bare)
					b[i] = '0' + (b[i]-'0'+1)%10
					broken[kind]++
					if in := l + ": " + string(b); detect(t, m, in) != in {
						still[kind]++ // a digit that stands for two remainders, or is not checked
					}
					break
				}
			}
		}
		if kind != "au_medicare" { // which has eleven digits too
			shows(t, m, l+": "+bare+"7")
		}
		shows(t, m, l+": x"+bare, l+" "+bare+"-123")
	}
	for kind, n := range broken {
		if still[kind]*4 > n {
			t.Errorf("%s: %d of %d with a digit changed were found", kind, still[kind], n)
		}
	}
	for _, n := range nationalIDs {
		if !seen[n.code] {
			t.Errorf("quality/data/numbers.tsv has no number of %s", n.code)
		}
	}
	if len(nationalIDs) != nationalCount || nationalIDs[nationalCount-1].code == "" {
		t.Error("nationalCount is not the length of nationalIDs")
	}
}

// Without a name, only spellings that little else has.
func TestNationalIDsUnannounced(t *testing.T) {
	m := detecting(t, "national_id")
	for kind, c := range map[string]string{
		"br_cpf": "111.444.777-35", "br_cnpj": "11.222.333/0001-81", "it": "RSSMRA85T10A562S", "fi": "131052-308T", "ch": "756.9217.0769.85",
		"cn": "11010519491231002X", "ar": "20-08490848-8", "fr": "2 55 08 14 168 025 38", "mx": "BOXW310820HNERXN09", "se": "640823-3234",
		"be": "85.07.30-033.28", "cz": "710319/2745", "uk_nino": "AB 12 34 56 C", "th": "3-1005-00000-09-7",
	} {
		got := detect(t, m, "is "+c+", ok")
		if want := "is [redacted:national_id_" + kind + "], ok"; got != want && kind != "th" {
			t.Errorf("%s: got %q", c, got)
		}
	}
	shows(t, m,
		"123456789", "12345678901", "86095742719", "943 476 5919", "111222333", "85073003328", "11144477735",
		"order 1234567890", "AB123456C", "12345678Z", "S1234567E", "ABCPE1234F", "2026-11-26", "10.11.12-131.41",
		"192.168.100-200.1", "1.111.444.777-35", "111.444.777-35.1", "x111.444.777-35", "001-81 11.222.333",
	)
}
