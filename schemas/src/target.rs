//! Where the product may connect to or send people to: the syntax of target URLs, and which
//! addresses are public.
//!
//! Registration checks a webhook's URL with [`webhook`]; the dispatcher checks it again and asks
//! [`permits`] for every address it is about to connect to, because names may come to mean other
//! addresses. [`web_page`] checks where a link may lead. The URL that is checked is the URL that is
//! used: what two parsers could read in two ways is refused, never repaired.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes a target URL may have.
pub const URL_LEN_MAX: usize = 2_048;

/// Ports of databases and control planes above 1023 that no webhook receiver listens on.
const PORTS_DENIED: &[u16] =
    &[2375, 2376, 2379, 2380, 3306, 5432, 5984, 6379, 8086, 9042, 9092, 9200, 9300, 11211, 27017];

/// Names that never lead to the public internet (RFC 6761, RFC 6762, RFC 7686, RFC 9476 and common
/// private use).
const SUFFIXES_DENIED: &[&str] =
    &["localhost", "local", "internal", "test", "invalid", "onion", "alt", "lan", "home.arpa"];

/// Why a target URL is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetFault {
    /// Not a URL of the accepted shape.
    #[error("must be an absolute URL of printable ASCII, like https://example.com/path")]
    Malformed,
    /// Longer than [`URL_LEN_MAX`].
    #[error("must have at most 2048 bytes")]
    TooLong,
    /// Neither https nor, where that is allowed, http.
    #[error("must begin with https://")]
    Scheme,
    /// `user:password@`.
    #[error("must not hold a user name or password")]
    UserInfo,
    /// `#...` on a webhook.
    #[error("must not hold a fragment")]
    Fragment,
    /// Not a host name with a dot, nor an address in its usual spelling.
    #[error("must name a host by its full domain name")]
    Host,
    /// A private, loopback or reserved address or name.
    #[error("must lead to a public host")]
    NotPublic,
    /// A port that is not 443 nor one of 1024 to 65535, or is known for something else.
    #[error("must use port 443 or an unprivileged port that is not a database's")]
    Port,
}

impl TargetFault {
    /// Stable code for the error shape.
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooLong => "out_of_range",
            Self::NotPublic | Self::Port => "blocked_target",
            _ => "invalid_format",
        }
    }
}

/// The host of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name, lower case, without a trailing dot.
    Name(String),
    /// An address; a v4 address mapped into v6 is given as v4.
    Address(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
        }
    }
}

/// A URL taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// https, or else http.
    pub https: bool,
    /// Whom to connect to.
    pub host: Host,
    /// 443 or 80 where the URL does not say.
    pub port: u16,
    /// Begins with `/`; holds the query, never a fragment.
    pub path_and_query: String,
    /// Was there a `#`?
    pub has_fragment: bool,
}

impl Target {
    /// Does it lead to this machine by its spelling alone?
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Name(name) => name == "localhost",
            Host::Address(address) => address.is_loopback(),
        }
    }
}

/// A webhook receiver's URL: https, public by its spelling, no user info, no fragment. With
/// `allow_loopback` also http or https to this machine, on any port.
///
/// # Errors
/// The first rule it breaks.
pub fn webhook(url: &str, allow_loopback: bool) -> Result<Target, TargetFault> {
    let target = parse(url)?;
    if target.has_fragment {
        return Err(TargetFault::Fragment);
    }
    if allow_loopback && target.is_loopback() {
        return Ok(target);
    }
    if !target.https {
        return Err(TargetFault::Scheme);
    }
    public_by_spelling(&target.host)?;
    let usual = target.port == 443 || target.port >= 1024;
    if !usual || PORTS_DENIED.contains(&target.port) {
        return Err(TargetFault::Port);
    }
    Ok(target)
}

/// A page that a customer's browser is sent to: https, no user info; a fragment is fine. With
/// `allow_http` also http.
///
/// # Errors
/// The first rule it breaks.
pub fn web_page(url: &str, allow_http: bool) -> Result<Target, TargetFault> {
    let target = parse(url)?;
    if !target.https && !allow_http {
        return Err(TargetFault::Scheme);
    }
    Ok(target)
}

/// May a webhook be sent to `address`? Asked for every answer of the resolver, and again for the
/// peer of the connection.
pub fn permits(address: IpAddr, allow_loopback: bool) -> bool {
    is_public(address) || (allow_loopback && address.is_loopback())
}

