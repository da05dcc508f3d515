package mask

import (
	"bytes"
	"hash/maphash"
	"sync"
)

// nameInfo is what a name (a member's, a field's, or a word before a value)
// says of the value that it names.
type nameInfo struct {
	raw     []byte   // the name itself
	clean   bool     // no detector finds anything in it
	inPaths bool     // a field path has it
	rule    int      // the rule whose keys have this name, -1: none
	hints   detSet   // detectors whose values it announces
	byName  detector // detPerson, detAddress or detBirth that it makes of any value; detCount: none
	person  bool     // what it names is a person, so that "name" in it is one's name
	bare    bool     // it is "name" itself
	version bool     // it announces a version
	ordinal wordKind // how it announces an order, a parcel, a point in time, whose numbers are no cards: wordOrdinal to wordNumber
	telling bool     // it announces a secret
	leafy   bool     // it may make something of any value: byName or bare
	quiet   bool     // it says nothing of any value
	simple  bool     // nor does a rule or a path
	secrets []uint16 // keyed rules of the secret table that it satisfies
}

// Ways in which a word is looked for in a normalised name.
type matchMode uint8

const (
	exactly  matchMode = iota // the name is the word
	atEnds                    // it begins or ends with it: "classname" has an ssn in it
	anywhere                  // it is in it
)

// hintWord says which detectors a word in a name announces.
type hintWord struct {
	word string
	mode matchMode
	dets detSet
}

// hintWords are those of all detectors but the national ids', which are in
// nationalIDs. A person extends it by a line.
var hintWords = []hintWord{
	{"card", anywhere, setOf(detCard)}, {"visa", anywhere, setOf(detCard)}, {"maestro", anywhere, setOf(detCard)},
	{"unionpay", anywhere, setOf(detCard)}, {"discover", anywhere, setOf(detCard)}, {"diners", anywhere, setOf(detCard)},
	{"credit", anywhere, setOf(detCard)}, {"debit", anywhere, setOf(detCard)}, {"ccnum", anywhere, setOf(detCard)},
	{"primaryaccount", anywhere, setOf(detCard)}, {"pan", exactly, setOf(detCard)}, {"cc", exactly, setOf(detCard)}, {"jcb", exactly, setOf(detCard)},

	{"ssn", atEnds, setOf(detSSN)}, {"ssns", atEnds, setOf(detSSN)}, {"socialsec", anywhere, setOf(detSSN)}, {"socsec", anywhere, setOf(detSSN)},
	{"social", exactly, setOf(detSSN)}, {"itin", exactly, setOf(detSSN)}, {"taxpayerid", anywhere, setOf(detSSN)},

	{"phone", anywhere, setOf(detPhone)}, {"mobile", atEnds, setOf(detPhone)}, {"cell", exactly, setOf(detPhone)}, {"cellular", anywhere, setOf(detPhone)},
	{"tel", exactly, setOf(detPhone)}, {"telno", exactly, setOf(detPhone)}, {"telefon", anywhere, setOf(detPhone)}, {"fax", atEnds, setOf(detPhone)},
	{"msisdn", anywhere, setOf(detPhone)}, {"whatsapp", anywhere, setOf(detPhone)}, {"handy", exactly, setOf(detPhone)}, {"callme", atEnds, setOf(detPhone)},
	{"telephone", anywhere, setOf(detPhone)}, {"movil", exactly, setOf(detPhone)}, {"celular", exactly, setOf(detPhone)}, {"portable", exactly, setOf(detPhone)},

	// A version has the form of an address.
	{"ip", exactly, setOf(detIP)}, {"ipaddr", anywhere, setOf(detIP)}, {"ipv4", anywhere, setOf(detIP)}, {"ipv6", anywhere, setOf(detIP)},
	{"remoteaddr", anywhere, setOf(detIP)}, {"clientip", anywhere, setOf(detIP)}, {"hostip", anywhere, setOf(detIP)}, {"forwardedfor", anywhere, setOf(detIP)},
}

