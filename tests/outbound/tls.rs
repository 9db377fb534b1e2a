//! HTTPS receivers: who is trusted, what is said when one is not, and HTTP/2.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::{OK, Receiver, answer, config, error, insecure, numbered, post, read_request, too_late};
use bytes::Bytes;
use h2::server::SendResponse;
use revnoxa_host::domain::address::AddressPolicy;
use revnoxa_host::domain::outcome::SendError;
use revnoxa_host::outbound::{Outbound, OutboundConfig, OutboundError, RESPONSE_BODY_LIMIT};
use revnoxa_tests::Authority;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;

/// An HTTPS receiver and its certificate authority.
struct Https {
    receiver: Receiver,
    authority: Authority,
}

impl Https {
    /// Over HTTP/1.1; answers every request with 200.
    async fn start(name: &str) -> Self {
        Self::start_with(name, b"http/1.1", |mut stream| async move {
            while read_request(&mut stream).await.is_some() {
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
        })
        .await
    }

    async fn start_with<F, S>(name: &str, protocol: &[u8], script: S) -> Self
    where
        S: Fn(TlsStream<TcpStream>) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let authority = Authority::new();
        let acceptor = authority.acceptor_speaking(protocol, &[name]);
        let script = Arc::new(script);
        let receiver = Receiver::start(move |stream| {
            let (acceptor, script) = (acceptor.clone(), Arc::clone(&script));
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    script(stream).await;
                }
            }
        })
        .await;
        Self { receiver, authority }
    }

    fn trusting(&self) -> Outbound {
        let extra_ca = Some(self.authority.pem_file());
        Outbound::new(OutboundConfig { extra_ca, ..config(AddressPolicy::AllowInsecure) }).unwrap()
    }

    fn url(&self, host: &str) -> String {
        format!("https://{host}:{}/", self.receiver.address.port())
    }
}

#[tokio::test]
async fn https_works_with_a_trusted_authority_and_says_what_is_wrong_without() {
    let https = Https::start("localhost").await;
    let trusting = https.trusting();
    for _ in 0..5 {
        assert!(post(&trusting, "acme", &https.url("localhost")).await.succeeded());
    }
    let untrusted = error(&insecure(), &https.url("localhost")).await;
    assert_eq!(untrusted, SendError::Tls("certificate issuer is not trusted"));
    let other_name = error(&trusting, &https.url("127.0.0.1")).await;
    assert_eq!(other_name, SendError::Tls("certificate is for another name"));
}

#[tokio::test]
async fn https_connections_are_kept_alive() {
    let https = Https::start("127.0.0.1").await;
    let outbound = https.trusting();
    for _ in 0..20 {
        assert!(post(&outbound, "acme", &https.url("127.0.0.1")).await.succeeded());
    }
    assert_eq!(https.receiver.accepted(), 1);
}

#[tokio::test]
async fn http2_requests_share_a_connection_and_a_long_body_does_not_end_it() {
    let https = Https::start_with("127.0.0.1", b"h2", |stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let mut body = respond.send_response(http::Response::new(()), false).unwrap();
            let _ = body.send_data(Bytes::from(vec![b'x'; 1 << 20]), true);
        }
    })
    .await;
    let outbound = https.trusting();
    for _ in 0..10 {
        let answer = answer(&outbound, &https.url("127.0.0.1")).await;
        assert_eq!((answer.status, answer.body.len(), answer.truncated), (200, RESPONSE_BODY_LIMIT, true));
    }
    assert_eq!(https.receiver.accepted(), 1);
}