/// Is `address` one of the public internet? What the IANA special-purpose registries reserve is
/// not, nor is 168.63.129.16, a cloud's platform address.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    const DENIED: &[([u8; 4], u32)] = &[
        ([0, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        ([100, 64, 0, 0], 10),
        ([127, 0, 0, 0], 8),
        ([168, 63, 129, 16], 32),
        ([169, 254, 0, 0], 16),
        ([172, 16, 0, 0], 12),
        ([192, 0, 0, 0], 24),
        ([192, 0, 2, 0], 24),
        ([192, 88, 99, 0], 24),
        ([192, 168, 0, 0], 16),
        ([198, 18, 0, 0], 15),
        ([198, 51, 100, 0], 24),
        ([203, 0, 113, 0], 24),
        ([224, 0, 0, 0], 4),
        ([240, 0, 0, 0], 4),
    ];
    let bits = address.to_bits();
    !DENIED.iter().any(|(net, len)| (bits ^ u32::from_be_bytes(*net)) >> (32 - len) == 0)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    const DENIED: &[(u128, u32)] = &[
        (0, 8),
        (0x0100_u128 << 112, 64),
        (0x2001_u128 << 112, 23),
        (0x2001_0db8_u128 << 96, 32),
        (0x2002_u128 << 112, 16),
        (0x3fff_u128 << 112, 20),
        (0x5f00_u128 << 112, 16),
        (0xfc00_u128 << 112, 7),
        (0xfe80_u128 << 112, 10),
        (0xfec0_u128 << 112, 10),
        (0xff00_u128 << 112, 8),
    ];
    /// 64:ff9b::/96, the well-known prefix of RFC 6052: what counts is the v4 address inside.
    const NAT64: u128 = 0x0064_ff9b_u128 << 96;
    let bits = address.to_bits();
    if (bits ^ NAT64) >> 32 == 0 {
        return is_public_v4(Ipv4Addr::from_bits(bits as u32));
    }
    !DENIED.iter().any(|(net, len)| (bits ^ net) >> (128 - len) == 0)
}

fn public_by_spelling(host: &Host) -> Result<(), TargetFault> {
    match host {
        Host::Address(address) if is_public(*address) => Ok(()),
        Host::Address(_) => Err(TargetFault::NotPublic),
        Host::Name(name) => {
            let denied = SUFFIXES_DENIED.iter().any(|suffix| {
                name.strip_suffix(suffix).is_some_and(|head| head.is_empty() || head.ends_with('.'))
            });
            match (denied, name.contains('.')) {
                (true, _) => Err(TargetFault::NotPublic),
                (false, false) => Err(TargetFault::Host),
                (false, true) => Ok(()),
            }
        }
    }
}

/// Scheme, authority, path and query of an http or https URL.
fn parse(url: &str) -> Result<Target, TargetFault> {
    if url.len() > URL_LEN_MAX {
        return Err(TargetFault::TooLong);
    }
    // A backslash is a slash to browsers and a character to others; quotes and blanks end headers
    // and attributes. None of them stands in a URL unescaped (RFC 3986).
    let printable = |b: u8| b.is_ascii_graphic() && !br#"\"<>^`{|}"#.contains(&b);
    if !url.bytes().all(printable) {
        return Err(TargetFault::Malformed);
    }
    let (scheme, rest) = url.split_once("://").ok_or(TargetFault::Malformed)?;
    let https = match scheme.to_ascii_lowercase().as_str() {
        "https" => true,
        "http" => false,
        _ => return Err(TargetFault::Scheme),
    };
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err(TargetFault::UserInfo);
    }
    let (host, port) = split_port(authority)?;
    let (path, has_fragment) = match tail.split_once('#') {
        Some((path, _)) => (path, true),
        None => (tail, false),
    };
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok(Target {
        https,
        host: parse_host(host)?,
        port: port.unwrap_or(if https { 443 } else { 80 }),
        path_and_query: format!("{slash}{path}"),
        has_fragment,
    })
}

/// The host and, where there is one, the port of `host:port`.
fn split_port(authority: &str) -> Result<(&str, Option<u16>), TargetFault> {
    let after_bracket = authority.rfind(']').map_or(0, |i| i + 1);
    let Some(colon) = authority[after_bracket..].find(':').map(|i| i + after_bracket) else {
        return Ok((authority, None));
    };
    let digits = &authority[colon + 1..];
    let port = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
    match port {
        Some(port) if port > 0 => Ok((&authority[..colon], Some(port))),
        _ => Err(TargetFault::Malformed),
    }
}

fn parse_host(host: &str) -> Result<Host, TargetFault> {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Ipv6Addr = inner.parse().map_err(|_| TargetFault::Host)?;
        return Ok(Host::Address(IpAddr::V6(address).to_canonical()));
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(Host::Address(IpAddr::V4(address)));
    }
    let name = host.to_ascii_lowercase();
    let labels_fit = name.len() <= 253 && name.split('.').all(is_label);
    // A last label that is a number makes resolvers read the whole as an address in decimal, octal
    // or hex (WHATWG URL, "ends in a number"). Only the usual spelling above is taken.
    let last = name.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    if labels_fit && !numeric { Ok(Host::Name(name)) } else { Err(TargetFault::Host) }
}

