//! What a tenant's receiver can do to us, and what an attempt then says.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use crate::support::{
    OK, Receiver, answer, config, corpus, error, field, insecure, numbered, post, read_request, too_late,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use revnoxa_host::domain::address::{AddressPolicy, EndpointUrl};
use revnoxa_host::domain::outcome::SendError;
use revnoxa_host::outbound::{Outbound, OutboundConfig, RESPONSE_BODY_LIMIT};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Of the tests in which an attempt runs into its limit.
const SHORT: Duration = Duration::from_millis(400);

fn hasty() -> Outbound {
    Outbound::new(OutboundConfig { attempt_timeout: SHORT, ..config(AddressPolicy::AllowInsecure) }).unwrap()
}

#[tokio::test]
async fn the_request_is_what_the_caller_gave_and_nothing_that_tells_more() {
    let seen = Arc::new(Mutex::new(String::new()));
    let record = Arc::clone(&seen);
    let receiver = Receiver::start(move |mut stream| {
        let record = Arc::clone(&record);
        async move {
            *record.lock().unwrap() = read_request(&mut stream).await.unwrap();
            stream.write_all(b"HTTP/1.1 429 Slow\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", HeaderValue::from_static("Revnoxa"));
    headers.insert("x-revnoxa-attempt", HeaderValue::from_static("1"));
    let url = EndpointUrl::parse(&format!("{}?a=b", receiver.url()), AddressPolicy::AllowInsecure).unwrap();
    let outcome = insecure().post("acme", &url, headers, Bytes::from_static(b"{}"), || true).await.unwrap();
    let mut lines: Vec<String> = seen.lock().unwrap().to_lowercase().lines().map(str::to_owned).collect();
    lines.sort();
    let host = format!("host: {}", receiver.address);
    let expected = [
        "",
        "accept: */*",
        "content-length: 2",
        &host,
        "post /hook?a=b http/1.1",
        "user-agent: revnoxa",
        "x-revnoxa-attempt: 1",
        "{}",
    ];
    assert_eq!(lines, expected);
    assert!(!outcome.succeeded());
    let answer = outcome.result.unwrap();
    assert_eq!((answer.status, answer.retry_after.as_deref()), (429, Some("120")));
    assert!(answer.body.is_empty() && !answer.truncated);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let corpus: Vec<Value> = corpus().into_iter().filter(|entry| field(entry, "stage") == "redirect").collect();
    assert!(!corpus.is_empty());
    let trap = Receiver::answering(OK).await;
    let targets = corpus.iter().map(|entry| field(entry, "url").to_owned()).chain([trap.url()]);
    for location in targets {
        for status in [301, 302, 303, 307, 308] {
            let head = format!("HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
            let receiver = Receiver::answering(head).await;
            let answer = answer(&insecure(), &receiver.url()).await;
            assert_eq!((answer.status, receiver.accepted()), (status, 1), "{location}");
        }
    }
    assert_eq!(trap.accepted(), 0);
}

#[tokio::test]
async fn headers_that_drip_end_at_the_limit() {
    let receiver = Receiver::start(|mut stream| async move {
        read_request(&mut stream).await;
        // An endless stream of interim responses, which the client skips without counting.
        while stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let outcome = post(&hasty(), "acme", &receiver.url()).await;
    assert_eq!(outcome.result.unwrap_err(), SendError::TimedOut(SHORT));
    assert!(outcome.duration >= SHORT && outcome.duration < SHORT * 2, "{:?}", outcome.duration);
}

#[tokio::test]
async fn a_status_in_time_counts_although_its_body_drips() {
    let receiver = Receiver::start(|mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await.unwrap();
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let outcome = post(&hasty(), "acme", &receiver.url()).await;
    assert!(outcome.succeeded());
    assert!(outcome.duration >= SHORT && outcome.duration < SHORT * 2, "{:?}", outcome.duration);
    let answer = outcome.result.unwrap();
    assert!(answer.truncated && answer.body.starts_with(b"xxx") && answer.body.len() < 100, "{answer:?}");
}

#[tokio::test]
async fn a_body_is_kept_to_16_kib_and_the_next_request_gets_its_own_answer() {
    for (length, kept, truncated) in [
        (RESPONSE_BODY_LIMIT, 16_384, false),
        (RESPONSE_BODY_LIMIT + 1, 16_384, true),
        (1 << 20, 16_384, true),
        (1, 1, false),
    ] {
        let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length));
        let receiver = Receiver::answering(response).await;
        let outbound = insecure();
        for _ in 0..3 {
            let answer = answer(&outbound, &receiver.url()).await;
            assert_eq!((answer.status, answer.body.len(), answer.truncated), (200, kept, truncated), "{length}");
        }
        if length == 1 << 20 {
            assert_eq!(receiver.accepted(), 3, "what is left of a body is not read");
        } else if !truncated {
            assert_eq!(receiver.accepted(), 1, "{length}");
        }
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_truncated() {
    let receiver = Receiver::start(|mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await.unwrap();
    })
    .await;
    let answer = answer(&insecure(), &receiver.url()).await;
    assert_eq!((answer.status, &answer.body[..], answer.truncated), (200, &b"half"[..], true));
}

#[tokio::test]
async fn a_body_is_kept_as_sent_and_not_decompressed() {
    // gzip of "ok".
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcb\xcf\x06\x00\x47\xdd\xdc\x79\x02\x00\x00\x00";
    let receiver = Receiver::start(move |mut stream| async move {
        let request = read_request(&mut stream).await.unwrap();
        assert!(!request.to_lowercase().contains("accept-encoding"));
        let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", gzip.len());
        stream.write_all(&[head.as_bytes(), gzip].concat()).await.unwrap();
    })
    .await;
    assert_eq!(answer(&insecure(), &receiver.url()).await.body[..], gzip[..]);
}

#[tokio::test]
async fn a_connection_is_used_again_and_again_by_one_tenant_and_never_by_two() {
    let receiver = Receiver::answering(OK).await;
    let outbound = insecure();
    for _ in 0..20 {
        assert_eq!(&answer(&outbound, &receiver.url()).await.body[..], b"ok");
    }
    assert_eq!(receiver.accepted(), 1);
    for _ in 0..20 {
        assert!(post(&outbound, "globex", &receiver.url()).await.succeeded());
    }
    assert_eq!(receiver.accepted(), 2);
}

#[tokio::test]
async fn first_posts_at_the_same_moment_share_one_pool() {
    let receiver = Receiver::answering(OK).await;
    let (outbound, url) = (Arc::new(insecure()), receiver.url());
    for _ in 0..5 {
        let posts = (0..8).map(|_| {
            let (outbound, url) = (Arc::clone(&outbound), url.clone());
            tokio::spawn(async move { assert!(post(&outbound, "acme", &url).await.succeeded()) })
        });
        for post in posts.collect::<Vec<_>>() {
            post.await.unwrap();
        }
    }
    assert!(receiver.accepted() <= 8, "{}", receiver.accepted());
}

/// A receiver that closes idle connections is normal; a second copy of a request that it may have acted on is not.
#[tokio::test]
async fn a_request_that_was_received_is_not_sent_again_behind_our_back() {
    let received = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&received);
    let receiver = Receiver::start(move |mut stream| {
        let count = Arc::clone(&count);
        async move {
            // Answers the first request of a connection; reads the second and hangs up.
            if read_request(&mut stream).await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
            if read_request(&mut stream).await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await;
    let outbound = insecure();
    for round in 1..=10 {
        assert!(post(&outbound, "acme", &receiver.url()).await.succeeded(), "{round}");
        let second = error(&outbound, &receiver.url()).await;
        assert_eq!(second, SendError::Network("connection closed before an answer"), "{round}");
        assert_eq!(received.load(Ordering::SeqCst), 2 * round);
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_not_used() {
    let receiver = Receiver::start(|mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
    })
    .await;
    let outbound = insecure();
    for _ in 0..10 {
        assert!(post(&outbound, "acme", &receiver.url()).await.succeeded());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(receiver.accepted(), 10);
}

/// What a connection costs would otherwise be felt by everybody when there are many at once.
#[tokio::test]
async fn a_tenants_connections_are_made_one_after_the_other_and_the_wait_does_not_count() {
    // On two processors the last waits longer than an attempt may take.
    const CONNECTIONS: u32 = 600;
    const AT_ONCE: u32 = 4;
    let receiver = Receiver::start(|mut stream| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
    })
    .await;
    let (outbound, url) = (Arc::new(hasty()), receiver.url());
    let (began, mut posts) = (Instant::now(), JoinSet::new());
    for _ in 0..CONNECTIONS {
        let (outbound, url) = (Arc::clone(&outbound), url.clone());
        posts.spawn(async move { post(&outbound, "acme", &url).await });
    }
    for outcome in posts.join_all().await {
        assert!(outcome.succeeded() && outcome.duration < SHORT, "{outcome:?}");
    }
    let gap = Duration::from_millis(2) / u32::try_from(available_parallelism().unwrap().get()).unwrap();
    assert!(began.elapsed() >= gap * (CONNECTIONS - AT_ONCE), "{:?}", began.elapsed());
    assert_eq!(receiver.accepted(), CONNECTIONS as usize);
}

/// Requests that find a connection use up no turns: the next connection does not wait for them.
#[tokio::test]
async fn requests_over_connections_that_are_there_do_not_make_others_wait() {
    let (busy, other) = (Receiver::answering(OK).await, Receiver::answering(OK).await);
    let (outbound, url) = (Arc::new(insecure()), busy.url());
    let mut posts = JoinSet::new();
    for _ in 0..32 {
        let (outbound, url) = (Arc::clone(&outbound), url.clone());
        posts.spawn(async move {
            for _ in 0..100 {
                assert!(post(&outbound, "acme", &url).await.succeeded());
            }
        });
    }
    posts.join_all().await;
    let began = Instant::now();
    let outcome = post(&outbound, "acme", &other.url()).await;
    let waited = began.elapsed() - outcome.duration;
    assert!(outcome.succeeded() && waited < Duration::from_millis(300), "{waited:?}, {outcome:?}");
}

/// Whoever asks for a request may have lost the right to it while the connection was made.
#[tokio::test]
async fn a_request_that_comes_too_late_is_not_begun() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let receiver = Receiver::start(move |mut stream| {
        let record = Arc::clone(&record);
        async move {
            let mut all = Vec::new();
            while stream.read_buf(&mut all).await.is_ok_and(|read| read > 0) {
                if all.ends_with(b"}") {
                    stream.write_all(OK.as_bytes()).await.unwrap();
                }
            }
            record.lock().unwrap().push(String::from_utf8(all).unwrap());
        }
    })
    .await;
    let outbound = insecure();
    // Over a new connection, and over one that is there.
    too_late(&outbound, &receiver.url()).await;
    assert!(post(&outbound, "acme", &receiver.url()).await.succeeded());
    too_late(&outbound, &receiver.url()).await;
    while seen.lock().unwrap().len() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(receiver.accepted(), 2);
    let mut seen = seen.lock().unwrap();
    seen.sort();
    assert_eq!(seen[0], "");
    assert_eq!(seen[1].matches("POST").count(), 1, "{}", seen[1]);
}

#[tokio::test]
async fn what_is_not_an_answer_is_named() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    assert_eq!(error(&insecure(), &format!("http://{closed}/")).await, SendError::ConnectionRefused);

    let many_headers = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(101));
    let big_header = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let not_http = SendError::Network("answer is not HTTP, or its headers are too large");
    for response in ["SSH-2.0-OpenSSH_9.6\r\n", "HTTP/1.1 9 Low\r\n\r\n", &many_headers, &big_header] {
        let receiver = Receiver::answering(response).await;
        assert_eq!(error(&insecure(), &receiver.url()).await, not_http, "{:.40}", response);
        assert_eq!(receiver.accepted(), 1, "{response:.40}");
    }
    let silent = Receiver::start(|mut stream| async move {
        read_request(&mut stream).await;
    })
    .await;
    assert_eq!(error(&insecure(), &silent.url()).await, SendError::Network("connection closed before an answer"));
    // A TLS client's first bytes end no header, so the fake must not wait for one.
    let tls = Receiver::start(|mut stream| async move {
        let _ = stream.read(&mut [0; 100]).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let https = format!("https://{}/", tls.address);
    assert_eq!(error(&insecure(), &https).await, SendError::Tls("the receiver does not speak TLS"));
}

#[tokio::test]
async fn a_receiver_that_never_answers_the_handshake_ends_at_the_limit() {
    let receiver = Receiver::start(|stream| async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(stream);
    })
    .await;
    let outcome = post(&hasty(), "acme", &format!("https://{}/", receiver.address)).await;
    assert_eq!(outcome.result.unwrap_err(), SendError::TimedOut(SHORT));
    assert!(outcome.duration < SHORT * 2, "{:?}", outcome.duration);
}

/// The environment is the process's, so the attempt runs in one of its own.
#[tokio::test]
async fn a_proxy_of_the_environment_is_not_used() {
    let proxy = Receiver::answering(OK).await;
    let receiver = Receiver::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let (url, proxy_url) = (receiver.url(), format!("http://{}", proxy.address));
    let output = tokio::task::spawn_blocking(move || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "requests::in_a_process_with_a_proxy", "--ignored"])
            .env("RECEIVER", url)
            .envs(["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"].map(|name| (name, proxy_url.clone())))
            .output()
            .unwrap()
    })
    .await
    .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((receiver.accepted(), proxy.accepted()), (1, 0));
}

#[tokio::test]
#[ignore = "run by a_proxy_of_the_environment_is_not_used"]
async fn in_a_process_with_a_proxy() {
    let Ok(receiver) = std::env::var("RECEIVER") else {
        return;
    };
    assert_eq!(answer(&insecure(), &receiver).await.status, 204);
}

#[tokio::test]
async fn the_duration_runs_from_the_connect_to_the_end_of_the_body() {
    let receiver = Receiver::start(|mut stream| async move {
        read_request(&mut stream).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
    })
    .await;
    let started = Instant::now();
    let outcome = post(&insecure(), "acme", &receiver.url()).await;
    assert!(outcome.duration >= Duration::from_millis(100) && outcome.duration <= started.elapsed());
}

/// The whole response that repeats the number of the request.
fn repeating(request: &str) -> String {
    let number = request.lines().find_map(|line| line.strip_prefix("x-number: ")).expect("a number");
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{number}", number.len())
}

#[tokio::test]
async fn an_answer_that_comes_too_late_is_credited_to_no_other_request() {
    let connections = AtomicUsize::new(0);
    let receiver = Receiver::start(move |mut stream| {
        let is_first = connections.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            while let Some(request) = read_request(&mut stream).await {
                if is_first {
                    tokio::time::sleep(SHORT * 2).await;
                }
                // The host may be gone.
                let _ = stream.write_all(repeating(&request).as_bytes()).await;
            }
        }
    })
    .await;
    let outbound = hasty();
    assert_eq!(numbered(&outbound, &receiver.url(), 0).await, Err(SendError::TimedOut(SHORT)));
    for number in 1..50 {
        assert_eq!(numbered(&outbound, &receiver.url(), number).await, Ok(number.to_string()));
        tokio::time::sleep(SHORT / 20).await;
    }
    assert_eq!(receiver.accepted(), 2);
}

#[tokio::test]
async fn many_requests_at_once_each_get_their_own_answer() {
    let receiver = Receiver::start(|mut stream| async move {
        while let Some(request) = read_request(&mut stream).await {
            // In pieces, so that answers of several connections arrive in turns.
            for piece in repeating(&request).as_bytes().chunks(7) {
                stream.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    let (outbound, url) = (Arc::new(insecure()), receiver.url());
    let mut posts = JoinSet::new();
    for number in 0..100 {
        let (outbound, url) = (Arc::clone(&outbound), url.clone());
        posts.spawn(async move { (number, numbered(&outbound, &url, number).await) });
    }
    for (number, answer) in posts.join_all().await {
        assert_eq!(answer, Ok(number.to_string()));
    }
}
