//! Where a tenant can make us connect to: the corpus of attacks, each refused at its stage.

use std::net::IpAddr;

use crate::support::{corpus, field};
use revnoxa_host::domain::address::{AddressPolicy, EndpointUrl, URL_LIMIT_BYTES, UrlRefused, permitted};
use serde_json::Value;

fn at_stage<'a>(corpus: &'a [Value], stage: &'a str) -> impl Iterator<Item = &'a Value> {
    corpus.iter().filter(move |entry| field(entry, "stage") == stage)
}

fn public(text: &str) -> Result<EndpointUrl, UrlRefused> {
    EndpointUrl::parse(text, AddressPolicy::PublicOnly)
}

#[test]
fn a_saved_url_gets_the_verdict_of_the_corpus() {
    let corpus = corpus();
    for entry in at_stage(&corpus, "create") {
        let result = public(field(entry, "url"));
        assert_eq!(result.is_ok(), field(entry, "verdict") == "allow", "{entry}: {result:?}");
        if let Ok(url) = result {
            let host = field(entry, "whatwg_host").trim_end_matches('.');
            assert_eq!(url.as_url().host_str(), Some(host), "{entry}");
        }
    }
    assert!(at_stage(&corpus, "create").count() > 150);
}

/// Most attacks in the corpus are written with `http`, which alone refuses them. With `https` in its place the
/// rule that they are about must do it.
#[test]
fn an_attack_is_refused_for_its_host_and_not_just_for_its_scheme() {
    let corpus = corpus();
    let mut tried = 0;
    for entry in at_stage(&corpus, "create").filter(|entry| field(entry, "class") != "scheme") {
        // "ht\rtp:" and " http:" keep their trick, "//host" has no scheme to replace.
        let text = field(entry, "url");
        let https = text.replacen("http:", "https:", 1).replacen("ht\rtp:", "ht\rtps:", 1);
        let result = public(&https);
        assert_eq!(result.is_ok(), field(entry, "verdict") == "allow", "{https:?} of {entry}: {result:?}");
        assert_ne!(result.clone().err(), Some(UrlRefused::NotHttps), "{https:?} of {entry}");
        let expected: &[UrlRefused] = match field(entry, "class") {
            "ok" => continue,
            "port" => &[UrlRefused::Port],
            "loop4" | "meta" | "priv4" if !field(entry, "whatwg_host").starts_with('!') => {
                &[UrlRefused::Host, UrlRefused::Port]
            }
            _ => &[
                UrlRefused::Host,
                UrlRefused::Port,
                UrlRefused::UserInfo,
                UrlRefused::BadCharacter,
                UrlRefused::Malformed,
            ],
        };
        assert!(expected.contains(&result.clone().unwrap_err()), "{https:?} of {entry}: {result:?}");
        tried += 1;
    }
    assert!(tried > 120, "{tried}");
}

/// The port rule must not be what refuses an address either.
#[test]
fn an_attack_on_an_address_is_refused_at_every_port() {
    let corpus = corpus();
    for entry in at_stage(&corpus, "create").filter(|entry| field(entry, "verdict") == "deny") {
        let host = field(entry, "whatwg_host");
        let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() else {
            continue;
        };
        assert!(!permitted(ip, AddressPolicy::PublicOnly), "{entry}");
        for port in ["", ":8080", ":8443"] {
            assert_eq!(public(&format!("https://{host}{port}/")).err(), Some(UrlRefused::Host), "{entry}");
        }
    }
}

