package mask

import (
	_ "embed"
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
)

// gitleaksData is the rule set of gitleaks (MIT, gitleaks/LICENSE), as it is
// published: a newer one takes its place as a file.
//
//go:embed gitleaks/gitleaks.toml
var gitleaksData []byte

// gitleaksSkipped are rules that are not used, and why.
var gitleaksSkipped = map[string]string{
	"generic-api-key":          "keyed_secret does that, without its list of words",
	"jwt":                      "detector jwt, which knows encrypted tokens too",
	"private-key":              "detector private_key, which also knows those that are cut off",
	"pkcs12-file":              "a file's name",
	"kubernetes-secret-yaml":   "goes by a file's name",
	"freemius-secret-key":      "goes by a file's name",
	"nuget-config-password":    "goes by a file's name",
	"curl-auth-header":         "authorization_header knows the header anywhere",
	"curl-auth-user":           "a command line",
	"sourcegraph-access-token": "any git hash near the word; sourcegraph_token knows the rest",
	"airtable-api-key":         "17 letters and digits are other things too",
	"confluent-access-token":   "16 letters and digits are other things too",
	"asana-client-id":          "public",
	"adobe-client-id":          "public",
	"bitbucket-client-id":      "public",
	"discord-client-id":        "public",
	"linkedin-client-id":       "public",
	"flutterwave-public-key":   "public",
	"sumologic-access-id":      "public",
	"alibaba-access-key-id":    "public",
	"plaid-client-id":          "public",
	"mailgun-pub-key":          "public",
	"finicity-client-secret":   "20 letters and digits are other things too",
	"lob-pub-api-key":          "public",
	"mapbox-api-token":         "public tokens (pk.)",
	"vault-service-token":      "vault_token, without the old form of s. and 24 letters",
	"hashicorp-tf-password":    "goes by a file's name",
	"azure-ad-client-secret":   "azure_client_secret, whose literal is longer",
	"messagebird-client-id":    "public",
	"new-relic-user-api-id":    "public",
	"sendbird-access-id":       "public",
	"looker-client-id":         "public",
	"okta-access-token":        "okta_token",
	"slack-webhook-url":        "slack_webhook, without the host's name",
	"microsoft-teams-webhook":  "teams_webhook, without the host's name",
}

// The pieces that gitleaks makes its patterns of.
const (
	gitleaksSign = `(?:=|>|:{1,3}=|\|\||:|=>|\?=|,)[\x60'"\s=]{0,5}`
	gitleaksEnd  = `(?:[\x60'"\s;]|\\[nr]|$)`
	// tokenEnd takes its place: prose goes on after a token in more ways.
	tokenEnd = `(?:[^A-Za-z0-9]|$)`
)

// gitleaksRules turns the rule set into rules of our own: those that look for a
// name, a sign and a value become keyed rules, the others begin at a literal that
// is read out of the pattern, or run over a window around a keyword.
func gitleaksRules() (rules []secretRule, keyed []keyedRule) {
	var set struct {
		Rules []struct {
			ID          string
			Regex       string
			Keywords    []string
			Entropy     float64
			SecretGroup int
		}
	}
	if err := toml.Unmarshal(gitleaksData, &set); err != nil {
		panic("mask: gitleaks rules: " + err.Error()) // embedded, and tested
	}
	for _, r := range set.Rules {
		if gitleaksSkipped[r.ID] != "" {
			continue
		}
		name := strings.ReplaceAll(r.ID, "-", "_")
		before, value, isKeyed := strings.Cut(r.Regex, gitleaksSign)
		if isKeyed {
			value, more, _ := strings.Cut(value, gitleaksEnd)
			flags := ""
			if strings.HasPrefix(before, "(?i)") {
				flags = "(?i)"
			}
			k := keyedRule{name: name, pattern: flags + `\A(?:` + value + `)\z`, entropy: r.Entropy}
			for _, w := range r.Keywords {
				if n := string(normalKey(nil, []byte(w))); len(n) >= 3 {
					k.words = append(k.words, n)
				}
			}
			keyed = append(keyed, k)
			if r.Regex = strings.TrimPrefix(more, "|"); r.Regex == "" {
				continue
			}
		}
		rule, err := tokenRule(name, r.Regex, r.Keywords)
		if err != nil {
			panic(fmt.Sprintf("mask: gitleaks rule %s: %v", r.ID, err)) // embedded, and tested
		}
		rule.entropy = r.Entropy
		if r.SecretGroup > 0 {
			rule.group = r.SecretGroup
		}
		rules = append(rules, rule)
	}
	return rules, keyed
}

// tokenRule makes a rule of a pattern for tokens that have a form of their own.
func tokenRule(name, source string, keywords []string) (secretRule, error) {
	r := secretRule{det: detAPIKey, name: name}
	source = strings.ReplaceAll(source, gitleaksEnd, tokenEnd)
	for _, start := range []string{`\b`, `(?i)\b`} {
		if rest, ok := strings.CutPrefix(source, start); ok {
			r.bounded = true
			source = strings.TrimSuffix(start, `\b`) + rest
			break
		}
	}
	r.pattern = source
	tree, err := syntax.Parse(source, syntax.Perl)
	if err != nil {
		return r, err
	}
	tree = tree.Simplify()
	if first := tree; first.Op == syntax.OpCapture || first.Op == syntax.OpConcat && first.Sub[0].Op == syntax.OpCapture {
		r.group = 1
	}
	r.literals, r.fold = literalsOf(tree)
	if len(r.literals) > 0 {
		r.needs, r.noBlank = neededBy(tree, r.literals)
		return r, nil
	}
	// It begins with anything: a keyword inside says where to look.
	r.before, r.fold, r.bounded = 64, true, false
	for _, k := range keywords {
		if len(k) < 3 {
			return r, fmt.Errorf("keyword %q is too short to look for", k)
		}
		r.literals = append(r.literals, k)
	}
	return r, nil
}