// personWords, addressWords and birthWords name fields whose values are hidden
// whatever they are.
var (
	personWords = []string{"firstname", "lastname", "fullname", "surname", "givenname", "familyname", "middlename", "maidenname", "birthname",
		"customername", "clientname", "patientname", "employeename", "membername", "holdername", "cardholder", "cardholdername", "accountholder",
		"accountholdername", "contactname", "recipientname", "personname", "ownername", "beneficiaryname", "studentname", "guardianname", "nickname",
		"vorname", "nachname", "familienname", "prenom", "nomdefamille", "nombrecompleto", "apellido", "apellidos", "cognome", "sobrenome", "achternaam", "voornaam", "displayname"}
	addressWords = []string{"address", "streetaddress", "street", "streetname", "addressline", "addressline1", "addressline2", "address1", "address2", "addr1", "addr2",
		"line1", "line2", "homeaddress", "postaladdress", "mailingaddress", "billingaddress", "shippingaddress", "deliveryaddress", "residentialaddress", "workaddress", "residence",
		"housenumber", "postcode", "postalcode", "zipcode", "zip", "anschrift", "strasse", "hausnummer", "plz", "adresse", "direccion", "domicilio", "indirizzo", "endereco", "adres"}
	birthWords = []string{"dateofbirth", "birthdate", "birthday", "dob", "birth", "borndate", "bornon", "birthdt", "geburtsdatum", "geburtstag", "datenaissance",
		"datedenaissance", "fechanacimiento", "fechadenacimiento", "datadinascita", "datanascimento", "geboortedatum", "syntymaaika", "yearofbirth", "birthyear"}
	// personParents are objects whose "name" is a person's.
	personParents = []string{"customer", "user", "person", "contact", "patient", "employee", "owner", "holder", "cardholder", "recipient", "sender", "author", "member",
		"client", "passenger", "guest", "driver", "student", "teacher", "guardian", "beneficiary", "applicant", "subscriber", "resident", "traveller", "traveler", "buyer", "payer", "payee",
		"customers", "users", "people", "persons", "contacts", "patients", "employees", "owners", "members", "clients", "passengers", "guests", "students"}
	// ordinalWords name what looks like a card number by chance one time in ten:
	// what is written in groups, as cards are, counts all the same. They say it
	// wherever they stand, also in text before a number without a sign.
	ordinalWords = []string{"orderid", "ordernumber", "orderno", "ordernr", "orderref", "orderreference", "purchaseordernumber", "purchaseorderno", "invoiceid", "invoicenumber", "invoiceno", "invoiceref",
		"trackingnumber", "trackingid", "trackingno", "trackingref", "shipmentid", "shipmentnumber", "parcelid", "parcelnumber", "parcelno", "traceid", "spanid", "transactionid", "requestid", "correlationid",
		"messageid", "eventid", "batchid", "serialnumber", "serialno", "bestellnummer", "auftragsnummer", "rechnungsnummer", "sendungsnummer", "numerodecommande", "numerodepedido"}
	// ordinalNames do so as the whole name of a field, or before a sign.
	ordinalNames = []string{"order", "orders", "purchaseorder", "ponumber", "invoice", "tracking", "timestamp", "ts", "sku", "gtin", "ean", "upc", "isbn", "imei", "createdat", "updatedat", "nanos", "micros"}
	// ordinalParents are objects whose "id" does so, as one of idNames. Their
	// "number" may be that of a card that they were paid with.
	ordinalParents = []string{"order", "orders", "purchaseorder", "purchaseorders", "invoice", "invoices", "shipment", "shipments", "parcel", "parcels", "tracking"}
	idNames        = []string{"id", "no", "nr", "ref", "reference"}
	numberNames    = []string{"number", "num"}
)

type wordKind uint16

const (
	wordPerson wordKind = 1 << iota
	wordAddress
	wordBirth
	wordParent
	wordOrdinal // of what numbers, wherever it stands
	wordOrdinalName
	wordOrdinalParent
	wordID
	wordNumber
	wordVersion
	wordTelling   // announces a secret
	wordUntelling // but not this one
	wordKey       // together with a vendor's name it does
)

