//! Names that lead where a tenant must not make us connect: judged when the connection is made.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use revnoxa_host::domain::address::{AddressPolicy, EndpointUrl};
use revnoxa_host::domain::outcome::SendError;
use revnoxa_host::outbound::ResolveError;
use revnoxa_tests::StubDns;
use serde_json::json;

use crate::support::{Receiver, asking, corpus, field, post};

const ATTEMPT: Duration = Duration::from_millis(1500);

#[tokio::test]
async fn a_name_gets_the_verdict_of_the_corpus_when_it_is_connected_to() {
    let corpus: Vec<_> = corpus().into_iter().filter(|entry| field(entry, "stage") == "connect").collect();
    let zone = corpus.iter().map(|entry| {
        let name = field(entry, "whatwg_host").to_owned();
        (name, entry["dns"].clone())
    });
    let aliased = [("pub.ssrf.example.com".to_owned(), json!({"A": ["93.184.216.34"]}))];
    let dns = StubDns::start(zone.chain(aliased)).await;
    let outbound = asking(&dns, AddressPolicy::PublicOnly, ATTEMPT);
    for entry in corpus.iter() {
        assert!(
            EndpointUrl::parse(field(entry, "url"), AddressPolicy::PublicOnly).is_ok(),
            "the text shows nothing: {entry}"
        );
        let name = field(entry, "whatwg_host");
        if field(entry, "class") == "rebind" {
            outbound.resolve(name).await.expect("the first answer is public");
        }
        if field(entry, "verdict") == "allow" {
            // Asked instead of dialled: nothing may leave the machine.
            let addresses = outbound.resolve(name).await.unwrap_or_else(|error| panic!("{entry}: {error}"));
            assert!(!addresses.is_empty(), "{entry}");
            continue;
        }
        let started = Instant::now();
        let error = post(&outbound, "acme", field(entry, "url")).await.result.unwrap_err();
        if entry["dns"]["delay_s"].is_null() {
            assert_eq!(error, SendError::AddressRefused, "{entry}");
        } else {
            assert_eq!(error, SendError::TimedOut(ATTEMPT / 2), "{entry}");
            assert!(started.elapsed() < ATTEMPT, "{entry}");
        }
        assert!(dns.asked(name) > 0, "{entry}");
    }
}

/// The other half of the refusals above: the same name and receiver are reached when the policy allows it, so that
/// "no connection" means something.
#[tokio::test]
async fn a_refused_name_is_never_dialled() {
    let address = SocketAddr::from((Ipv4Addr::new(127, 77, 0, 1), 8443));
    let receiver = Receiver::start_at(address, |stream| async move { drop(stream) }).await;
    let dns = StubDns::start([
        ("a.example.com".to_owned(), json!({"A": ["127.77.0.1"]})),
        ("b.example.com".to_owned(), json!({"A": ["127.77.0.1", "93.184.216.34"]})),
        ("c.example.com".to_owned(), json!({"CNAME": "a.example.com"})),
        ("d.example.com".to_owned(), json!({"ttl": 0, "seq": [{"A": ["93.184.216.34"]}, {"A": ["127.77.0.1"]}]})),
        ("e.example.com".to_owned(), json!({"ttl": 3600, "seq": [{"A": ["93.184.216.34"]}, {"A": ["127.77.0.1"]}]})),
    ])
    .await;
    let guarded = asking(&dns, AddressPolicy::PublicOnly, ATTEMPT);
    for name in ["d.example.com", "e.example.com"] {
        guarded.resolve(name).await.expect("the first answer is public");
    }
    for host in ["a", "b", "c", "d", "e"] {
        let url = format!("https://{host}.example.com:8443/");
        let outcome = post(&guarded, "acme", &url).await;
        assert_eq!(outcome.result.unwrap_err(), SendError::AddressRefused, "{url}");
    }
    assert_eq!(receiver.accepted(), 0);

    let open = asking(&dns, AddressPolicy::AllowInsecure, ATTEMPT);
    post(&open, "acme", "https://a.example.com:8443/").await.result.unwrap_err();
    assert_eq!(receiver.accepted(), 1, "the same name is dialled where loopback is allowed");
}

#[tokio::test]
async fn an_address_saved_under_another_policy_is_refused_at_the_attempt() {
    let receiver =
        Receiver::start_at((Ipv4Addr::new(127, 77, 0, 2), 8443).into(), |stream| async { drop(stream) }).await;
    let dns = StubDns::start([]).await;
    let guarded = asking(&dns, AddressPolicy::PublicOnly, ATTEMPT);
    for url in ["https://127.77.0.2:8443/", "http://127.77.0.2:8443/", "https://[::1]:8443/", "https://localhost:8443/"]
    {
        assert_eq!(post(&guarded, "acme", url).await.result.unwrap_err(), SendError::AddressRefused, "{url}");
    }
    assert_eq!(receiver.accepted(), 0);
}

#[tokio::test]
async fn a_name_that_leads_nowhere_says_why() {
    let dns = StubDns::start([
        ("empty.example.com".to_owned(), json!({})),
        ("broken.example.com".to_owned(), json!({"rcode": 2})),
        ("loop.example.com".to_owned(), json!({"CNAME": "loop.example.com"})),
        (
            "twenty.example.com".to_owned(),
            json!({"A": (1..=20).map(|n| format!("93.184.216.{n}")).collect::<Vec<_>>()}),
        ),
    ])
    .await;
    let outbound = asking(&dns, AddressPolicy::PublicOnly, ATTEMPT);
    for (name, expected) in [
        ("absent.example.com", SendError::NameNotFound),
        ("empty.example.com", SendError::NameNotFound),
        ("broken.example.com", SendError::Network("name lookup failed")),
    ] {
        let outcome = post(&outbound, "acme", &format!("https://{name}/")).await;
        assert_eq!(outcome.result.unwrap_err(), expected, "{name}");
    }
    assert!(outbound.resolve("loop.example.com").await.is_err());
    assert_eq!(outbound.resolve("localhost").await, Err(ResolveError::Refused));
    assert_eq!(outbound.resolve("twenty.example.com").await.unwrap().len(), 16);
}

#[tokio::test]
async fn one_family_that_is_never_answered_does_not_keep_the_other_from_being_used() {
    let zone = [("half.example.com".to_owned(), json!({"seq": [{"A": ["93.184.216.34"]}]}))];
    let dns = StubDns::start(zone).await;
    dns.silence("half.example.com", 28);
    let outbound = asking(&dns, AddressPolicy::PublicOnly, ATTEMPT);
    assert_eq!(outbound.resolve("half.example.com").await.unwrap(), [IpAddr::from([93, 184, 216, 34])]);
}
