package functions

import (
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// netFunctions tell where an address leads.
func netFunctions() []cel.EnvOption {
	return []cel.EnvOption{
		ofTextAndList("net.inCIDR", cel.BoolType, func(s string, list []string) ref.Val {
			ip, ok := address(s)
			if !ok {
				return types.False
			}
			for _, c := range list {
				p, err := netip.ParsePrefix(c)
				if err != nil {
					one, err := netip.ParseAddr(c)
					if err != nil {
						return types.NewErr("net.inCIDR: %q is no network such as 10.0.0.0/8", c)
					}
					p = netip.PrefixFrom(one, one.BitLen())
				}
				if p.Contains(ip) {
					return types.True
				}
			}
			return types.False
		}),
		ofText("net.isPrivate", cel.BoolType, func(s string) ref.Val { return types.Bool(private(s)) }),
		ofText("net.host", cel.StringType, func(s string) ref.Val { return types.String(host(s)) }),
		ofText("net.scheme", cel.StringType, func(s string) ref.Val {
			scheme, _, ok := strings.Cut(strings.TrimSpace(s), ":")
			if !ok {
				return types.String("")
			}
			return types.String(strings.ToLower(scheme))
		}),
		cel.Function("glob.match", cel.Overload("glob_match_string_string", []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType,
			cel.BinaryBinding(func(a, b ref.Val) ref.Val {
				s, ok := a.(types.String)
				p, ok2 := b.(types.String)
				if !ok || !ok2 {
					return types.MaybeNoSuchOverloadErr(a)
				}
				if len(s) > maxText {
					return tooLong("glob.match")
				}
				hit, err := path.Match(string(p), string(s))
				if err != nil {
					return types.NewErr("glob.match: %q is not a glob", string(p))
				}
				return types.Bool(hit)
			}))),
	}
}

// host is the host of a URL or of host[:port], as clients would connect to it:
// without user, port and brackets, in small letters, without a last dot.
func host(s string) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		// Browsers and libraries drop these inside a URL.
		if r == '\t' || r == '\n' || r == '\r' {
			return -1
		}
		return r
	}, s))
	s = strings.ReplaceAll(s, `\`, "/")
	if i := strings.Index(s, "//"); i >= 0 {
		s = s[i+2:]
	}
	s, _, _ = strings.Cut(s, "/")
	s, _, _ = strings.Cut(s, "?")
	s, _, _ = strings.Cut(s, "#")
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		s = s[i+1:]
	}
	if plain, err := url.PathUnescape(s); err == nil {
		s = plain
	}
	if strings.HasPrefix(s, "[") {
		s, _, _ = strings.Cut(s[1:], "]")
	} else if strings.Count(s, ":") == 1 {
		s, _, _ = strings.Cut(s, ":")
	}
	// What IDNA takes for a dot.
	s = strings.NewReplacer("\u3002", ".", "\uff0e", ".", "\uff61", ".").Replace(s)
	return strings.TrimSuffix(normalize(s), ".")
}

// localNames lead to the host itself or to what a cloud gives its machines.
var localNames = []string{"localhost", "metadata", "instance-data", "kubernetes", "host.docker.internal", "gateway.docker.internal"}

// localSuffixes are of names that no public resolver knows, and of public ones
// that answer with the address in the name.
var localSuffixes = []string{".localhost", ".local", ".internal", ".intranet", ".lan", ".home", ".corp", ".home.arpa", ".cluster.local", ".svc", ".localdomain",
	".nip.io", ".sslip.io", ".xip.io", ".localtest.me", ".lvh.me"}

// private reports whether a URL or host leads to the inside of a network: to
// addresses that are not public, in whatever way they are written, or to names
// that stand for those. Names that a public DNS resolves to such an address
// can't be told without asking it, and are not.
func private(s string) bool {
	h := host(s)
	if ip, ok := address(h); ok {
		return !public(ip)
	}
	for _, n := range localNames {
		if h == n {
			return true
		}
	}
	for _, suffix := range localSuffixes {
		if strings.HasSuffix(h, suffix) || "."+h == suffix {
			return true
		}
	}
	// A name without a dot is looked up in the network's own domain.
	return h != "" && !strings.Contains(h, ".") && !strings.ContainsAny(h, " :")
}

// special are networks that are not on the public Internet (RFC 6890), beyond
// those that the standard library knows.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("fec0::/10"),
	netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("100::/64"),
}

func public(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	// Addresses that carry one of IPv4: NAT64, 6to4, and the old compatible form.
	if b := ip.As16(); ip.Is6() {
		switch {
		case b[0] == 0x00 && b[1] == 0x64 && b[2] == 0xff && b[3] == 0x9b, allZero(b[:12]) && ip.IsValid() && !ip.IsUnspecified() && !ip.IsLoopback():
			return public(netip.AddrFrom4([4]byte(b[12:16])))
		case b[0] == 0x20 && b[1] == 0x02:
			return public(netip.AddrFrom4([4]byte(b[2:6])))
		}
	}
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return false
	}
	for _, p := range special {
		if p.Contains(ip) {
			return false
		}
	}
	return true
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// address reads an IP address as inet_aton and browsers do: an IPv4 one may have
// fewer than four parts, and parts in octal or hexadecimal.
func address(s string) (netip.Addr, bool) {
	s = strings.TrimSpace(s)
	if ip, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return ip.Unmap(), true
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap(), true
	}
	parts := strings.Split(strings.TrimSuffix(s, "."), ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var value uint64
	for i, part := range parts {
		n, err := number(part)
		if err != nil {
			return netip.Addr{}, false
		}
		if i < len(parts)-1 {
			if n > 255 {
				return netip.Addr{}, false
			}
			value = value<<8 | n
			continue
		}
		rest := uint(8 * (4 - i))
		if rest < 32 && n >= 1<<rest || n > 1<<32-1 {
			return netip.Addr{}, false
		}
		value = value<<rest | n
	}
	return netip.AddrFrom4([4]byte{byte(value >> 24), byte(value >> 16), byte(value >> 8), byte(value)}), true
}

func number(s string) (uint64, error) {
	base := 10
	switch {
	case strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0X"):
		s, base = s[2:], 16
	case len(s) > 1 && s[0] == '0':
		s, base = s[1:], 8
	}
	return strconv.ParseUint(s, base, 64)
}
