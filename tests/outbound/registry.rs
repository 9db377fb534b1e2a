//! The address rules against a table of their own: IANA's registries of special-purpose addresses, written down here range by range.
//! Whatever stands in one is not a receiver, also where the registry calls it globally reachable.
//!
//! The long forms judge every IPv4 address there is, and ten million IPv6 addresses:
//!
//! ```sh
//! cargo test --release -p revnoxa-tests --test outbound get_their_verdict -- --ignored
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZero;
use std::thread;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use revnoxa_host::domain::address::{AddressPolicy, EndpointUrl, permitted};

/// <https://www.iana.org/assignments/iana-ipv4-special-registry>; the last two stand elsewhere.
const V4: &[&str] = &[
    "0.0.0.0/8",          // "This network"
    "0.0.0.0/32",         // "This host on this network"
    "10.0.0.0/8",         // Private-Use
    "100.64.0.0/10",      // Shared Address Space
    "127.0.0.0/8",        // Loopback
    "169.254.0.0/16",     // Link Local
    "172.16.0.0/12",      // Private-Use
    "192.0.0.0/24",       // IETF Protocol Assignments
    "192.0.0.0/29",       // IPv4 Service Continuity Prefix
    "192.0.0.8/32",       // IPv4 dummy address
    "192.0.0.9/32",       // Port Control Protocol Anycast
    "192.0.0.10/32",      // Traversal Using Relays around NAT Anycast
    "192.0.0.170/32",     // NAT64/DNS64 Discovery
    "192.0.0.171/32",     // NAT64/DNS64 Discovery
    "192.0.2.0/24",       // Documentation (TEST-NET-1)
    "192.31.196.0/24",    // AS112-v4
    "192.52.193.0/24",    // AMT
    "192.88.99.0/24",     // Deprecated (6to4 Relay Anycast)
    "192.88.99.2/32",     // 6a44-relay anycast address
    "192.168.0.0/16",     // Private-Use
    "192.175.48.0/24",    // Direct Delegation AS112 Service
    "198.18.0.0/15",      // Benchmarking
    "198.51.100.0/24",    // Documentation (TEST-NET-2)
    "203.0.113.0/24",     // Documentation (TEST-NET-3)
    "240.0.0.0/4",        // Reserved
    "255.255.255.255/32", // Limited Broadcast
    "224.0.0.0/4",        // Multicast: https://www.iana.org/assignments/ipv4-address-space
    "168.63.129.16/32",   // Azure's WireServer, in no registry
];

