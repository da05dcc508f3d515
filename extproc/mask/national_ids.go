package mask

// nationalID is one kind of personal or tax number.
type nationalID struct {
	code string // national_id_ and this is the detector's name
	name string

	// words announce it, as whole names, or as a part of one from six letters on.
	// They are normalised: lower case, without separators.
	words []string

	// forms are its spellings: d a digit, a a letter, c either, anything else
	// itself, a digit too. Where a name announces it separators may stand anywhere in it or
	// be left out.
	forms []string

	// plain are spellings that are recognised without a name that announces the
	// number, with exactly these separators: those that little else has.
	plain []string

	// check takes what is left without separators, letters in upper case.
	check func(b []byte) bool
}

// nationalCount is the length of nationalIDs.
const nationalCount = 40

// nationalWords announce any country's number.
var nationalWords = []string{"nationalid", "nationalidnumber", "nationalidentifier", "nationalidentificationnumber", "nationalinsurancenumber", "personalid", "personalidnumber", "personalcode",
	"identitynumber", "identitycard", "idcard", "idcardnumber", "taxid", "taxidnumber", "taxnumber", "tin", "governmentid", "citizenid"}

// nationalIDs is the table of countries. A person extends it by a line (and
// nationalCount by one).
var nationalIDs = [nationalCount]nationalID{
	{"ar", "Argentina: CUIT and CUIL", []string{"cuit", "cuil"}, []string{"dd-dddddddd-d"}, []string{"dd-dddddddd-d"}, checkCUIT},
	{"at", "Austria: Sozialversicherungsnummer", []string{"svnr", "sozialversicherungsnummer", "svnummer"}, []string{"dddddddddd"}, nil, checkSVNR},
	{"au_medicare", "Australia: Medicare card", []string{"medicare", "medicarecard", "medicarenumber"}, []string{"dddddddddd", "ddddddddddd"}, nil, checkMedicare},
	{"au_tfn", "Australia: tax file number", []string{"tfn", "taxfile", "taxfilenumber"}, []string{"ddddddddd"}, nil, checkTFN},
	{"be", "Belgium: rijksregisternummer", []string{"rijksregister", "rijksregisternummer", "insz", "niss", "registrenational", "nationaalnummer"}, []string{"dd.dd.dd-ddd.dd"}, []string{"dd.dd.dd-ddd.dd"}, checkRijksregister},
	{"bg", "Bulgaria: EGN", []string{"egn", "edinen"}, []string{"dddddddddd"}, nil, checkEGN},
	{"br_cnpj", "Brazil: CNPJ", []string{"cnpj"}, []string{"dd.ddd.ddd/dddd-dd"}, []string{"dd.ddd.ddd/dddd-dd"}, checkCNPJ},
	{"br_cpf", "Brazil: CPF", []string{"cpf", "cadastrodepessoas"}, []string{"ddd.ddd.ddd-dd"}, []string{"ddd.ddd.ddd-dd"}, checkCPF},
	{"ca", "Canada: social insurance number", []string{"sin", "nas", "socialinsurance", "socialinsurancenumber"}, []string{"ddddddddd"}, nil, checkSIN},
	{"ch", "Switzerland: AHV number", []string{"ahv", "avs", "ahvnummer", "ahvnr", "oasi"}, []string{"ddd.dddd.dddd.dd"}, []string{"756.dddd.dddd.dd", "756dddddddddd"}, checkAHV},
	{"cl", "Chile: RUT", []string{"rut", "run", "rolunico"}, []string{"dd.ddd.ddd-c", "d.ddd.ddd-c"}, []string{"dd.ddd.ddd-c", "d.ddd.ddd-c"}, checkRUT},
	{"cn", "China: resident identity number", []string{"sfz", "shenfenzheng", "residentid", "idno", "身份证", "身份证号", "身份证号码"}, []string{"dddddddddddddddddc"}, []string{"dddddddddddddddddc"}, checkResident},
	{"cz", "Czechia and Slovakia: rodné číslo", []string{"rodnecislo", "rodnécíslo", "rodnéčíslo", "birthnumber"}, []string{"dddddd/dddd"}, []string{"dddddd/dddd"}, checkRodneCislo},
	{"de", "Germany: Steuer-ID", []string{"steuerid", "idnr", "steueridnr", "steueridentifikationsnummer", "steueridentnummer", "identifikationsnummer"}, []string{"ddddddddddd"}, nil, checkSteuerID},
	{"dk", "Denmark: CPR number", []string{"cpr", "cprnr", "cprnummer", "cprnumber"}, []string{"dddddd-dddd"}, nil, checkCPR},
	{"ee_lt", "Estonia and Lithuania: isikukood, asmens kodas", []string{"isikukood", "asmenskodas"}, []string{"ddddddddddd"}, nil, checkIsikukood},
	{"es", "Spain: DNI and NIE", []string{"dni", "nie", "nif", "dninie", "documentonacional"}, []string{"dddddddda", "addddddda"}, nil, checkDNI},
	{"fi", "Finland: henkilötunnus", []string{"hetu", "henkilotunnus", "henkilötunnus"}, []string{"dddddd-dddc", "ddddddadddc", "dddddd+dddc"}, []string{"dddddd-dddc", "ddddddadddc", "dddddd+dddc"}, checkHETU},
	{"fr", "France: NIR (sécurité sociale)", []string{"nir", "insee", "numsecu", "securitesociale", "sécuritésociale", "numerosecu"}, []string{"ddddddddddddddd", "ddddddadddddddd"}, []string{"d dd dd dd ddd ddd dd"}, checkNIR},
	{"hr", "Croatia: OIB", []string{"oib"}, []string{"ddddddddddd"}, nil, checkOIB},
	{"ie", "Ireland: PPS number", []string{"pps", "ppsn", "ppsno", "ppsnumber"}, []string{"ddddddda", "dddddddaa"}, nil, checkPPS},
	{"il", "Israel: teudat zehut", []string{"teudatzehut", "zehut", "mispar"}, []string{"ddddddddd"}, nil, checkZehut},
	{"in_aadhaar", "India: Aadhaar", []string{"aadhaar", "aadhar", "uidai"}, []string{"dddddddddddd"}, nil, checkAadhaar},
	{"in_pan", "India: permanent account number", []string{"pan", "pannumber", "panno", "permanentaccount"}, []string{"aaaaadddda"}, nil, checkPAN},
	{"it", "Italy: codice fiscale", []string{"codicefiscale", "fiscale"}, []string{"aaaaaaddaddaddda"}, []string{"aaaaaaddaddaddda"}, checkCodiceFiscale},
	{"jp", "Japan: My Number", []string{"mynumber", "kojinbango", "個人番号", "マイナンバー"}, []string{"dddddddddddd"}, nil, checkMyNumber},
	{"kr", "Korea: resident registration number", []string{"rrn", "jumin", "residentregistration", "주민등록번호"}, []string{"dddddd-ddddddd"}, []string{"dddddd-ddddddd"}, checkRRN},
	{"mx", "Mexico: CURP", []string{"curp"}, []string{"aaaaddddddaaaaaacd"}, []string{"aaaaddddddaaaaaacd"}, checkCURP},
	{"nl", "Netherlands: burgerservicenummer", []string{"bsn", "burgerservicenummer", "sofinummer"}, []string{"ddddddddd"}, nil, checkBSN},
	{"no", "Norway: fødselsnummer", []string{"fnr", "fodselsnummer", "fødselsnummer", "personnr"}, []string{"ddddddddddd"}, nil, checkFodselsnummer},
	{"pl", "Poland: PESEL", []string{"pesel"}, []string{"ddddddddddd"}, nil, checkPESEL},
	{"pt", "Portugal: NIF", []string{"nif", "contribuinte"}, []string{"ddddddddd"}, nil, checkNIF},
	{"ro", "Romania: CNP", []string{"cnp", "codnumericpersonal"}, []string{"ddddddddddddd"}, nil, checkCNP},
	{"se", "Sweden: personnummer", []string{"personnummer", "personnr", "samordningsnummer"}, []string{"dddddd-dddd", "dddddd+dddd", "dddddddd-dddd"}, []string{"dddddd-dddd", "dddddddd-dddd"}, checkPersonnummer},
	{"sg", "Singapore: NRIC and FIN", []string{"nric", "nricfin", "nricno"}, []string{"addddddda"}, []string{"addddddda"}, checkNRIC},
	{"th", "Thailand: citizen number", []string{"thaiid", "thainationalid", "เลขประจำตัวประชาชน"}, []string{"d-dddd-ddddd-dd-d"}, []string{"d-dddd-ddddd-dd-d"}, checkThai},
	{"tr", "Türkiye: T.C. kimlik numarası", []string{"tckn", "tckimlik", "kimlikno", "kimliknumarasi"}, []string{"ddddddddddd"}, nil, checkTCKN},
	{"uk_nhs", "United Kingdom: NHS number", []string{"nhs", "nhsno", "nhsnumber"}, []string{"dddddddddd"}, nil, checkNHS},
	{"uk_nino", "United Kingdom: national insurance number", []string{"nino", "nationalinsurance", "ninumber", "nationalinsurancenumber"}, []string{"aadddddda"}, []string{"aa dd dd dd a"}, checkNINO},
	{"za", "South Africa: identity number", []string{"rsaid", "saidnumber", "southafricanid"}, []string{"ddddddddddddd"}, nil, checkSAID},
}
