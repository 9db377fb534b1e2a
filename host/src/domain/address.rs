//! Which URLs and addresses an endpoint may have: the rules that keep a tenant from using us to
//! reach what only we can reach (OWASP: server-side request forgery).
//!
//! A URL is judged here twice, when an endpoint is saved and again at each attempt;
//! the addresses its name resolves to are judged with [`permitted`] by [`crate::outbound`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Position, Url};

/// Longest URL of an endpoint, as written and as normalised; a longer one is refused.
pub const URL_LIMIT_BYTES: usize = 2048;

/// Where deliveries may go. The operator's choice, the same for all tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressPolicy {
    /// `https` to globally reachable addresses on a webhook port (443, 8080, 8443).
    PublicOnly,
    /// For development and tests: also `http`, any port and any name, loopback (127.0.0.0/8, ::1) and private
    /// addresses (RFC 1918, RFC 4193). Everything else that is not public stays refused,
    /// link-local addresses and so the clouds' metadata services among them.
    AllowInsecure,
}

/// The URL of an endpoint, normalised: lower-case scheme and host, punycode, canonical address, no
/// default port, no trailing dot after the host, no fragment (it is never sent).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointUrl(Url);

/// The rule a URL breaks, worded for the tenant who wrote it; it never says what is at the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlRefused {
    /// More than [`URL_LIMIT_BYTES`].
    #[error("must not be longer than {URL_LIMIT_BYTES} bytes")]
    TooLong,
    /// A character that readers or parsers of a URL disagree about.
    #[error("must not contain spaces, backslashes, control or invisible characters")]
    BadCharacter,
    /// Not `scheme://host…`, or the host, port or address is malformed.
    #[error("is not a valid absolute URL")]
    Malformed,
    /// [`AddressPolicy::PublicOnly`] and not `https`.
    #[error("must use https")]
    NotHttps,
    /// [`AddressPolicy::AllowInsecure`] and neither `https` nor `http`.
    #[error("must use https or http")]
    NotHttp,
    /// `user:password@host`, even when both are empty.
    #[error("must not contain a user name or password")]
    UserInfo,
    /// Not one of the webhook ports.
    #[error("port is not allowed; use 443, 8080 or 8443")]
    Port,
    /// A private, reserved or otherwise not globally reachable host, or not a host name at all.
    #[error("host is not a public name or address")]
    Host,
}

impl EndpointUrl {
    /// Reads and checks `text`. What `PublicOnly` accepts `AllowInsecure` accepts too.
    ///
    /// Parsing follows the WHATWG URL standard, the reading of the HTTP client, without its leniencies.
    ///
    /// # Errors
    /// The first rule that `text` breaks.
    pub fn parse(text: &str, policy: AddressPolicy) -> Result<Self, UrlRefused> {
        if text.len() > URL_LIMIT_BYTES {
            return Err(UrlRefused::TooLong);
        }
        if text.chars().any(misleading) {
            return Err(UrlRefused::BadCharacter);
        }
        let mut url = Url::parse(text).map_err(|_| UrlRefused::Malformed)?;
        check_scheme(&url, policy)?;
        if authority(text, &url)?.contains('@') {
            return Err(UrlRefused::UserInfo);
        }
        url.set_fragment(None);
        strip_root_dot(&mut url)?;
        // Percent-encoding and punycode can lengthen what was written.
        if url.as_str().len() > URL_LIMIT_BYTES {
            return Err(UrlRefused::TooLong);
        }
        let url = Self(url);
        url.check(policy)?;
        Ok(url)
    }

    /// Reads a URL that was accepted before, under another policy or by an older version, without judging it: a rule that has
    /// tightened since must not make what is stored unreadable. [`Self::check`] judges it before each attempt.
    ///
    /// # Errors
    /// [`UrlRefused::Malformed`].
    pub fn restore(text: &str) -> Result<Self, UrlRefused> {
        Url::parse(text).map(Self).map_err(|_| UrlRefused::Malformed)
    }