/// What the development setting opens.
const V4_LOCAL: &[&str] = &["10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];

/// <https://www.iana.org/assignments/iana-ipv6-special-registry>
const V6: &[&str] = &[
    "::1/128",           // Loopback Address
    "::/128",            // Unspecified Address
    "::ffff:0:0/96",     // IPv4-mapped Address
    "64:ff9b::/96",      // IPv4-IPv6 Translat.
    "64:ff9b:1::/48",    // IPv4-IPv6 Translat., local
    "100::/64",          // Discard-Only Address Block
    "100:0:0:1::/64",    // Dummy IPv6 Prefix
    "2001::/23",         // IETF Protocol Assignments
    "2001::/32",         // TEREDO
    "2001:1::1/128",     // Port Control Protocol Anycast
    "2001:1::2/128",     // Traversal Using Relays around NAT Anycast
    "2001:1::3/128",     // DNS-SD Service Registration Protocol Anycast
    "2001:2::/48",       // Benchmarking
    "2001:3::/32",       // AMT
    "2001:4:112::/48",   // AS112-v6
    "2001:10::/28",      // Deprecated (previously ORCHID)
    "2001:20::/28",      // ORCHIDv2
    "2001:30::/28",      // Drone Remote ID Protocol Entity Tags (DETs) Prefix
    "2001:db8::/32",     // Documentation
    "2002::/16",         // 6to4
    "2620:4f:8000::/48", // Direct Delegation AS112 Service
    "3fff::/20",         // Documentation
    "5f00::/16",         // Segment Routing (SRv6) SIDs
    "fc00::/7",          // Unique-Local
    "fe80::/10",         // Link-Local Unicast
];

const V6_LOCAL: &[&str] = &["::1/128", "fc00::/7"];

/// Global Unicast: <https://www.iana.org/assignments/ipv6-address-space>; all else there is reserved, or multicast.
const V6_GLOBAL: &str = "2000::/3";

/// First and last address, as numbers.
type Range = (u128, u128);

struct Registry {
    global: Range,
    special: Vec<Range>,
    local: Vec<Range>,
    address: fn(u128) -> IpAddr,
}

impl Registry {
    fn v4() -> Self {
        // What is not special is global.
        let global: Range = (0, u32::MAX.into());
        let address = |number: u128| IpAddr::V4(Ipv4Addr::from_bits(number.try_into().expect("an IPv4 address")));
        Self { global, special: ranges(V4), local: ranges(V4_LOCAL), address }
    }

    fn v6() -> Self {
        let address = |number: u128| IpAddr::V6(Ipv6Addr::from_bits(number));
        Self { global: range(V6_GLOBAL), special: ranges(V6), local: ranges(V6_LOCAL), address }
    }

    /// Fails the test unless the rules judge the address as the registry does.
    fn check(&self, number: u128) {
        let public = within(self.global, number) && !self.special.iter().any(|range| within(*range, number));
        let local = self.local.iter().any(|range| within(*range, number));
        let ip = (self.address)(number);
        assert_eq!(permitted(ip, AddressPolicy::PublicOnly), public, "{ip}");
        assert_eq!(permitted(ip, AddressPolicy::AllowInsecure), public || local, "{ip} in development");
    }

    /// Both ends of every range, and their neighbours.
    fn edges(&self) -> Vec<u128> {
        let all = self.special.iter().chain(&self.local).chain([&self.global]);
        let around = |number: u128| [number.wrapping_sub(1), number, number.wrapping_add(1)];
        let edges = all.flat_map(|&(first, last)| around(first).into_iter().chain(around(last)));
        // Beside the first and last of IPv4 there is nothing.
        edges.filter(|number| self.global.0 != 0 || *number <= self.global.1).collect()
    }
}

fn ranges(table: &[&str]) -> Vec<Range> {
    table.iter().map(|text| range(text)).collect()
}

fn range(text: &str) -> Range {
    let (first, length) = text.split_once('/').unwrap();
    let (first, bits) = match first.parse().unwrap() {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32),
        IpAddr::V6(ip) => (ip.to_bits(), 128),
    };
    let rest = (1 << (bits - length.parse::<u32>().unwrap())) - 1;
    assert_eq!(first & rest, 0, "{text} does not begin there");
    (first, first + rest)
}

fn within((first, last): Range, number: u128) -> bool {
    first <= number && number <= last
}

#[test]
fn every_range_ends_where_the_registry_says() {
    for registry in [Registry::v4(), Registry::v6()] {
        let edges = registry.edges();
        assert!(edges.len() > 100, "{}", edges.len());
        edges.into_iter().for_each(|number| registry.check(number));
    }
}

#[test]
fn every_network_of_ipv4_gets_the_verdict_of_the_registry() {
    let registry = Registry::v4();
    for network in 0..1_u128 << 16 {
        for host in [0, 1, 0xff, 0x100, 0x7fff, 0x8000, 0xfffe, 0xffff] {
            registry.check((network << 16) | host);
        }
    }
}

#[test]
#[ignore = "minutes: see the module for the command"]
fn all_ipv4_addresses_get_their_verdict() {
    let registry = &Registry::v4();
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for part in 0..threads {
            scope.spawn(move || {
                for network in (part..256).step_by(threads) {
                    let first = (network as u128) << 24;
                    (first..first + (1 << 24)).for_each(|number| registry.check(number));
                }
            });
        }
    });
}

#[test]
fn random_ipv6_addresses_get_the_verdict_of_the_registry() {
    check_random_ipv6(100_000, 1);
}

#[test]
#[ignore = "long: see the module for the command"]
fn ten_million_ipv6_addresses_get_their_verdict() {
    check_random_ipv6(10_000_000, 2);
}

/// Any addresses, global ones, such in special ranges, and such that differ in one bit from the end of one: the first kind alone
/// would hardly ever meet a range.
fn check_random_ipv6(count: usize, seed: u64) {
    let registry = Registry::v6();
    let mut random = StdRng::seed_from_u64(seed);
    let inside = |(first, last): Range, any: u128| first + any % (last - first + 1);
    for _ in 0..count {
        let any: u128 = random.random();
        let special = registry.special[random.random_range(0..registry.special.len())];
        let number = match random.random_range(0..4_u8) {
            0 => any,
            1 => inside(registry.global, any),
            2 => inside(special, any),
            _ => [special.0, special.1][usize::from(random.random::<bool>())] ^ (1 << random.random_range(0..128_u32)),
        };
        registry.check(number);
    }
}