// neededBy is the rarest byte, the last of those, that is in every match of a
// pattern, has no case, and is in none of the literals that the match begins with; 0
// where none is known. noBlank tells that no blank is before the first of it.
func neededBy(re *syntax.Regexp, literals []string) (needs byte, noBlank bool) {
	best, blank := -1, false
	var search func(*syntax.Regexp)
	search = func(re *syntax.Regexp) {
		switch re.Op {
		case syntax.OpLiteral:
			for _, r := range re.Rune {
				c := byte(r)
				if r < utf8.RuneSelf && !isLetter(c) && rarity(c) >= best && !slices.ContainsFunc(literals, func(l string) bool { return strings.IndexByte(l, c) >= 0 }) {
					needs, best, noBlank = c, rarity(c), !blank
				}
				blank = blank || r == ' '
			}
		case syntax.OpCapture, syntax.OpConcat, syntax.OpPlus:
			for _, sub := range re.Sub {
				search(sub)
			}
		default:
			blank = blank || mayMatch(re, ' ')
		}
	}
	search(re)
	return needs, noBlank
}

// mayMatch tells whether a match of a pattern may have the character c in it.
func mayMatch(re *syntax.Regexp, c rune) bool {
	switch re.Op {
	case syntax.OpLiteral:
		return slices.Contains(re.Rune, c)
	case syntax.OpCharClass:
		for i := 0; i < len(re.Rune); i += 2 {
			if re.Rune[i] <= c && c <= re.Rune[i+1] {
				return true
			}
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return true
	}
	return slices.ContainsFunc(re.Sub, func(sub *syntax.Regexp) bool { return mayMatch(sub, c) })
}

// Bounds of what literalsOf reads out of a pattern.
const (
	maxPrefixes    = 96
	maxPrefixBytes = 16
)

// literalsOf lists the texts that every match of a pattern begins with one of,
// each at least three bytes; none where there are no such texts. With fold their
// case doesn't count.
func literalsOf(re *syntax.Regexp) (texts []string, fold bool) {
	for _, p := range prefixesOf(re) {
		if len(p.text) < 3 {
			return nil, false
		}
		fold = fold || p.fold
		texts = append(texts, p.text[:min(len(p.text), maxPrefixBytes)])
	}
	if fold {
		for i := range texts {
			texts[i] = strings.ToLower(texts[i])
		}
	}
	slices.Sort(texts)
	return slices.Compact(texts), fold
}

// prefix is how a match may begin; exact says that it may also end there.
type prefix struct {
	text  string
	fold  bool
	exact bool
}

func prefixesOf(re *syntax.Regexp) []prefix {
	anything := []prefix{{}}
	switch re.Op {
	case syntax.OpEmptyMatch, syntax.OpBeginText, syntax.OpBeginLine, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return []prefix{{exact: true}}
	case syntax.OpLiteral:
		return []prefix{{string(re.Rune), re.Flags&syntax.FoldCase != 0, true}}
	case syntax.OpCharClass:
		var out []prefix
		for i := 0; i < len(re.Rune); i += 2 {
			if re.Rune[i+1]-re.Rune[i] > maxPrefixes {
				return anything
			}
			for r := re.Rune[i]; r <= re.Rune[i+1]; r++ {
				if out = append(out, prefix{string(r), false, true}); len(out) > 26 {
					return anything
				}
			}
		}
		return out
	case syntax.OpCapture:
		return prefixesOf(re.Sub[0])
	case syntax.OpPlus:
		return open(prefixesOf(re.Sub[0]))
	case syntax.OpRepeat:
		if re.Min > 0 {
			return open(prefixesOf(re.Sub[0]))
		}
	case syntax.OpQuest:
		return append(prefixesOf(re.Sub[0]), prefix{exact: true})
	case syntax.OpAlternate:
		var out []prefix
		for _, sub := range re.Sub {
			if out = append(out, prefixesOf(sub)...); len(out) > maxPrefixes {
				return anything
			}
		}
		return out
	case syntax.OpConcat:
		return concat(re.Sub)
	}
	return anything
}

// concat joins the prefixes of what follows one another, as far as they stay few.
func concat(subs []*syntax.Regexp) []prefix {
	out := []prefix{{exact: true}}
	for _, sub := range subs {
		if !slices.ContainsFunc(out, func(p prefix) bool { return p.exact && len(p.text) < maxPrefixBytes }) {
			return out
		}
		next := prefixesOf(sub)
		if len(next) > 1 && !slices.ContainsFunc(out, func(p prefix) bool { return len(p.text) < 3 }) {
			return open(out) // long enough; more of it would only be more to look for
		}
		if len(out)*len(next) > maxPrefixes {
			return open(out)
		}
		var joined []prefix
		for _, p := range out {
			if !p.exact {
				joined = append(joined, p)
				continue
			}
			for _, n := range next {
				joined = append(joined, prefix{p.text + n.text, p.fold || n.fold, n.exact})
			}
		}
		out = joined
	}
	return out
}

// open says that the match goes on in ways that are not followed.
func open(ps []prefix) []prefix {
	out := slices.Clone(ps)
	for i := range out {
		out[i].exact = false
	}
	return out
}