    /// Judges a URL that was accepted before, under another policy or by an older version.
    ///
    /// # Errors
    /// The first rule of scheme, user name, port and host that it breaks.
    pub fn check(&self, policy: AddressPolicy) -> Result<(), UrlRefused> {
        check_scheme(&self.0, policy)?;
        if !self.0.username().is_empty() || self.0.password().is_some() {
            return Err(UrlRefused::UserInfo);
        }
        check_port(&self.0, policy)?;
        let host_allowed = match self.0.host() {
            Some(Host::Ipv4(ip)) => permitted(ip.into(), policy),
            Some(Host::Ipv6(ip)) => permitted(ip.into(), policy),
            Some(Host::Domain(name)) => policy == AddressPolicy::AllowInsecure || public_name(name),
            None => false,
        };
        if host_allowed { Ok(()) } else { Err(UrlRefused::Host) }
    }

    /// The normalised text, as stored and shown.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// For the HTTP client.
    #[must_use]
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// `scheme://host[:port]`: connections are pooled per origin (RFC 6454 §4).
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.0[..Position::BeforePath]
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether we may connect to `ip`: globally reachable unicast only, plus loopback and private ones under
/// [`AddressPolicy::AllowInsecure`].
///
/// IPv6 is allowed inside 2000::/3 only (RFC 4291 §2.4), so every form that wraps an IPv4 address is refused,
/// whatever it wraps: mapped ::ffff:0:0/96, compatible ::/96, SIIT ::ffff:0:0:0/96 (RFC 2765), NAT64
/// 64:ff9b::/96 and 64:ff9b:1::/48 (RFC 6052, RFC 8215), Teredo 2001::/32, 6to4 2002::/16.
#[must_use]
pub fn permitted(ip: IpAddr, policy: AddressPolicy) -> bool {
    let insecure = policy == AddressPolicy::AllowInsecure;
    match ip {
        IpAddr::V4(ip) => public_v4(ip) || insecure && (ip.is_loopback() || ip.is_private()),
        IpAddr::V6(ip) => public_v6(ip) || insecure && (ip.is_loopback() || ip.is_unique_local()),
    }
}

/// The customary HTTPS ports. An allow list, because a tenant's URL must not make us knock at
/// another party's SSH, database or Kubernetes; a receiver elsewhere can be put behind one of these.
const PORTS: [u16; 3] = [443, 8080, 8443];

/// Names that are not in the public DNS, each with everything below it.
const PRIVATE_NAMES: &[&str] = &[
    // IANA special-use domain names (RFC 6761 and later); `.arpa` holds home.arpa (RFC 8375).
    "alt",
    "arpa",
    "example",
    "invalid",
    "local",
    "localhost",
    "onion",
    "test",
    // RFC 6762 appendix G, ICANN name collisions, and `.internal` (ICANN, 2024).
    "corp",
    "home",
    "internal",
    "intranet",
    "lan",
    "mail",
    "private",
    // Hosts files and Kubernetes services.
    "localdomain",
    "svc",
    // Metadata services under public names.
    "metadata.goog",
    "metadata.tencentyun.com",
];

/// IANA IPv4 Special-Purpose Address Registry, whatever is not for general use there, and above it.
const SPECIAL_V4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),        // "this network", RFC 791
    (Ipv4Addr::new(10, 0, 0, 0), 8),       // private, RFC 1918
    (Ipv4Addr::new(100, 64, 0, 0), 10),    // shared, RFC 6598; Alibaba's metadata
    (Ipv4Addr::new(127, 0, 0, 0), 8),      // loopback, RFC 1122
    (Ipv4Addr::new(168, 63, 129, 16), 32), // Azure WireServer, in a public range
    (Ipv4Addr::new(169, 254, 0, 0), 16),   // link local, RFC 3927; metadata
    (Ipv4Addr::new(172, 16, 0, 0), 12),    // private, RFC 1918
    (Ipv4Addr::new(192, 0, 0, 0), 24),     // IETF protocols, RFC 6890; Oracle's metadata 192.0.0.192
    (Ipv4Addr::new(192, 0, 2, 0), 24),     // documentation, RFC 5737
    (Ipv4Addr::new(192, 31, 196, 0), 24),  // AS112, RFC 7535
    (Ipv4Addr::new(192, 52, 193, 0), 24),  // AMT, RFC 7450
    (Ipv4Addr::new(192, 88, 99, 0), 24),   // 6to4 relays, RFC 7526
    (Ipv4Addr::new(192, 168, 0, 0), 16),   // private, RFC 1918
    (Ipv4Addr::new(192, 175, 48, 0), 24),  // AS112, RFC 7534
    (Ipv4Addr::new(198, 18, 0, 0), 15),    // benchmarking, RFC 2544
    (Ipv4Addr::new(198, 51, 100, 0), 24),  // documentation, RFC 5737
    (Ipv4Addr::new(203, 0, 113, 0), 24),   // documentation, RFC 5737
    (Ipv4Addr::new(224, 0, 0, 0), 3),      // multicast, reserved, broadcast: RFC 5771, RFC 1112, RFC 919
];

