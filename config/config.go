package config

import "time"

// Config is the whole configuration of one process.
//
// Every setting that is not a list may also be given in the environment, as
// CALLGATE_ and its path in upper case with underscores (CALLGATE_LISTEN_GRPC),
// and some as flags; a flag wins over the environment, which wins over the file.
type Config struct {
	// Node names this replica in audit rows and metrics. Default: the host name.
	Node string `yaml:"node"`
	// StateDir holds what must survive a restart: the spool, the approval
	// store, the embedded engine's data, the last good policies. Relative
	// paths are relative to the file. Default: ".callgate".
	StateDir string `yaml:"state_dir"`
	// PoliciesDir holds further YAML files with connections and rules,
	// reloaded when they change. Relative to the file. Default: none.
	PoliciesDir string `yaml:"policies_dir"`

	Listen    Listen    `yaml:"listen"`
	Services  Services  `yaml:"services"`
	Log       Log       `yaml:"log"`
	Envoy     Envoy     `yaml:"envoy"`
	Identity  Identity  `yaml:"identity"`
	Approvals Approvals `yaml:"approvals"`
	Console   Console   `yaml:"console"`
	Control   Control   `yaml:"control"`
	Audit     Audit     `yaml:"audit"`
	Masking   Masking   `yaml:"masking"`

	// Policy is what can change while the process runs.
	Policy Policy `yaml:",inline"`
}

// Listen holds the addresses Callgate listens on.
type Listen struct {
	GRPC    string `yaml:"grpc"`    // ext_authz, ext_proc and access log services. Default 127.0.0.1:9191
	XDS     string `yaml:"xds"`     // delta ADS. Default 127.0.0.1:18000
	Console string `yaml:"console"` // admin API. Default 127.0.0.1:8080
	Metrics string `yaml:"metrics"` // Prometheus metrics and health. Default 127.0.0.1:9090
}

// Log says what is logged to standard error.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn or error. Default info
	Format string `yaml:"format"` // json or text. Default json
}

// Envoy describes the data path that xDS builds.
type Envoy struct {
	Listen string `yaml:"listen"` // where Envoy listens. Default 127.0.0.1:10000
	TLS    TLS    `yaml:"tls"`    // of that listener; empty: plain text
	// Services is the address under which Envoys reach listen.grpc, where
	// it is not the same (a Kubernetes service name, say).
	Services string `yaml:"services"`
	// ServicesTLS is what Envoys show there and whom they believe.
	ServicesTLS TowardsServices `yaml:"services_tls"`
	// Nodes lists the Envoy node ids that may fetch configuration; globs.
	// Default: any.
	Nodes []string `yaml:"nodes"`
	// DecideTimeout bounds a decision without a hold. Default 2s.
	DecideTimeout time.Duration `yaml:"decide_timeout"`
	// TrustedHops is how many proxies before Envoy may be believed about
	// x-forwarded-for. Default 0.
	TrustedHops uint32 `yaml:"trusted_hops"`
}

// TLS names PEM files. Both or neither are set.
type TLS struct {
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// ClientCAFile makes Envoy ask callers for a certificate, which must chain
	// to one of these. Whom it names is identity.mtls's to say.
	ClientCAFile string `yaml:"client_ca_file"`
	// RequireClientCertificate refuses connections without one.
	RequireClientCertificate bool `yaml:"require_client_certificate"`
}

// Identity says whose tokens are believed.
type Identity struct {
	Issuers []Issuer `yaml:"issuers"`
	// Keys are static API keys, taken as bearer tokens and in KeyHeader.
	Keys []Key `yaml:"keys"`
	// KeyHeader is a header that API keys may come in too, such as x-api-key.
	// Default: none.
	KeyHeader string `yaml:"key_header"`
	MTLS      MTLS   `yaml:"mtls"`
	// SAML are providers whose assertions are taken as bearer credentials.
	SAML []SAML `yaml:"saml"`
	// AssertionHeader is a header that assertions may come in, beside
	// 'Authorization: SAML …'. Default: none.
	AssertionHeader string   `yaml:"assertion_header"`
	Exchange        Exchange `yaml:"exchange"`
	// ClockSkew is forgiven on exp, nbf and iat. Default 60s.
	ClockSkew time.Duration `yaml:"clock_skew"`
	// Unreachable says what a start does when an issuer can't be reached:
	// "fail" (default) ends it, "wait" goes on, denying that issuer's
	// tokens until it answers.
	Unreachable string `yaml:"unreachable"`
}

