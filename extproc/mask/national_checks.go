package mask

import "strings"

// The checks of nationalIDs. Each takes the number without separators, in the
// form that the table gives, and tells whether it can be one.

func digit(b []byte, i int) int { return int(b[i] - '0') }

// number is the value of up to 18 digits.
func number(b []byte) (n int) {
	for _, c := range b {
		n = n*10 + int(c-'0')
	}
	return n
}

// weighted is the sum of the first digits times the weights.
func weighted(b []byte, weights ...int) (sum int) {
	for i, w := range weights {
		sum += digit(b, i) * w
	}
	return sum
}

// day tells whether a month and a day of it exist in some year.
func day(month, day int) bool {
	if month < 1 || month > 12 || day < 1 {
		return false
	}
	return day <= [...]int{31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}[month-1]
}

// same tells whether all digits are equal, which many checksums let pass.
func same(b []byte) bool { return strings.Count(string(b), string(b[:1])) == len(b) }

func luhnText(b []byte) bool {
	var d [24]byte
	for i, c := range b {
		d[i] = c - '0'
	}
	return luhn(d[:len(b)])
}

// mod1110 is ISO 7064 MOD 11,10 over digits, the last of which checks.
func mod1110(b []byte) bool {
	p := 10
	for i := range len(b) - 1 {
		if p = (p + digit(b, i)) % 10; p == 0 {
			p = 10
		}
		p = p * 2 % 11
	}
	return (11-p)%10 == digit(b, len(b)-1)
}

func checkCUIT(b []byte) bool {
	switch number(b[:2]) {
	case 20, 23, 24, 25, 26, 27, 30, 33, 34:
	default:
		return false
	}
	// Of eleven remainders two share a digit.
	return "09987654321"[weighted(b, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)%11] == b[10]
}

func checkSVNR(b []byte) bool {
	sum := weighted(b, 3, 7, 9) + 5*digit(b, 4) + 8*digit(b, 5) + 4*digit(b, 6) + 2*digit(b, 7) + digit(b, 8) + 6*digit(b, 9)
	return b[0] != '0' && sum%11 == digit(b, 3) && number(b[4:6]) <= 31 && number(b[6:8]) <= 15
}

func checkMedicare(b []byte) bool {
	return b[0] >= '2' && b[0] <= '6' && weighted(b, 1, 3, 7, 9, 1, 3, 7, 9)%10 == digit(b, 8) && b[9] != '0'
}

func checkTFN(b []byte) bool {
	return !same(b) && weighted(b, 1, 4, 3, 7, 5, 8, 6, 9, 10)%11 == 0
}

func checkRijksregister(b []byte) bool {
	if m := number(b[2:4]) % 20; m > 12 || number(b[4:6]) > 31 {
		return false
	}
	n, c := number(b[:9]), number(b[9:])
	return c == 97-n%97 || c == 97-(2_000_000_000+n)%97
}

func checkEGN(b []byte) bool {
	m := number(b[2:4])
	return day(m%20, number(b[4:6])) && m <= 52 && weighted(b, 2, 4, 8, 5, 10, 9, 7, 3, 6)%11%10 == digit(b, 9)
}

func checkCNPJ(b []byte) bool {
	first := func(s int) int {
		if s %= 11; s < 2 {
			return 0
		}
		return 11 - s
	}
	return !same(b) && first(weighted(b, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)) == digit(b, 12) &&
		first(weighted(b, 6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)) == digit(b, 13)
}

func checkCPF(b []byte) bool {
	return !same(b) && weighted(b, 10, 9, 8, 7, 6, 5, 4, 3, 2)*10%11%10 == digit(b, 9) &&
		weighted(b, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2)*10%11%10 == digit(b, 10)
}

func checkSIN(b []byte) bool { return b[0] != '0' && b[0] != '8' && luhnText(b) }

func checkAHV(b []byte) bool {
	return string(b[:3]) == "756" && (10-weighted(b, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3)%10)%10 == digit(b, 12)
}

func checkRUT(b []byte) bool {
	sum, w := 0, 2
	for i := len(b) - 2; i >= 0; i-- {
		sum += digit(b, i) * w
		if w++; w > 7 {
			w = 2
		}
	}
	return "0K987654321"[sum%11] == b[len(b)-1]
}

func checkResident(b []byte) bool {
	if y := number(b[6:10]); b[0] == '0' || b[0] > '8' || y < 1850 || y > 2099 || !day(number(b[10:12]), number(b[12:14])) {
		return false
	}
	return "10X98765432"[weighted(b, 7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)%11] == b[17]
}

func checkRodneCislo(b []byte) bool {
	m := number(b[2:4]) % 50
	return day(m%20, number(b[4:6])) && m < 33 && (number(b)%11 == 0 || number(b[:9])%11 == 10 && b[9] == '0')
}