// Words in names of secrets, and words that tell of something else about one:
// how many tokens, where a page of results goes on, when a password ends.
var (
	tellingWords = []string{"secret", "passwd", "password", "passphrase", "passcode", "token", "apikey", "accesskey", "privatekey", "credential", "authkey",
		"signingkey", "encryptionkey", "masterkey", "sharedkey", "storagekey", "authorization", "apisecret", "sessionkey", "licensekey", "connectionstring", "webhookkey", "servicekey", "secretkey", "pwd"}
	untellingWords = []string{"count", "page", "next", "cursor", "continuation", "prev", "type", "expire", "expiry", "limit", "usage", "length", "public", "hint", "max", "min",
		"tokens", "tokeniz", "tokenis", "url", "uri", "endpoint", "policy", "created", "updated", "rotat", "version", "path", "arn", "sync", "format", "name", "fingerprint", "hash", "status", "reset", "strength", "address"}
	// keyWords make a secret of a value that is filed under a vendor's name.
	keyWords     = []string{"key", "auth", "cred", "api", "pat", "access", "pass"}
	versionWords = []string{"version", "release", "build", "firmware", "semver", "revision"}
)

// nameWord is a word to look for in names, and what it says there.
type nameWord struct {
	word  string
	mode  matchMode
	dets  detSet
	kind  wordKind
	keyed []uint16 // of the secret table
}

// nameWords finds all words of a name in one pass: those that are whole names by
// the name, the others by the first two bytes at each place.
type nameWords struct {
	whole map[string]*nameWord
	parts [1024][]*nameWord
}

func (t *nameWords) add(w nameWord) {
	if w.mode == exactly {
		old := t.whole[w.word]
		if old == nil {
			old = &nameWord{word: w.word}
			t.whole[w.word] = old
		}
		old.dets |= w.dets
		old.kind |= w.kind
		return
	}
	slot := &t.parts[bigram(w.word[0], w.word[1])]
	*slot = append(*slot, &w)
}

func bigram(a, b byte) int { return (int(a)*31 + int(b)) & 1023 }

// nameTable is the table that all maskers share; constant data.
var nameTable = sync.OnceValue(func() *nameWords {
	t := &nameWords{whole: map[string]*nameWord{}}
	for _, h := range hintWords {
		t.add(nameWord{word: h.word, mode: h.mode, dets: h.dets})
	}
	for _, l := range []struct {
		words []string
		mode  matchMode
		kind  wordKind
	}{{personWords, exactly, wordPerson}, {addressWords, exactly, wordAddress}, {birthWords, exactly, wordBirth}, {personParents, exactly, wordParent}, {ordinalWords, anywhere, wordOrdinal}, {ordinalNames, exactly, wordOrdinalName},
		{ordinalParents, exactly, wordOrdinalParent}, {idNames, exactly, wordID | wordNumber}, {numberNames, exactly, wordNumber},
		{versionWords, anywhere, wordVersion}, {tellingWords, anywhere, wordTelling | wordKey}, {untellingWords, anywhere, wordUntelling}, {keyWords, anywhere, wordKey}} {
		for _, w := range l.words {
			t.add(nameWord{word: w, mode: l.mode, kind: l.kind})
		}
	}
	for i, n := range nationalIDs {
		det := setOf(detNational + detector(i))
		for _, w := range n.words {
			if len(w) >= 6 {
				t.add(nameWord{word: w, mode: anywhere, dets: det})
				continue
			}
			for _, tail := range wordTails {
				t.add(nameWord{word: w + tail, mode: exactly, dets: det})
			}
		}
	}
	for _, w := range nationalWords {
		t.add(nameWord{word: w, mode: exactly, dets: allNational | setOf(detSSN)})
	}
	for word, rules := range secrets().keyedWords {
		t.add(nameWord{word: word, mode: anywhere, keyed: rules})
	}
	return t
})

// wordTails may follow a short word: cpf_number is a cpf, cprapp is none.
var wordTails = []string{"", "no", "nr", "num", "number", "id", "code", "s", "nummer", "numero"}

