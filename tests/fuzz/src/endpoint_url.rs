use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use revnoxa_host::domain::address::{AddressPolicy, EndpointUrl, URL_LIMIT_BYTES};
use url::{Host, Url};

use super::text;

/// An endpoint's URL: what is accepted reads back as it is stored, and no public one leads inside.
pub fn url(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let public = EndpointUrl::parse(text, AddressPolicy::PublicOnly);
    let insecure = EndpointUrl::parse(text, AddressPolicy::AllowInsecure);
    if let Ok(url) = &public {
        assert_eq!(insecure.as_ref(), Ok(url), "accepted by the stricter rules only");
        assert_public(url.as_url());
    }
    if let Ok(url) = &insecure {
        let stored = EndpointUrl::parse(url.as_str(), AddressPolicy::AllowInsecure);
        assert_eq!(stored.as_ref(), Ok(url), "reads back differently");
        assert_eq!(url.check(AddressPolicy::PublicOnly), public.map(|_| ()), "judged differently at the attempt");
        assert!(url.as_str().len() <= URL_LIMIT_BYTES && url.as_str().is_ascii());
        assert!(url.as_str().starts_with(url.origin()));
        let parsed = url.as_url();
        assert!(parsed.has_host() && parsed.username().is_empty() && parsed.password().is_none());
        assert!(parsed.fragment().is_none() && !url.origin().contains('@'));
    }
}

/// By rules of its own, coarser than the host's.
fn assert_public(url: &Url) {
    assert_eq!(url.scheme(), "https");
    assert!(matches!(url.port_or_known_default(), Some(443 | 8080 | 8443)), "{url}");
    let public = match url.host() {
        Some(Host::Ipv4(ip)) => is_public_v4(ip),
        Some(Host::Ipv6(ip)) => is_public_v6(ip),
        Some(Host::Domain(name)) => {
            let last = name.rsplit('.').next().unwrap_or_default();
            // A name whose last part is a number is an address to most programs.
            let is_number = last.bytes().all(|byte| byte.is_ascii_digit());
            name.contains('.') && !is_number && !["localhost", "local", "internal", "arpa"].contains(&last)
        }
        None => false,
    };
    assert!(public, "{url}");
    let address: Option<IpAddr> = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse().ok());
    assert!(address.is_none_or(|address| !address.is_loopback() && !address.is_multicast()), "{url}");
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    let special = ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_documentation();
    let shared_or_benchmark = matches!((a, b), (100, 64..128) | (198, 18..20));
    !(special || shared_or_benchmark || a == 0 || a >= 224)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [first, second, ..] = ip.segments();
    ip.to_ipv4().is_none() && first >> 13 == 1 && first != 0x2002 && (first, second) != (0x2001, 0xdb8)
}
