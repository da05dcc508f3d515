package mask

import (
	"slices"
	"strings"
)

// detector numbers the kinds of value that can be recognised.
type detector uint8

const (
	detCard detector = iota
	detEmail
	detIBAN
	detSSN
	detAPIKey
	detPrivateKey
	detJWT
	detKeyedSecret
	detPhone
	detIP
	detPerson
	detAddress
	detBirth
	detNational // the first of nationalIDs; the others follow

	detCount = detNational + nationalCount

	// Not detectors, but what a match may come from all the same.
	detKeyword = detCount     // name=value in text, from a rule's keys
	detCustom  = detCount + 1 // a detector of the user's own
	detPath    = detCount + 2 // a field path
)

// detSet is a set of detectors.
type detSet uint64

func (s detSet) has(d detector) bool { return s>>d&1 != 0 }

func setOf(ds ...detector) (s detSet) {
	for _, d := range ds {
		s |= 1 << d
	}
	return s
}

// Groups of detectors that are switched on together.
const (
	allDetectors detSet = 1<<detCount - 1
	allNational  detSet = allDetectors &^ (1<<detNational - 1)
	allSecrets   detSet = 1<<detAPIKey | 1<<detPrivateKey | 1<<detJWT | 1<<detKeyedSecret
	byNameOnly   detSet = 1<<detPerson | 1<<detAddress | 1<<detBirth
)

// kinds are the names of detectors, which findings and replacements give too,
// and what they find. The national ids' are in nationalIDs.
var kinds = [detNational][2]string{
	detCard:        {"card", "payment card numbers: issuer's range, length, Luhn"},
	detEmail:       {"email", "e-mail addresses"},
	detIBAN:        {"iban", "IBANs: the country's form, ISO 7064 checksum"},
	detSSN:         {"ssn", "US social security numbers and ITINs"},
	detAPIKey:      {"api_key", "keys and tokens of clouds and services, known by their form"},
	detPrivateKey:  {"private_key", "private keys in PEM, OpenPGP, PuTTY and age form"},
	detJWT:         {"jwt", "signed and encrypted tokens in compact form (JWS, JWE)"},
	detKeyedSecret: {"keyed_secret", "random strings filed under a name that announces a secret"},
	detPhone:       {"phone", "telephone numbers with a country code, or where a name announces one; phone_us: also those of one country as written there"},
	detIP:          {"ip", "IPv4 and IPv6 addresses"},
	detPerson:      {"person_name", "people's names, by the name of the field"},
	detAddress:     {"address", "postal addresses, by the name of the field"},
	detBirth:       {"birth_date", "dates of birth, by the name of the field"},
}

// typeOf is the name that findings and replacements give a detector.
func typeOf(d detector) string {
	switch {
	case d < detNational:
		return kinds[d][0]
	case d < detCount:
		return nationalPrefix + nationalIDs[d-detNational].code
	case d == detPath:
		return typePath
	}
	return typeKey
}

const (
	nationalPrefix = "national_id_"
	phonePrefix    = "phone_"
)

// A Detector is one that a spec may name.
type Detector struct {
	Name  string
	Finds string
}

// Detectors lists the detectors that a spec may name, groups last. phone_ and a
// country's ISO 3166 code in lower case is one too, for every country.
func Detectors() []Detector {
	var out []Detector
	for _, k := range kinds {
		out = append(out, Detector{k[0], k[1]})
	}
	for _, n := range nationalIDs {
		out = append(out, Detector{nationalPrefix + n.code, n.name})
	}
	return append(out,
		Detector{"national_id", "all national_id_ detectors, and ssn"},
		Detector{"secret", "api_key, private_key, jwt and keyed_secret"},
		Detector{"all", "all detectors"},
	)
}

// named returns the detectors that a name stands for, and the region of a
// phone_ detector.
func named(name string) (set detSet, region string, ok bool) {
	switch name {
	case "all":
		return allDetectors, "", true
	case "secret":
		return allSecrets, "", true
	case "national_id":
		return allNational | setOf(detSSN), "", true
	}
	for d := range detCount {
		switch t := typeOf(d); {
		case t == name:
			return setOf(d), "", true
		case d >= detNational && strings.HasPrefix(t, name+"_") && name+"_" != nationalPrefix:
			set |= setOf(d) // national_id_uk is uk_nhs and uk_nino
		}
	}
	if set != 0 {
		return set, "", true
	}
	if cc, is := strings.CutPrefix(name, phonePrefix); is {
		if region = strings.ToUpper(cc); phoneRegion(region) && cc == strings.ToLower(cc) {
			return setOf(detPhone), region, true
		}
	}
	return 0, "", false
}

// Includes reports whether a detector or group finds values of a type.
func Includes(name, kind string) bool {
	set, _, ok := named(name)
	of, _, is := named(kind)
	return name == kind || ok && is && of&set == of
}

// Known reports whether a spec may name a detector, custom ones apart.
func Known(name string) bool {
	_, _, ok := named(name)
	return ok
}

// knownNames is for errors, where the countries' would hide the others.
func knownNames() string {
	var list []string
	for _, d := range Detectors() {
		if !strings.HasPrefix(d.Name, nationalPrefix) {
			list = append(list, d.Name)
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ") + ", " + nationalPrefix + " and " + phonePrefix + " with a country's code ('callgate mask detectors' lists all)"
}
