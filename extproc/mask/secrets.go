package mask

import "strings"

// secretRules is the curated set, written from the formats that the issuers
// document. Fixed-length formats are matched open-ended (at least that long), so
// that a longer variant is hidden whole rather than in part.
func secretRules() []secretRule {
	api := func(name, literal, pattern string) secretRule {
		r := secretRule{det: detAPIKey, name: name, literals: []string{literal}, pattern: pattern}
		if strings.Contains(strings.ReplaceAll(pattern, "(?:", ""), "(") {
			r.group = 1
		}
		return r
	}
	bounded := func(r secretRule) secretRule { r.bounded = true; return r }
	needs := func(r secretRule, c byte) secretRule { r.needs, r.noBlank = c, true; return r }
	fold := func(r secretRule) secretRule { r.fold = true; return r }
	// Three characters, a digit, Q~ and the rest.
	azure := secretRule{det: detAPIKey, name: "azure_client_secret", before: 4, group: 1, pattern: `(?:^|[^A-Za-z0-9_~.-])([A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.-]{31,34})(?:[^A-Za-z0-9_~.-]|$)`}
	for c := byte('0'); c <= '9'; c++ {
		azure.literals = append(azure.literals, string(c)+"Q~")
	}

	return []secretRule{
		// Private keys and signed tokens: own code, their length has no bound.
		{det: detPrivateKey, name: "pem", literals: []string{"-----BEGIN"}},
		{det: detPrivateKey, name: "putty", literals: []string{"PuTTY-User-Key-File"}},
		{det: detPrivateKey, name: "age", literals: []string{"AGE-SECRET-KEY-1"}, pattern: `AGE-SECRET-KEY-1[0-9A-Z]{50,}`},
		// The header begins with `{"`, `{ `, or `{` and a line end.
		{det: detJWT, name: "jwt", literals: []string{"eyJ", "eyA", "ewog", "ewoJ", "ewoi", "ewoK", "ew0K"}},

		// Cloud providers.
		api("aws_access_key_id", "AKIA", `AKIA[A-Z2-7]{16,}`),
		api("aws_access_key_id", "ASIA", `ASIA[A-Z2-7]{16,}`),
		api("aws_bearer", "ABIA", `ABIA[A-Z2-7]{16,}`),
		api("aws_context_credential", "ACCA", `ACCA[A-Z2-7]{16,}`),
		api("aws_session_token", "IQoJb3JpZ2lu", `IQoJb3JpZ2lu[A-Za-z0-9+/=%_-]{80,}`),
		api("google_api_key", "AIza", `AIza[A-Za-z0-9_-]{35,}`),
		api("google_oauth_token", "ya29.", `ya29\.[A-Za-z0-9_-]{20,}`),
		api("google_client_secret", "GOCSPX-", `GOCSPX-[A-Za-z0-9_-]{20,}`),
		api("azure_account_key", "AccountKey=", `AccountKey=([A-Za-z0-9+/]{86}==)`),
		api("azure_sas_key", "SharedAccessKey=", `SharedAccessKey=([A-Za-z0-9+/]{43}=)`),
		api("digitalocean_token", "dop_v1_", `dop_v1_[a-f0-9]{64,}`),
		api("digitalocean_token", "doo_v1_", `doo_v1_[a-f0-9]{64,}`),
		api("digitalocean_token", "dor_v1_", `dor_v1_[a-f0-9]{64,}`),
		api("databricks_token", "dapi", `dapi[a-f0-9]{32,}(?:-\d)?`),
		api("vault_token", "hvs.", `hvs\.[A-Za-z0-9_-]{24,}`),
		api("vault_token", "hvb.", `hvb\.[A-Za-z0-9_-]{24,}`),
		api("doppler_token", "dp.pt.", `dp\.pt\.[A-Za-z0-9]{40,}`),
		api("planetscale_token", "pscale_", `pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.=-]{32,}`),
		api("supabase_token", "sbp_", `sbp_[a-f0-9]{40,}`),

		// Source hosting and package registries.
		api("github_token", "ghp_", `ghp_[A-Za-z0-9]{36,}`),
		api("github_token", "gho_", `gho_[A-Za-z0-9]{36,}`),
		api("github_token", "ghu_", `ghu_[A-Za-z0-9]{36,}`),
		api("github_token", "ghs_", `ghs_[A-Za-z0-9]{36,}`),
		api("github_token", "ghr_", `ghr_[A-Za-z0-9]{36,}`),
		api("github_token", "github_pat_", `github_pat_[A-Za-z0-9_]{60,}`),
		api("gitlab_token", "glpat-", `glpat-[A-Za-z0-9_-]{20,}(?:\.[A-Za-z0-9_-]+)*`),
		api("gitlab_token", "gldt-", `gldt-[A-Za-z0-9_-]{20,}`),
		api("gitlab_token", "glrt-", `glrt-[A-Za-z0-9_-]{20,}(?:\.[A-Za-z0-9_-]+)*`),
		api("gitlab_token", "glptt-", `glptt-[a-f0-9]{40,}`),
		api("npm_token", "npm_", `npm_[A-Za-z0-9]{36,}`),
		api("pypi_token", "pypi-AgE", `pypi-AgE[A-Za-z0-9_-]{50,}`),
		api("rubygems_token", "rubygems_", `rubygems_[a-f0-9]{48,}`),
		api("docker_token", "dckr_pat_", `dckr_pat_[A-Za-z0-9_-]{27,}`),
		api("atlassian_token", "ATATT3", `ATATT3[A-Za-z0-9_=-]{150,}`),

		// Messaging, mail and telephony.
		bounded(api("slack_token", "xox", `xox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,}`)),
		bounded(api("slack_app_token", "xapp-", `xapp-\d-[A-Za-z0-9-]{20,}`)),
		api("slack_webhook", "hooks.slack.com/", `hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9/_-]{20,})`),
		api("discord_webhook", "/api/webhooks/", `/api/webhooks/\d{17,20}/([A-Za-z0-9_-]{60,})`),
		bounded(api("sendgrid_key", "SG.", `SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{32,}`)),
		bounded(api("mailgun_key", "key-", `(key-[a-f0-9]{32})(?:[^a-z0-9]|$)`)),

		// Payments and commerce.
		api("stripe_key", "sk_live_", `sk_live_[A-Za-z0-9]{16,}`),
		api("stripe_key", "sk_test_", `sk_test_[A-Za-z0-9]{16,}`),
		api("stripe_key", "rk_live_", `rk_live_[A-Za-z0-9]{16,}`),
		api("stripe_key", "rk_test_", `rk_test_[A-Za-z0-9]{16,}`),
		api("stripe_webhook_secret", "whsec_", `whsec_[A-Za-z0-9+/=]{24,}`),
		api("shopify_token", "shpat_", `shpat_[A-Fa-f0-9]{32,}`),
		api("shopify_token", "shpca_", `shpca_[A-Fa-f0-9]{32,}`),
		api("shopify_token", "shppa_", `shppa_[A-Fa-f0-9]{32,}`),
		api("shopify_secret", "shpss_", `shpss_[A-Fa-f0-9]{32,}`),
		api("square_token", "sq0atp-", `sq0atp-[A-Za-z0-9_-]{22,}`),
		api("square_secret", "sq0csp-", `sq0csp-[A-Za-z0-9_-]{43,}`),

		// Models.
		bounded(api("anthropic_key", "sk-ant-", `sk-ant-[A-Za-z0-9_-]{20,}`)),
		bounded(api("openai_key", "sk-", `sk-(?:(?:proj|svcacct|admin|None|or-v1)-[A-Za-z0-9_-]{20,}|[A-Za-z0-9]{32,})`)),
		api("huggingface_token", "hf_", `hf_[A-Za-z]{34,}`),
		api("groq_key", "gsk_", `gsk_[A-Za-z0-9]{48,}`),
		bounded(api("xai_key", "xai-", `xai-[A-Za-z0-9]{64,}`)),
		bounded(api("perplexity_key", "pplx-", `pplx-[A-Za-z0-9]{40,}`)),
		bounded(api("replicate_token", "r8_", `r8_[A-Za-z0-9]{36,}`)),

		// Tools.
		api("grafana_token", "glsa_", `glsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}`),
		api("grafana_token", "glc_", `glc_[A-Za-z0-9+/=]{32,}`),
		api("newrelic_key", "NRAK-", `NRAK-[A-Z0-9]{27,}`),
		api("postman_key", "PMAK-", `PMAK-[a-f0-9]{24}-[a-f0-9]{34}`),
		api("linear_key", "lin_api_", `lin_api_[A-Za-z0-9]{40,}`),
		api("notion_token", "ntn_", `ntn_[A-Za-z0-9]{40,}`),
		api("figma_token", "figd_", `figd_[A-Za-z0-9_-]{40,}`),
		api("tavily_key", "tvly-", `tvly-[A-Za-z0-9_-]{20,}`),

		fold(api("authorization_header", "bearer ", `(?i:bearer) {1,4}([A-Za-z0-9._~+/-]{16,}=*)`)),
		fold(api("authorization_header", "authorization: basic ", `(?i:authorization: basic) {1,4}([A-Za-z0-9+/]{12,}=*)`)),
		api("sourcegraph_token", "sgp_", `sgp_(?:[a-fA-F0-9]{16}_|local_)?[a-fA-F0-9]{40}`),
		api("teams_webhook", ".webhook.office.com/", `\.webhook\.office\.com/([A-Za-z0-9@/_-]{40,})`),
		azure,

		// The password in a connection string or URL.
		needs(api("url_password", "://", `://[^\s/:@"'<>]{0,64}:([^\s/@"'<>]{1,128})@`), '@'),
	}
}

// keyedRules is the curated set for secrets without a form of their own.
func keyedRules() []keyedRule {
	return []keyedRule{
		{name: "aws_secret_access_key", words: []string{"secretaccesskey", "secretkey", "awssecret"}, pattern: `\A[A-Za-z0-9/+]{40}\z`},
		{name: "okta_token", words: []string{"okta"}, pattern: `\A00[\w=-]{40}\z`},
	}
}