// describe works out what a name says.
func (m *Masker) describe(raw []byte) *nameInfo {
	info := &nameInfo{rule: -1, byName: detCount, inPaths: m.pathNames[string(raw)]}
	defer func() { info.simple = info.rule < 0 && !info.inPaths }()
	if len(raw) > 4*maxKeyLength {
		return info
	}
	var buf [4 * maxKeyLength]byte
	n := normalKey(buf[:0], raw)
	if len(n) == 0 || len(n) > maxKeyLength {
		return info
	}
	if r, ok := m.keys[string(n)]; ok {
		info.rule = r
	}
	if m.det.on == 0 {
		return info
	}
	var kind wordKind
	var vendors []uint16
	t := nameTable()
	if w := t.whole[string(n)]; w != nil {
		info.hints, kind = w.dets, w.kind
	}
	alone := false
	for i := 0; i+1 < len(n); i++ {
		for _, w := range t.parts[bigram(n[i], n[i+1])] {
			if !hasPrefix(n[i:], w.word) || w.mode == atEnds && i > 0 && i+len(w.word) < len(n) {
				continue
			}
			info.hints |= w.dets
			kind |= w.kind
			vendors = append(vendors, w.keyed...)
			alone = alone || w.keyed != nil && len(w.word) == len(n)
		}
	}
	switch on := m.det.on; {
	case kind&wordPerson != 0 && on.has(detPerson):
		info.byName = detPerson
	case kind&wordAddress != 0 && on.has(detAddress):
		info.byName = detAddress
	case kind&wordBirth != 0 && on.has(detBirth):
		info.byName = detBirth
	}
	info.person = kind&wordParent != 0
	info.ordinal = kind & (wordOrdinal | wordOrdinalName | wordOrdinalParent | wordID | wordNumber)
	info.version = kind&wordVersion != 0
	info.bare = string(n) == "name" && m.det.on.has(detPerson)
	info.leafy = info.byName != detCount || info.bare
	info.telling = kind&wordTelling != 0 && kind&wordUntelling == 0
	if kind&wordKey != 0 || alone {
		info.secrets = vendors
	}
	info.quiet = !info.leafy && !info.telling && info.secrets == nil
	return info
}

// nameCache remembers what names say: bodies have few different ones. Several
// places for each hash keep two frequent names from driving each other out.
type nameCache struct {
	seed  maphash.Seed
	slots [nameSets * nameWays]namedInfo
	old   [nameSets]uint8 // the place that is given up next
}

const (
	nameSets = 256
	nameWays = 4
)

type namedInfo struct {
	name  string
	info  *nameInfo
	plain bool   // nothing in the name is escaped, or would have to be
	next  uint16 // the slot of the name that came after it
}

// name returns what a name says, from the cache where it is there.
func (w *walker) name(raw []byte) *nameInfo {
	if len(raw) > 2*maxKeyLength {
		info := w.m.describe(raw)
		info.raw = bytes.Clone(raw)
		return info
	}
	return w.names.slots[w.slot(raw)].info
}

// slot returns where the cache has a name of at most 2*maxKeyLength bytes.
func (w *walker) slot(raw []byte) uint16 {
	cache := w.names
	set := int(maphash.Bytes(cache.seed, raw) % nameSets)
	n := set * nameWays
	for k := range cache.slots[n : n+nameWays] {
		if slot := &cache.slots[n+k]; slot.name == string(raw) && slot.info != nil {
			return uint16(n + k)
		}
	}
	n += int(cache.old[set] % nameWays)
	cache.old[set]++
	info := w.m.describe(raw)
	info.raw = bytes.Clone(raw)
	plain := len(raw) > 0
	for _, c := range raw {
		plain = plain && stringClass[c] == 0
	}
	cache.slots[n] = namedInfo{name: string(raw), info: info, plain: plain}
	return uint16(n)
}

// member is name for the next member of a document. Those of most bodies have
// the same names in the same order again and again.
func (w *walker) member(raw []byte) *nameInfo {
	if len(raw) > 2*maxKeyLength {
		return w.name(raw)
	}
	n := w.slot(raw)
	w.names.slots[w.prev].next, w.prev = n, n
	return w.names.slots[n].info
}

// guess returns what the name that src begins with says, its closing quote
// included, if it came after the last name before too; else nil.
func (w *walker) guess(src []byte) *nameInfo {
	n := w.names.slots[w.prev].next
	slot := &w.names.slots[n]
	if size := len(slot.name); !slot.plain || size >= len(src) || src[size] != '"' || string(src[:size]) != slot.name {
		return nil
	}
	w.prev = n
	return slot.info
}