#[test]
fn each_rule_names_itself() {
    use UrlRefused::*;
    for (text, expected) in [
        ("https://example.com:22/", Port),
        ("https://example.com:80/", Port),
        ("https://example.com:0/", Port),
        ("https://example.com:65536/", Malformed),
        ("http://example.com/", NotHttps),
        ("gopher://example.com/", NotHttps),
        ("example.com/hook", Malformed),
        ("https:example.com", Malformed),
        ("https:///example.com", Malformed),
        ("https://", Malformed),
        ("https://a:b@example.com/", UserInfo),
        ("https://@example.com/", UserInfo),
        ("https://example.com/a b", BadCharacter),
        ("https://example.com/\u{202e}", BadCharacter),
        ("https://exa\u{ad}mple.com/", BadCharacter),
        ("https://example.com\\@evil.example.org/", BadCharacter),
        ("https://localhost/", Host),
        ("https://localhost./", Host),
        ("https://example/", Host),
        ("https://a.example.com../", Host),
        ("https://metadata.google.internal/", Host),
        ("https://x.metadata.goog/", Host),
        ("https://db.prod.svc/", Host),
        ("https://a_b.example.com/", Host),
        ("https://[::ffff:8.8.8.8]/", Host),
        ("https://[2001:db8::1]/", Host),
        ("https://[ff02::1]/", Host),
        ("https://192.0.0.192/", Host),
    ] {
        assert_eq!(public(text).err(), Some(expected), "{text:?}");
    }
    assert_eq!(EndpointUrl::parse("ftp://example.com/", AddressPolicy::AllowInsecure).err(), Some(NotHttp));
}