/// Over HTTP/2 the stream says which answer is whose, in whatever order they come.
#[tokio::test]
async fn http2_answers_in_another_order_are_credited_to_their_own_requests() {
    const AT_ONCE: usize = 16;
    let https = Https::start_with("127.0.0.1", b"h2", |stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut held: Vec<(http::HeaderValue, SendResponse<Bytes>)> = Vec::new();
        // The first request makes the connection that the others share, and is answered alone.
        let mut wanted = 1;
        while let Some(Ok((request, respond))) = connection.accept().await {
            held.push((request.headers()["x-number"].clone(), respond));
            if held.len() == wanted {
                wanted = AT_ONCE;
                for (number, mut respond) in held.drain(..).rev() {
                    let mut body = respond.send_response(http::Response::new(()), false).unwrap();
                    body.send_data(Bytes::copy_from_slice(number.as_bytes()), true).unwrap();
                }
            }
        }
    })
    .await;
    let (outbound, url) = (Arc::new(https.trusting()), https.url("127.0.0.1"));
    assert_eq!(numbered(&outbound, &url, 0).await, Ok("0".to_owned()));
    let mut posts = JoinSet::new();
    for number in 1..=AT_ONCE {
        let (outbound, url) = (Arc::clone(&outbound), url.clone());
        posts.spawn(async move { (number, numbered(&outbound, &url, number).await) });
    }
    for (number, answer) in posts.join_all().await {
        assert_eq!(answer, Ok(number.to_string()));
    }
    assert_eq!(https.receiver.accepted(), 1);
}

/// Its head may have gone ahead; a receiver does nothing with that alone.
#[tokio::test]
async fn a_request_over_http2_that_comes_too_late_is_not_whole() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&bodies);
    let https = Https::start_with("127.0.0.1", b"h2", move |stream| {
        let record = Arc::clone(&record);
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let record = Arc::clone(&record);
                tokio::spawn(async move {
                    let mut body = request.into_body();
                    let mut all = Vec::new();
                    while let Some(Ok(chunk)) = body.data().await {
                        all.extend_from_slice(&chunk);
                    }
                    if body.is_end_stream() {
                        record.lock().unwrap().push(String::from_utf8(all).unwrap());
                        respond.send_response(http::Response::new(()), true).unwrap();
                    }
                });
            }
        }
    })
    .await;
    let outbound = https.trusting();
    too_late(&outbound, &https.url("127.0.0.1")).await;
    assert!(post(&outbound, "acme", &https.url("127.0.0.1")).await.succeeded());
    too_late(&outbound, &https.url("127.0.0.1")).await;
    assert!(post(&outbound, "acme", &https.url("127.0.0.1")).await.succeeded());
    assert_eq!(*bodies.lock().unwrap(), [r#"{"id":"evt_1"}"#; 2]);
    assert_eq!(https.receiver.accepted(), 1, "it costs the stream, not the connection");
}

/// After a GOAWAY that says "nothing was processed" (RFC 9113 §6.8) a client may send again, but a receiver can say so of a request
/// that it has read.
#[tokio::test]
async fn an_http2_receiver_that_goes_away_gets_the_request_once() {
    let received = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&received);
    let https = Https::start_with("127.0.0.1", b"h2", move |mut stream| {
        let count = Arc::clone(&count);
        async move {
            const PREFACE: usize = 24;
            stream.read_exact(&mut [0; PREFACE]).await.unwrap();
            write_frame(&mut stream, SETTINGS, &[]).await;
            while read_frame(&mut stream).await != Some(HEADERS) {}
            count.fetch_add(1, Ordering::SeqCst);
            write_frame(&mut stream, GOAWAY, &[0; 8]).await;
            while read_frame(&mut stream).await.is_some() {}
        }
    })
    .await;
    let error = error(&https.trusting(), &https.url("127.0.0.1")).await;
    assert_eq!(error, SendError::Network("connection broke before an answer"));
    assert_eq!(received.load(Ordering::SeqCst), 1);
}

// Frame types of RFC 9113 §6.
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// The type of the next frame; None at the end of the stream.
async fn read_frame(stream: &mut TlsStream<TcpStream>) -> Option<u8> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    stream.read_exact(&mut vec![0; length]).await.ok()?;
    Some(head[3])
}

async fn write_frame(stream: &mut TlsStream<TcpStream>, kind: u8, payload: &[u8]) {
    let head = [0, 0, payload.len() as u8, kind, 0, 0, 0, 0, 0];
    stream.write_all(&[&head, payload].concat()).await.unwrap();
}

#[tokio::test]
async fn an_unusable_authority_file_fails_at_start() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let start = |extra_ca: PathBuf| {
        Outbound::new(OutboundConfig { extra_ca: Some(extra_ca), ..config(AddressPolicy::PublicOnly) }).err()
    };
    for path in [file.path().to_owned(), "/does/not/exist.pem".into()] {
        let error = start(path.clone());
        assert!(matches!(&error, Some(OutboundError::ExtraCa { path: named, .. }) if *named == path), "{error:?}");
    }
}