// Issuer is one OpenID Connect issuer.
type Issuer struct {
	Name       string   `yaml:"name"`       // for logs and errors
	URL        string   `yaml:"url"`        // the issuer identifier; discovery is read below it. Required
	Audiences  []string `yaml:"audiences"`  // a token must name at least one. Required
	Algorithms []string `yaml:"algorithms"` // accepted signature algorithms. Default RS256, PS256, ES256, EdDSA
	Claims     Claims   `yaml:"claims"`
	// Preset fills in what a well-known issuer's tokens look like: auth0,
	// entra, github, gitlab, google, keycloak, kubernetes or okta.
	Preset string `yaml:"preset"`
	// Outage is how long known keys are believed while the issuer can't be
	// reached, over a restart too. Default 24h.
	Outage        time.Duration `yaml:"outage"`
	Introspection Introspection `yaml:"introspection"`
	Kind          string        `yaml:"kind"`    // of identities whose token does not say. Default human
	CAFile        string        `yaml:"ca_file"` // trusted for this issuer instead of the system's
}

// Claims names the claims an identity is read from; a dotted path reaches
// into objects.
type Claims struct {
	Subject string `yaml:"subject"` // default "sub"
	Groups  string `yaml:"groups"`  // default "groups"
	Kind    string `yaml:"kind"`    // default "kind"
	// Separators are the characters between groups of a claim that is a text
	// and no list, such as " ,". Default: such a text is one group.
	Separators string `yaml:"separators"`
	// Require lists, by claim, the values of which a token must have one; globs.
	// An issuer that gives tokens to anybody needs it.
	Require map[string][]string `yaml:"require"`
}

// Approvals says where held calls are kept and who may decide by default.
type Approvals struct {
	// File is the SQLite database of one machine. Default: approvals.db in
	// state_dir. It is not used with postgres.
	File string `yaml:"file"`
	// MaxOpen bounds how many of one caller's calls wait for people. Default 100.
	MaxOpen uint32 `yaml:"max_open"`
	// Postgres is the store of several replicas. Default: the file.
	Postgres Postgres `yaml:"postgres"`
	// Approvers may decide where the rule names nobody.
	Approvers Approvers `yaml:"approvers"`
	// URL is where people reach the console, such as
	// https://callgate.example.com. Links in messages lead there.
	URL string `yaml:"url"`
	// Notify are told what happens to held calls.
	Notify []Notify `yaml:"notify"`
}

// Approvers are people who may decide a held call.
type Approvers struct {
	Groups []string `yaml:"groups"` // or "issuer|group", where several issuers may have one
	People []string `yaml:"people"` // subjects, or "issuer|subject" where subjects are not unique
}

// Masking bounds the masking of responses.
type Masking struct {
	// Memory is what all responses that are being masked may hold at once;
	// beyond it they are withheld. Default 512MiB.
	Memory Bytes `yaml:"memory"`
	// Timeout bounds the work on one part of a response: masking it, analyzers
	// included, and making its record durable. Beyond it the response is
	// withheld. Default 30s.
	Timeout time.Duration `yaml:"timeout"`
}