#[test]
fn a_url_is_kept_in_its_normal_form() {
    for (text, expected) in [
        ("HTTPS://EXAMPLE.com:443/Hook?a=%2F#top", "https://example.com/Hook?a=%2F"),
        ("https://example.com", "https://example.com/"),
        ("https://example.com.:8443/x", "https://example.com:8443/x"),
        ("https://bücher.example.com/ü", "https://xn--bcher-kva.example.com/%C3%BC"),
        ("https://16843009/", "https://1.1.1.1/"),
        ("https://example.com/a@b?c=@", "https://example.com/a@b?c=@"),
    ] {
        let url = public(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(url.to_string(), expected, "{text}");
        assert_eq!(public(url.as_str()), Ok(url), "{text} read back");
    }
    assert_eq!(public("https://example.com:8443/x").unwrap().origin(), "https://example.com:8443");
}

#[test]
fn a_url_has_a_longest_length_as_written_and_as_kept() {
    let of = |length: usize, filler: &str| format!("https://example.com/{}", filler.repeat(length - 20));
    assert!(public(&of(URL_LIMIT_BYTES, "x")).is_ok());
    assert_eq!(public(&of(URL_LIMIT_BYTES + 1, "x")).err(), Some(UrlRefused::TooLong));
    assert_eq!(public(&of(800, "ü")).err(), Some(UrlRefused::TooLong), "percent-encoded to 6 bytes each");
    let name = |labels: usize| format!("https://{}example.com/", "abcdefghi.".repeat(labels));
    assert!(public(&name(24)).is_ok());
    assert_eq!(public(&name(25)).err(), Some(UrlRefused::Host), "261 bytes of name");
}

#[test]
fn a_url_that_was_saved_is_read_whatever_the_rules_say_now_and_judged_before_it_is_used() {
    use UrlRefused::*;
    for (text, expected) in [
        ("https://example.com/hook?a=b", None),
        ("http://example.com/", Some(NotHttps)),
        ("https://example.com:22/", Some(Port)),
        ("https://169.254.169.254/latest/meta-data/", Some(Host)),
        ("https://[::ffff:808:808]/", Some(Host)),
        ("https://user:password@example.com/", Some(UserInfo)),
        ("https://user@example.com/", Some(UserInfo)),
        ("https://:password@example.com/", Some(UserInfo)),
        ("https://metadata.google.internal/", Some(Host)),
        ("ftp://example.com/", Some(NotHttps)),
        ("mailto:hook@example.com", Some(NotHttps)),
    ] {
        let url = EndpointUrl::restore(text).unwrap();
        assert_eq!((url.as_str(), url.check(AddressPolicy::PublicOnly).err()), (text, expected));
    }
    for text in ["", "no url", "https://", "//example.com"] {
        assert_eq!(EndpointUrl::restore(text), Err(Malformed), "{text:?}");
    }
}

#[test]
fn the_development_setting_opens_loopback_and_private_receivers_and_nothing_else() {
    let insecure = |text: &str| EndpointUrl::parse(text, AddressPolicy::AllowInsecure);
    for text in [
        "http://localhost:3000/",
        "http://127.0.0.1:3000/",
        "http://127.9.9.9/",
        "http://[::1]:9/",
        "http://10.0.0.1:22/",
        "http://172.17.0.1/",
        "http://192.168.1.2/",
        "http://[fd00::1]/",
        "http://my_receiver:8080/",
        "https://example.com/",
        "https://example.com:1234/",
    ] {
        assert!(insecure(text).is_ok(), "{text}: {:?}", insecure(text));
        let saved = insecure(text).unwrap();
        assert_eq!(saved.check(AddressPolicy::PublicOnly).is_ok(), text == "https://example.com/", "{text}");
    }
    for (text, expected) in [
        ("http://169.254.169.254/", UrlRefused::Host),
        ("http://168.63.129.16/", UrlRefused::Host),
        ("http://100.100.100.200/", UrlRefused::Host),
        ("http://0.0.0.0:80/", UrlRefused::Host),
        ("http://[::]/", UrlRefused::Host),
        ("http://[::ffff:127.0.0.1]/", UrlRefused::Host),
        ("http://[fe80::1]/", UrlRefused::Host),
        ("http://224.0.0.1/", UrlRefused::Host),
        ("http://127.0.0.1:0/", UrlRefused::Port),
        ("http://a:b@127.0.0.1/", UrlRefused::UserInfo),
        ("http:/127.0.0.1/", UrlRefused::Malformed),
    ] {
        assert_eq!(insecure(text).err(), Some(expected), "{text}");
    }
    for entry in corpus().iter().filter(|entry| public(field(entry, "url")).is_ok()) {
        assert!(insecure(field(entry, "url")).is_ok(), "a saved URL can be read back: {entry}");
    }
}

/// Both ends of every refused range, and their public neighbours.
#[test]
fn addresses_are_permitted_up_to_the_edges_of_the_special_ranges() {
    for (first, last, before, after) in [
        ("0.0.0.0", "0.255.255.255", "", "1.0.0.0"),
        ("10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0"),
        ("100.64.0.0", "100.127.255.255", "100.63.255.255", "100.128.0.0"),
        ("127.0.0.0", "127.255.255.255", "126.255.255.255", "128.0.0.0"),
        ("168.63.129.16", "168.63.129.16", "168.63.129.15", "168.63.129.17"),
        ("169.254.0.0", "169.254.255.255", "169.253.255.255", "169.255.0.0"),
        ("172.16.0.0", "172.31.255.255", "172.15.255.255", "172.32.0.0"),
        ("192.0.0.0", "192.0.0.255", "191.255.255.255", "192.0.1.0"),
        ("192.0.2.0", "192.0.2.255", "192.0.1.255", "192.0.3.0"),
        ("192.31.196.0", "192.31.196.255", "192.31.195.255", "192.31.197.0"),
        ("192.52.193.0", "192.52.193.255", "192.52.192.255", "192.52.194.0"),
        ("192.88.99.0", "192.88.99.255", "192.88.98.255", "192.88.100.0"),
        ("192.168.0.0", "192.168.255.255", "192.167.255.255", "192.169.0.0"),
        ("192.175.48.0", "192.175.48.255", "192.175.47.255", "192.175.49.0"),
        ("198.18.0.0", "198.19.255.255", "198.17.255.255", "198.20.0.0"),
        ("198.51.100.0", "198.51.100.255", "198.51.99.255", "198.51.101.0"),
        ("203.0.113.0", "203.0.113.255", "203.0.112.255", "203.0.114.0"),
        ("224.0.0.0", "255.255.255.255", "223.255.255.255", ""),
        ("::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", "2000::"),
        ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "2000:ffff::", "2001:200::"),
        ("2001:db8::", "2001:db8:ffff::", "2001:db7:ffff::", "2001:db9::"),
        ("2002::", "2002:ffff:ffff::", "2001:ffff::", "2003::"),
        ("2620:4f:8000::", "2620:4f:8000:ffff::", "2620:4f:7fff::", "2620:4f:8001::"),
        ("3fff::", "3fff:fff:ffff::", "3ffe:ffff::", "3fff:1000::"),
        ("4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:ffff::", ""),
    ] {
        let verdict = |text: &str| permitted(text.parse().unwrap(), AddressPolicy::PublicOnly);
        assert!(!verdict(first) && !verdict(last), "{first} to {last} are special");
        for neighbour in [before, after].into_iter().filter(|text| !text.is_empty()) {
            assert!(verdict(neighbour), "{neighbour} beside {first}–{last} is public");
        }
    }
}