// A Steuer-ID has one digit twice or three times among its first ten, the others
// once or not at all.
func checkSteuerID(b []byte) bool {
	var count [10]int
	for _, c := range b[:10] {
		count[c-'0']++
	}
	again := 0
	for _, n := range count {
		switch {
		case n > 3:
			return false
		case n > 1:
			again++
		}
	}
	return again == 1 && b[0] != '0' && mod1110(b)
}

// Numbers given since 2007 have no checksum.
func checkCPR(b []byte) bool { return day(number(b[2:4]), number(b[:2])) }

func checkIsikukood(b []byte) bool {
	if b[0] < '1' || b[0] > '8' || !day(number(b[3:5]), number(b[5:7])) {
		return false
	}
	c := weighted(b, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1) % 11
	if c == 10 {
		c = weighted(b, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3) % 11 % 10
	}
	return c == digit(b, 10)
}

func checkDNI(b []byte) bool {
	body, n := b[:len(b)-1], 0
	switch body[0] {
	case 'X', 'Y', 'Z':
		n, body = int(body[0]-'X')*10_000_000, body[1:]
	default:
		if !isDigit(body[0]) {
			return false
		}
	}
	return "TRWAGMYFPDXBNJZSQVHLCKE"[(n+number(body))%23] == b[len(b)-1]
}

func checkHETU(b []byte) bool {
	digits := make([]byte, 0, 9)
	for _, c := range b[:len(b)-1] {
		if isDigit(c) {
			digits = append(digits, c)
		} else if strings.IndexByte("ABCDEFUVWXY", c) < 0 {
			return false // the sign of the century
		}
	}
	return day(number(b[2:4]), number(b[:2])) && number(digits[6:]) >= 2 &&
		"0123456789ABCDEFHJKLMNPRSTUVWXY"[number(digits)%31] == b[len(b)-1]
}

func checkNIR(b []byte) bool {
	c := make([]byte, 0, 15)
	less := 0
	for i, x := range b {
		switch {
		case isDigit(x):
		case i == 6 && x == 'A': // Corsica
			x, less = '0', 1_000_000
		case i == 6 && x == 'B':
			x, less = '0', 2_000_000
		default:
			return false
		}
		c = append(c, x)
	}
	if less > 0 && b[5] != '2' || strings.IndexByte("123478", b[0]) < 0 {
		return false
	}
	if m := number(c[3:5]); !(m >= 1 && m <= 12 || m >= 20 && m <= 42 || m >= 50) {
		return false
	}
	return 97-(number(c[:13])-less)%97 == number(c[13:])
}

func checkOIB(b []byte) bool { return mod1110(b) }

func checkPPS(b []byte) bool {
	sum := weighted(b, 8, 7, 6, 5, 4, 3, 2)
	if len(b) == 9 && b[8] != 'W' {
		if b[8] > 'I' {
			return false
		}
		sum += 9 * int(b[8]-'A'+1)
	}
	return "WABCDEFGHIJKLMNOPQRSTUV"[sum%23] == b[7]
}

func checkZehut(b []byte) bool { return !same(b) && luhnText(b) }