type Embed = fn(u128) -> u128;

/// Each puts an IPv4 address into an IPv6 one; some gateway or tunnel would take it out again.
const FORMS: [(&str, Embed); 11] = [
    ("mapped, RFC 4291 §2.5.5.2", |v4| (0xffff << 32) | v4),
    ("compatible, RFC 4291 §2.5.5.1", |v4| v4),
    ("translated, RFC 2765 §2.1", |v4| (0xffff << 48) | v4),
    ("6to4, RFC 3056 §2", |v4| (0x2002 << 112) | (v4 << 80) | 1),
    ("NAT64, RFC 6052 §2.1", |v4| (0x0064_ff9b << 96) | v4),
    ("local NAT64 of 96 bits, RFC 8215", |v4| (0x0064_ff9b_0001 << 80) | v4),
    ("local NAT64 of 48 bits, RFC 6052 §2.2", |v4| {
        (0x0064_ff9b_0001 << 80) | ((v4 >> 16) << 64) | ((v4 & 0xffff) << 40)
    }),
    ("Teredo's client, RFC 4380 §4", |v4| (0x2001_0000 << 96) | (0x0808_0808 << 64) | (v4 ^ 0xffff_ffff)),
    ("Teredo's server, RFC 4380 §4", |v4| (0x2001_0000 << 96) | (v4 << 64)),
    ("ISATAP on a link, RFC 5214 §6.1", |v4| (0xfe80 << 112) | (0x5efe << 32) | v4),
    ("a unique local address", |v4| (0xfd00 << 112) | v4),
];

#[test]
fn an_ipv4_address_within_an_ipv6_one_is_refused_whatever_it_is() {
    let (v4, v6) = (Registry::v4(), Registry::v6());
    let public =
        ["1.1.1.1", "8.8.8.8", "93.184.216.34"].map(|ip| u128::from(ip.parse::<Ipv4Addr>().unwrap().to_bits()));
    for number in v4.edges().into_iter().chain(public) {
        for (form, embed) in FORMS {
            let (number, ip) = (embed(number), Ipv4Addr::from_bits(number.try_into().unwrap()));
            let wrapped = IpAddr::from(Ipv6Addr::from_bits(number));
            assert!(!permitted(wrapped, AddressPolicy::PublicOnly), "{ip}, {form}: {wrapped}");
            v6.check(number);
        }
    }
}

#[test]
fn an_address_is_judged_alike_however_it_is_spelt() {
    for number in Registry::v4().edges() {
        let ip = Ipv4Addr::from_bits(number.try_into().unwrap());
        let [a, b, c, d] = ip.octets();
        let spellings = [
            format!("{ip}"),
            format!("{ip}."),
            format!("{number}"),
            format!("0x{number:x}"),
            format!("0X{number:08X}"),
            format!("0{number:o}"),
            format!("{a}.{}", number & 0xff_ffff),
            format!("{a}.{b}.{}", number & 0xffff),
            format!("0{a:o}.0x{b:x}.{c}.0{d:o}"),
            format!("%3{}{}", a.to_string().as_bytes()[0] - b'0', &ip.to_string()[1..]),
        ];
        for spelling in spellings {
            let url = format!("https://{spelling}/");
            let judged = EndpointUrl::parse(&url, AddressPolicy::PublicOnly);
            assert_eq!(judged.is_ok(), permitted(ip.into(), AddressPolicy::PublicOnly), "{url} is {ip}: {judged:?}");
        }
    }
    for number in Registry::v6().edges() {
        let ip = Ipv6Addr::from_bits(number);
        let whole = ip.segments().map(|segment| format!("{segment:04X}")).join(":");
        for url in [format!("https://[{ip}]/"), format!("https://[{whole}]/")] {
            let judged = EndpointUrl::parse(&url, AddressPolicy::PublicOnly);
            assert_eq!(judged.is_ok(), permitted(ip.into(), AddressPolicy::PublicOnly), "{url}: {judged:?}");
        }
    }
}
