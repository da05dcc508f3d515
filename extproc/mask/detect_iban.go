package mask

// ibanForms has the account part of each country's IBAN, in the notation of the
// SWIFT registry: n digits, a upper-case letters, c either.
func ibanForms() map[string]string {
	return map[string]string{
		"AD": "8n12c", "AE": "19n", "AL": "8n16c", "AT": "16n", "AZ": "4a20c",
		"BA": "16n", "BE": "12n", "BG": "4a6n8c", "BH": "4a14c", "BI": "23n",
		"BR": "23n1a1c", "BY": "4c4n16c", "CH": "5n12c", "CR": "18n", "CY": "8n16c",
		"CZ": "20n", "DE": "18n", "DJ": "23n", "DK": "14n", "DO": "4c20n",
		"EE": "16n", "EG": "25n", "ES": "20n", "FI": "14n", "FK": "2a12n",
		"FO": "14n", "FR": "10n11c2n", "GB": "4a14n", "GE": "2a16n", "GI": "4a15c",
		"GL": "14n", "GR": "7n16c", "GT": "24c", "HN": "4a20n", "HR": "17n",
		"HU": "24n", "IE": "4a14n", "IL": "19n", "IQ": "4a15n", "IS": "22n",
		"IT": "1a10n12c", "JO": "4a4n18c", "KW": "4a22c", "KZ": "3n13c", "LB": "4n20c",
		"LC": "4a24c", "LI": "5n12c", "LT": "16n", "LU": "3n13c", "LV": "4a13c",
		"LY": "21n", "MC": "10n11c2n", "MD": "20c", "ME": "18n", "MK": "3n10c2n",
		"MN": "16n", "MR": "23n", "MT": "4a5n18c", "MU": "4a19n3a", "NI": "4a20n",
		"NL": "4a10n", "NO": "11n", "OM": "3n16c", "PK": "4a16c", "PL": "24n",
		"PS": "4a21c", "PT": "21n", "QA": "4a21c", "RO": "4a16c", "RS": "18n",
		"RU": "14n15c", "SA": "2n18c", "SC": "4a20n3a", "SD": "14n", "SE": "20n",
		"SI": "15n", "SK": "20n", "SM": "1a10n12c", "SO": "19n", "ST": "21n",
		"SV": "4a20n", "TL": "19n", "TN": "20n", "TR": "6n16c", "UA": "6n19c",
		"VA": "18n", "VG": "4a16n", "XK": "16n", "YE": "4a4n18c",
	}
}

// ibanForm is ibanForms with each form written out, one letter a character, and
// indexed by the two letters of the country. It is constant data.
var ibanForm = func() (t [26 * 26]string) {
	for country, form := range ibanForms() {
		out, n := []byte(nil), 0
		for _, c := range []byte(form) {
			if isDigit(c) {
				n = n*10 + int(c-'0')
				continue
			}
			for ; n > 0; n-- {
				out = append(out, c)
			}
		}
		t[int(country[0]-'A')*26+int(country[1]-'A')] = string(out)
	}
	return t
}()

// ibanAt returns the range of the IBAN whose check digits begin at i, or to == 0.
// Spaces or dashes may stand between any two characters; the country's form and
// length, both ends, and the checksum of ISO 7064 decide.
func ibanAt(b []byte, i int) (from, to int) {
	p := i - 1
	if b[p] == ' ' || b[p] == '-' {
		p--
	}
	if p < 1 || !isLetter(b[p]) || !isLetter(b[p-1]) || i+1 >= len(b) || !isDigit(b[i+1]) {
		return 0, 0
	}
	c0, c1 := b[p-1]&^0x20, b[p]&^0x20
	form := ibanForm[int(c0-'A')*26+int(c1-'A')]
	if form == "" {
		return 0, 0
	}
	if from = p - 1; from > 0 && isAlnum(b[from-1]) {
		// "IBAN" may be glued to it, anything else makes it some other word.
		if from < 4 || string(normalKey(nil, b[from-4:from])) != "iban" {
			return 0, 0
		}
	}
	rem := 0
	j := i + 2
	for k := range len(form) {
		for n := 0; n < 3 && j < len(b) && (b[j] == ' ' || b[j] == '-' || b[j] == '.' || b[j] == '\t'); n++ {
			j++
		}
		if j >= len(b) {
			return 0, 0
		}
		c := b[j]
		switch {
		case isDigit(c) && form[k] != 'a':
			rem = (rem*10 + int(c-'0')) % 97
		case isLetter(c) && form[k] != 'n':
			rem = (rem*100 + int(c&^0x20-'A'+10)) % 97
		default:
			return 0, 0
		}
		j++
	}
	if alnumAt(b, j) {
		return 0, 0
	}
	for _, c := range [...]byte{c0, c1} {
		rem = (rem*100 + int(c-'A'+10)) % 97
	}
	check := int(b[i]-'0')*10 + int(b[i+1]-'0')
	if check < 2 || check > 98 || (rem*100+check)%97 != 1 {
		return 0, 0
	}
	return from, j
}