// Audit says where the trail goes.
type Audit struct {
	Spool Spool `yaml:"spool"`
	// HashKey keys the hashes that stand for credentials and, with mask.how
	// hash, for masked values; 32 characters or more. Replicas that share one
	// give equal values equal hashes. Default: made in state_dir.
	HashKey Secret `yaml:"hash_key"`
	Ledger  Ledger `yaml:"ledger"`
	// Administrators may erase content. Default: nobody.
	Administrators Approvers  `yaml:"administrators"`
	ClickHouse     ClickHouse `yaml:"clickhouse"`
	Unseal         Unseal     `yaml:"unseal"`
}

// Unseal says who gets to see what masks hid (a connection's record.originals).
type Unseal struct {
	// Investigators may ask for an original. Default: nobody.
	Investigators Approvers `yaml:"investigators"`
	// Approvers must agree first, one who is not the one that asks. Default:
	// nobody, and so nothing is released.
	Approvers Approvers `yaml:"approvers"`
	// ReleaseKey is an age X25519 identity (age-keygen) with which originals are
	// encrypted around the encryption to investigators, so that none is opened
	// without the gateway. Replicas share it. Default: made in state_dir.
	ReleaseKey Secret `yaml:"release_key"`
	// Wait is how long an agreement is waited for. Default 24h.
	Wait time.Duration `yaml:"wait"`
}

// Ledger says how the trail is signed.
type Ledger struct {
	// KeysFile holds the signing keys of this replica, made at its first
	// start. "callgate audit keys" manages it. Default: ledger.keys in state_dir.
	KeysFile string `yaml:"keys_file"`
	// Interval is the time between two checkpoints: what a record needs, at
	// most, until no change of it goes unseen. Default and most 10s.
	Interval time.Duration `yaml:"interval"`
	// Witness is a file on another host's disk, or an http(s) URL, that gets
	// every checkpoint: with it a deletion of the newest events shows too.
	// Default: none.
	Witness string `yaml:"witness"`
	// WitnessCAFile is what an https witness's certificate must chain to.
	// Default: the system's roots.
	WitnessCAFile string `yaml:"witness_ca_file"`
}

// Spool is the local disk that events reach before a call goes on.
type Spool struct {
	Dir      string `yaml:"dir"`       // default: spool in state_dir
	MaxBytes Bytes  `yaml:"max_bytes"` // at this size calls are denied. Default 10GiB
}

// ClickHouse is the server, cluster or embedded engine that holds the trail.
type ClickHouse struct {
	// URL is http(s)://host:port or clickhouse(s)://host:port (native
	// protocol). Several hosts, separated by commas, are tried in turn.
	// Empty: the trail stays in the spool until one is set.
	URL      string `yaml:"url"`
	Database string `yaml:"database"` // default callgate
	Username string `yaml:"username"` // default default
	Password Secret `yaml:"password"`
	CAFile   string `yaml:"ca_file"`
	// Cluster is the name of the cluster, as in the servers' remote_servers,
	// that the tables are made on: replicated, with a distributed table over
	// each. Default: a single server.
	Cluster string `yaml:"cluster"`
	// ReplicaPath is where a table's replicas meet in Keeper, with the
	// servers' own macros. Default /clickhouse/tables/{shard}/{database}/{table}.
	ReplicaPath string `yaml:"replica_path"`
	// ReplicaName names a server among a table's replicas. Default {replica}.
	ReplicaName string `yaml:"replica_name"`
	// InsertQuorum is how many replicas must have rows before they leave the
	// spool: auto (the majority) or a number. Default auto.
	InsertQuorum string `yaml:"insert_quorum"`
	// SettleAfter is how long a call's row waits for a leg that has not
	// arrived; then it is written with that leg unknown, and completed when
	// the leg comes after all. Default 60s.
	SettleAfter time.Duration `yaml:"settle_after"`
}

// Secret says where a secret is read from; exactly one is set. A secret never
// stands in the file itself.
type Secret struct {
	Env  string `yaml:"env"`  // an environment variable
	File string `yaml:"file"` // a file, surrounding white space trimmed; re-read when it changes
}

// Bytes is a size in bytes, written "1MiB", "64KB" or a plain number.
type Bytes int64