/// IANA IPv6 Special-Purpose Address Registry, the part inside [`GLOBAL_UNICAST_V6`].
const SPECIAL_V6: &[(Ipv6Addr, u32)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // IETF protocols, RFC 2928: Teredo, benchmarking, ORCHID
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation, RFC 3849
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4, RFC 3056, RFC 7526
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48), // AS112, RFC 7534
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation, RFC 9637
];

/// The only IPv6 space handed out for global unicast (IANA IPv6 address space registry).
const GLOBAL_UNICAST_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

fn public_v4(ip: Ipv4Addr) -> bool {
    !SPECIAL_V4.iter().any(|(net, bits)| (ip.to_bits() ^ net.to_bits()) >> (32 - bits) == 0)
}

fn public_v6(ip: Ipv6Addr) -> bool {
    let inside = |(net, bits): &(Ipv6Addr, u32)| (ip.to_bits() ^ net.to_bits()) >> (128 - bits) == 0;
    inside(&GLOBAL_UNICAST_V6) && !SPECIAL_V6.iter().any(inside)
}

/// Characters that the WHATWG parser drops or turns into others, and those that hide or reorder text
/// on a page: whitespace, controls, backslash, and the default-ignorable and format characters (UAX #44).
fn misleading(c: char) -> bool {
    c == '\\'
        || c.is_control()
        || c.is_whitespace()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// The part between `://` and the path, as written: `Url` drops an empty `@`, and reads `http:/host` and
/// `http:///host` as if they were well-formed.
fn authority<'a>(text: &'a str, url: &Url) -> Result<&'a str, UrlRefused> {
    let rest = text.get(url.scheme().len()..).and_then(|rest| rest.strip_prefix("://")).ok_or(UrlRefused::Malformed)?;
    match rest.split(['/', '?', '#']).next() {
        Some(authority) if !authority.is_empty() => Ok(authority),
        _ => Err(UrlRefused::Malformed),
    }
}

/// `example.com.` and `example.com` are one name (RFC 1034 §3.1), but not to TLS, cookies and pools.
fn strip_root_dot(url: &mut Url) -> Result<(), UrlRefused> {
    let Some(name) = url.domain().and_then(|name| name.strip_suffix('.')).map(str::to_owned) else {
        return Ok(());
    };
    // Stripped of one, it would be read back as another name.
    if name.ends_with('.') {
        return Err(UrlRefused::Host);
    }
    url.set_host(Some(&name)).map_err(|_| UrlRefused::Malformed)
}

fn check_scheme(url: &Url, policy: AddressPolicy) -> Result<(), UrlRefused> {
    match (url.scheme(), policy) {
        ("https", _) | ("http", AddressPolicy::AllowInsecure) => Ok(()),
        (_, AddressPolicy::PublicOnly) => Err(UrlRefused::NotHttps),
        (_, AddressPolicy::AllowInsecure) => Err(UrlRefused::NotHttp),
    }
}

fn check_port(url: &Url, policy: AddressPolicy) -> Result<(), UrlRefused> {
    match (url.port_or_known_default(), policy) {
        (Some(port), _) if PORTS.contains(&port) => Ok(()),
        (Some(1..), AddressPolicy::AllowInsecure) => Ok(()),
        _ => Err(UrlRefused::Port),
    }
}

/// A host name (RFC 1123 §2.1, RFC 1035 §2.3.4) of two labels or more that can be in the public DNS.
fn public_name(name: &str) -> bool {
    let private =
        |private: &&str| name.strip_suffix(*private).is_some_and(|above| above.is_empty() || above.ends_with('.'));
    name.len() <= 253 && name.contains('.') && name.split('.').all(host_label) && !PRIVATE_NAMES.iter().any(private)
}

fn host_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