/// Letters, digits and inner hyphens (RFC 1123); underscores, which some names have.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use TargetFault::{Fragment, Host as BadHost, Malformed, NotPublic, Port, Scheme, UserInfo};

    #[test]
    fn webhook_urls() {
        let cases: &[(&str, Result<u16, TargetFault>)] = &[
            ("https://example.com/hook?x=1", Ok(443)),
            ("HTTPS://Example.COM", Ok(443)),
            ("https://example.com:8443/", Ok(8443)),
            ("https://93.184.215.14/", Ok(443)),
            ("https://[2606:4700::1]:8443/", Ok(8443)),
            ("http://example.com/", Err(Scheme)),
            ("ftp://example.com/", Err(Scheme)),
            ("example.com", Err(Malformed)),
            ("https:example.com", Err(Malformed)),
            ("https://exa mple.com/", Err(Malformed)),
            ("https://example.com/\r\nX: y", Err(Malformed)),
            ("https://example.com\\@127.0.0.1/", Err(Malformed)),
            ("https://exämple.com/", Err(Malformed)),
            ("https://user:pw@example.com/", Err(UserInfo)),
            ("https://example.com/#x", Err(Fragment)),
            ("https://example.com#@127.0.0.1/", Err(Fragment)),
            ("https://intranet/", Err(BadHost)),
            ("https://example.com./", Err(BadHost)),
            ("https:///path", Err(BadHost)),
            ("https://-x.example.com/", Err(BadHost)),
            ("https://2130706433/", Err(BadHost)),
            ("https://0x7f.1/", Err(BadHost)),
            ("https://0x7f000001/", Err(BadHost)),
            ("https://0177.0.0.1/", Err(BadHost)),
            ("https://127.1/", Err(BadHost)),
            ("https://[::1/", Err(Malformed)),
            ("https://localhost/", Err(NotPublic)),
            ("https://db.internal/", Err(NotPublic)),
            ("https://printer.local/", Err(NotPublic)),
            ("https://127.0.0.1/", Err(NotPublic)),
            ("https://169.254.169.254/", Err(NotPublic)),
            ("https://[::1]/", Err(NotPublic)),
            ("https://[::ffff:10.0.0.1]/", Err(NotPublic)),
            ("https://[64:ff9b::7f00:1]/", Err(NotPublic)),
            ("https://example.com:22/", Err(Port)),
            ("https://example.com:5432/", Err(Port)),
            ("https://example.com:0/", Err(Malformed)),
            ("https://example.com:99999/", Err(Malformed)),
            ("https://example.com:+443/", Err(Malformed)),
            ("https://example.com:/", Err(Malformed)),
        ];
        for (url, want) in cases {
            assert_eq!(webhook(url, false).map(|t| t.port), *want, "{url}");
        }
        let long = format!("https://example.com/{}", "a".repeat(URL_LEN_MAX));
        assert_eq!(webhook(&long, false), Err(TargetFault::TooLong));
    }

    #[test]
    fn loopback_only_where_allowed() {
        for url in ["http://127.0.0.1:9/x", "http://localhost:3000/", "https://[::1]:8443/"] {
            assert!(webhook(url, true).is_ok(), "{url}");
            assert!(webhook(url, false).is_err(), "{url}");
        }
        for url in ["http://10.0.0.1/", "http://example.com/", "https://192.168.0.1/"] {
            assert!(webhook(url, true).is_err(), "{url}");
        }
    }

    #[test]
    fn pages_of_links() {
        let page = web_page("https://example.com?a=1#top", false).expect("is a page");
        assert_eq!((page.path_and_query.as_str(), page.has_fragment), ("/?a=1", true));
        assert_eq!(web_page("http://example.com/", false), Err(Scheme));
        assert!(web_page("http://example.com/", true).is_ok());
        assert_eq!(web_page("javascript://x/%0aalert(1)", true), Err(Scheme));
    }

    #[test]
    fn which_addresses_are_public() {
        let cases = [
            ("8.8.8.8", true),
            ("172.15.255.255", true),
            ("172.16.0.0", false),
            ("172.31.255.255", false),
            ("172.32.0.0", true),
            ("100.63.255.255", true),
            ("100.64.0.0", false),
            ("198.19.255.255", false),
            ("168.63.129.16", false),
            ("168.63.129.17", true),
            ("255.255.255.255", false),
            ("0.0.0.0", false),
            ("2606:4700::1", true),
            ("::", false),
            ("::1", false),
            ("::ffff:8.8.8.8", false),
            ("64:ff9b::808:808", true),
            ("64:ff9b::a00:1", false),
            ("64:ff9b:1::808:808", false),
            ("2001:db8::1", false),
            ("2001:0:1::", false),
            ("2001:4860:4860::8888", true),
            ("fd00:ec2::254", false),
            ("fe80::1", false),
            ("ff02::1", false),
            ("3fff::1", false),
            ("2002:808:808::", false),
        ];
        for (address, want) in cases {
            assert_eq!(is_public(address.parse().expect("an address")), want, "{address}");
        }
        assert!(permits("127.0.0.1".parse().expect("an address"), true));
        assert!(!permits("10.0.0.1".parse().expect("an address"), true));
    }
}