// The tables of Verhoeff's scheme.
var (
	verhoeffD = [10][10]byte{{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {1, 2, 3, 4, 0, 6, 7, 8, 9, 5}, {2, 3, 4, 0, 1, 7, 8, 9, 5, 6}, {3, 4, 0, 1, 2, 8, 9, 5, 6, 7}, {4, 0, 1, 2, 3, 9, 5, 6, 7, 8},
		{5, 9, 8, 7, 6, 0, 4, 3, 2, 1}, {6, 5, 9, 8, 7, 1, 0, 4, 3, 2}, {7, 6, 5, 9, 8, 2, 1, 0, 4, 3}, {8, 7, 6, 5, 9, 3, 2, 1, 0, 4}, {9, 8, 7, 6, 5, 4, 3, 2, 1, 0}}
	verhoeffP = [8][10]byte{{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {1, 5, 7, 6, 2, 8, 3, 0, 9, 4}, {5, 8, 0, 3, 7, 9, 6, 1, 4, 2}, {8, 9, 1, 6, 0, 4, 3, 5, 2, 7},
		{9, 4, 5, 3, 1, 2, 6, 8, 7, 0}, {4, 2, 8, 6, 5, 7, 3, 9, 0, 1}, {2, 7, 9, 3, 8, 0, 6, 4, 1, 5}, {7, 0, 4, 6, 9, 1, 3, 2, 5, 8}}
)

func checkAadhaar(b []byte) bool {
	c := byte(0)
	for i := range b {
		c = verhoeffD[c][verhoeffP[i%8][b[len(b)-1-i]-'0']]
	}
	return c == 0 && b[0] >= '2'
}

func checkPAN(b []byte) bool { return strings.IndexByte("PCFHATBLJG", b[3]) >= 0 }

// The values of characters at odd places of a codice fiscale; digits are worth
// what the letters A to J are.
var codiceOdd = [26]int{1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23}

func checkCodiceFiscale(b []byte) bool {
	if d := number(b[9:11]) % 40; strings.IndexByte("ABCDEHLMPRST", b[8]) < 0 || d < 1 || d > 31 {
		return false
	}
	sum := 0
	for i, c := range b[:15] {
		v := int(c - 'A')
		if isDigit(c) {
			v = int(c - '0')
		}
		if i%2 == 0 {
			v = codiceOdd[v]
		}
		sum += v
	}
	return byte('A'+sum%26) == b[15]
}

func checkMyNumber(b []byte) bool {
	r := weighted(b, 6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2) % 11
	c := 0
	if r > 1 {
		c = 11 - r
	}
	return !same(b) && c == digit(b, 11)
}

func checkRRN(b []byte) bool {
	return day(number(b[2:4]), number(b[4:6])) && b[6] >= '1' && b[6] <= '8' &&
		(11-weighted(b, 2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)%11)%10 == digit(b, 12)
}

// A CURP is checked over the Spanish alphabet, in which Ñ follows N.
func checkCURP(b []byte) bool {
	if !day(number(b[6:8]), number(b[8:10])) || strings.IndexByte("HMX", b[10]) < 0 {
		return false
	}
	sum := 0
	for i, c := range b[:17] {
		v := int(c - '0')
		if isLetter(c) {
			if v = int(c-'A') + 10; c > 'N' {
				v++
			}
		}
		sum += v * (18 - i)
	}
	return (10-sum%10)%10 == digit(b, 17)
}

func checkBSN(b []byte) bool {
	return !same(b) && (weighted(b, 9, 8, 7, 6, 5, 4, 3, 2)-digit(b, 8))%11 == 0
}

func checkFodselsnummer(b []byte) bool {
	// 40 is added to the day of a D number, 40 or 80 to the month of others.
	if d, m := number(b[:2])%40, number(b[2:4])%40; !day(m, d) {
		return false
	}
	return weighted(b, 3, 7, 6, 1, 8, 9, 4, 5, 2, 1)%11 == 0 && weighted(b, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)%11 == 0
}

func checkPESEL(b []byte) bool {
	return day(number(b[2:4])%20, number(b[4:6])) && weighted(b, 1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)%10 == 0
}

func checkNIF(b []byte) bool {
	c := 11 - weighted(b, 9, 8, 7, 6, 5, 4, 3, 2)%11
	if c > 9 {
		c = 0
	}
	return b[0] != '0' && c == digit(b, 8)
}

func checkCNP(b []byte) bool {
	c := weighted(b, 2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9) % 11
	if c == 10 {
		c = 1
	}
	return b[0] != '0' && day(number(b[3:5]), number(b[5:7])) && c == digit(b, 12)
}

func checkPersonnummer(b []byte) bool {
	if len(b) == 12 {
		if c := string(b[:2]); c != "18" && c != "19" && c != "20" {
			return false
		}
		b = b[2:]
	}
	return day(number(b[2:4]), number(b[4:6])%60) && luhnText(b)
}

func checkNRIC(b []byte) bool {
	sum := weighted(b[1:], 2, 7, 6, 5, 4, 3, 2)
	switch b[0] {
	case 'S':
		return "JZIHGFEDCBA"[sum%11] == b[8]
	case 'T':
		return "JZIHGFEDCBA"[(sum+4)%11] == b[8]
	case 'F':
		return "XWUTRQPNMLK"[sum%11] == b[8]
	case 'G':
		return "XWUTRQPNMLK"[(sum+4)%11] == b[8]
	case 'M':
		return "KLJNPQRTUWX"[10-(sum+3)%11] == b[8]
	}
	return false
}

func checkThai(b []byte) bool {
	return b[0] != '0' && (11-weighted(b, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2)%11)%10 == digit(b, 12)
}

func checkTCKN(b []byte) bool {
	odd := weighted(b, 1, 0, 1, 0, 1, 0, 1, 0, 1)
	even := weighted(b, 0, 1, 0, 1, 0, 1, 0, 1)
	return b[0] != '0' && ((odd*7-even)%10+10)%10 == digit(b, 9) && weighted(b, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)%10 == digit(b, 10)
}

func checkNHS(b []byte) bool {
	return !same(b) && (11-weighted(b, 10, 9, 8, 7, 6, 5, 4, 3, 2)%11)%11 == digit(b, 9)
}

// HM Revenue & Customs doesn't use these letters, nor these pairs of them.
func checkNINO(b []byte) bool {
	if strings.IndexByte("DFIQUV", b[0]) >= 0 || strings.IndexByte("DFIOQUV", b[1]) >= 0 || b[8] > 'D' {
		return false
	}
	switch string(b[:2]) {
	case "BG", "GB", "KN", "NK", "NT", "TN", "ZZ":
		return false
	}
	return true
}

func checkSAID(b []byte) bool {
	return day(number(b[2:4]), number(b[4:6])) && b[10] <= '2' && luhnText(b)
}
