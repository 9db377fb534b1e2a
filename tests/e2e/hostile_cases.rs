//! What a hostile receiver does with a connection, and what the history is to say of it: the list.

use std::time::Duration;

use revnoxa_tests::{
    Authority, HostileReceiver, Script,
    Step::{self, Drip, FirstByte, Flood, Request, Reset, Silence, Write},
    gzip_bomb, zstd_bomb,
};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

/// What the hosts of these tests give a receiver, instead of ten seconds; beyond it an attempt ends within [`GRACE`].
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
const GRACE: Duration = Duration::from_secs(1);

const TIMED_OUT: &str = "timed out after 2 s";
const CLOSED: &str = "connection closed before an answer";
const NOT_HTTP: &str = "answer is not HTTP, or its headers are too large";

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A receiver's ill manners.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) script: Script,
    /// How it is called over HTTPS, and what it shows as long as it is friendly.
    https: Option<(&'static str, TlsAcceptor)>,
    expected: Expected,
}

enum Expected {
    /// An answer with this status and the whole of this body.
    Whole(u16, Vec<u8>),
    /// 200 and a body that is marked as cut and begins so.
    Cut(String),
    /// No answer, for this reason.
    Nothing(&'static str),
    /// Either: it is a matter of microseconds.
    Either,
}

impl Case {
    /// The receiver, still friendly.
    pub(crate) async fn receiver(&self) -> HostileReceiver {
        match &self.https {
            None => HostileReceiver::start().await,
            Some((name, acceptor)) => HostileReceiver::start_https(name, acceptor.clone()).await,
        }
    }

    /// Fails the test unless the delivery's only attempt ended in time, and as it should.
    pub(crate) fn check(&self, delivery: &Value) {
        let attempt = &delivery["history"][0];
        let context = format!("{}: {delivery:#}", self.name);
        let duration = Duration::from_millis(attempt["duration_ms"].as_u64().expect("a duration"));
        assert!(duration <= PATIENCE + GRACE, "{context}");
        let (body, cut) = (attempt["response_body"].as_str().unwrap_or_default(), &attempt["response_truncated"]);
        match &self.expected {
            Expected::Whole(status, whole) => {
                assert_answered(delivery, *status, &context);
                assert_eq!(body, String::from_utf8_lossy(whole), "{context}");
                assert_eq!(cut, &json!(false), "{context}");
            }
            Expected::Cut(beginning) => {
                assert_answered(delivery, 200, &context);
                assert!(body.starts_with(beginning) && body.len() <= 16 * 1_024, "{context}");
                assert_eq!(cut, &json!(true), "{context}");
            }
            Expected::Nothing(why) => {
                assert_eq!(attempt["status_code"], Value::Null, "{context}");
                assert_eq!((&attempt["error"], &delivery["state"]), (&json!(why), &json!("pending")), "{context}");
            }
            Expected::Either => {}
        }
    }
}

#[track_caller]
fn assert_answered(delivery: &Value, status: u16, context: &str) {
    let attempt = &delivery["history"][0];
    let error = if (300..400).contains(&status) { json!("redirect not followed") } else { Value::Null };
    let state = if (200..300).contains(&status) { "succeeded" } else { "pending" };
    assert_eq!((&attempt["status_code"], &attempt["error"]), (&json!(status), &error), "{context}");
    assert_eq!(delivery["state"], state, "{context}");
}

/// All of them; the host is to trust `authority`.
pub(crate) fn cases(authority: &Authority) -> Vec<Case> {
    let groups = [
        breaking_off(),
        without_end(),
        compressed(),
        garbage(),
        lengths(),
        smuggled(),
        misleading(),
        in_the_handshake(authority),
        certificates(authority),
    ];
    groups.into_iter().flatten().collect()
}

fn breaking_off() -> Vec<Case> {
    let (head, body) = ("HTTP/1.1 200 OK\r\nContent-", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    let chunk = format!("{CHUNKED}9\r\nhalf");
    vec![
        nothing("hangs up at once", [], CLOSED),
        nothing("hangs up in the request", [FirstByte], CLOSED),
        nothing("hangs up before its answer", [Request], CLOSED),
        nothing("hangs up in the head", said(head), CLOSED),
        cut("hangs up in the body", said(body), "half"),
        cut("hangs up in a chunk", said(chunk.as_str()), "half"),
        cut("hangs up between chunks", said(format!("{CHUNKED}4\r\nhalf\r\n")), "half"),
        nothing("resets at once", [Reset], CLOSED),
        nothing("resets in the request", [FirstByte, Reset], CLOSED),
        nothing("resets before its answer", [Request, Reset], CLOSED),
        nothing("resets in the head", and(head, Reset), CLOSED),
        cut("resets in the body", and(body, Reset), "half"),
        cut("resets in a chunk", and(chunk, Reset), "half"),
    ]
}

fn without_end() -> Vec<Case> {
    let hint = b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec();
    let (head, body) = ("HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
    let many = |bytes: &str| bytes.repeat(1_000).into_bytes();
    vec![
        nothing("says nothing", [Request, Silence], TIMED_OUT),
        nothing("drips its head", and(format!("{head}X: "), Drip(b"x".to_vec())), TIMED_OUT),
        nothing("drips interim answers", [Request, Drip(hint.clone())], TIMED_OUT),
        nothing("floods interim answers", [Request, Flood(hint.repeat(100))], TIMED_OUT),
        nothing("floods empty lines", [Request, Flood(many("\r\n"))], NOT_HTTP),
        nothing("floods headers", and(head, Flood(many("X: y\r\n"))), NOT_HTTP),
        nothing("floods one header", and(format!("{head}X: "), Flood(many("x"))), NOT_HTTP),
        nothing("floods its reason", and("HTTP/1.1 200 ", Flood(many("x"))), NOT_HTTP),
        cut("drips its body", and(body, Drip(b"b".to_vec())), "bb"),
        cut("ends no body", and(format!("{body}half"), Silence), "half"),
        cut("floods its body", and(format!("{head}\r\n"), Flood(many("b"))), &"b".repeat(16 * 1_024)),
        cut("floods chunks of a byte", and(CHUNKED, Flood(many("1\r\nb\r\n"))), &"b".repeat(16 * 1_024)),
        cut("floods what follows a chunk's size", and(format!("{CHUNKED}1;"), Flood(many("x"))), ""),
        cut("floods trailers", and(format!("{CHUNKED}2\r\nok\r\n0\r\n"), Flood(many("X: y\r\n"))), "ok"),
    ]
}

fn compressed() -> Vec<Case> {
    let case = |coding: &str, bytes: Vec<u8>| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n", bytes.len());
        whole(&format!("sends a bomb in {coding}"), [head.as_bytes(), bytes.as_slice()].concat(), 200, bytes)
    };
    vec![case("gzip", gzip_bomb()), case("gzip, gzip", gzip_bomb()), case("zstd", zstd_bomb())]
}

fn garbage() -> Vec<Case> {
    let many_headers = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(101));
    let one_header =
        |kib: usize| format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 2\r\n\r\nok", "x".repeat(kib << 10));
    let big = one_header(400);
    let cases = [
        ("another protocol", "220 mail.example.com ESMTP\r\n"),
        ("a TLS record", "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03"),
        ("zeros", "\0\0\0\0\0\0\0\0\0\0\0\0"),
        ("an answer without a head", "<html><body>OK</body></html>"),
        ("HTTP/2 unasked for", "HTTP/2.0 200 OK\r\n\r\n"),
        ("a version in small letters", "http/1.1 200 OK\r\n\r\n"),
        ("two spaces before the status", "HTTP/1.1  200 OK\r\n\r\n"),
        ("a status that is none", "HTTP/1.1 2x0 OK\r\n\r\n"),
        ("a status of four digits", "HTTP/1.1 2000 OK\r\n\r\n"),
        ("a status below 100", "HTTP/1.1 099 Low\r\n\r\n"),
        ("a NUL in the reason", "HTTP/1.1 200 O\0K\r\n\r\n"),
        ("a header without a colon", "HTTP/1.1 200 OK\r\nno header\r\n\r\n"),
        ("a NUL in a name", "HTTP/1.1 200 OK\r\nX\0Y: z\r\n\r\n"),
        ("a NUL in a value", "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n"),
        ("a lone CR in a value", "HTTP/1.1 200 OK\r\nX: a\rY: b\r\n\r\n"),
        ("a folded line", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n"),
        ("a folded first line", "HTTP/1.1 200 OK\r\n X: a\r\n\r\n"),
        ("more than a hundred headers", many_headers.as_str()),
        ("400 KiB of headers", big.as_str()),
    ];
    let mut cases: Vec<Case> = cases.into_iter().map(|(name, bytes)| nothing(name, said(bytes), NOT_HTTP)).collect();
    cases.push(whole("headers as large as they may be", one_header(30), 200, "ok"));
    cases
}

/// How much of what is sent is the body.
fn lengths() -> Vec<Case> {
    let answer = |length: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nok");
    let wrong = ["-1", "+2", "0x2", "2.0", "", "two", "2 2", "2, 3", "2\r\nContent-Length: 3", "18446744073709551615"];
    let wrong = wrong.into_iter().chain(["99999999999999999999999999"]);
    let wrong = wrong.map(|length| nothing(&format!("Content-Length {length:?}"), said(answer(length)), NOT_HTTP));
    let chunks = ["fffffffffffffffff\r\nok", "-1\r\nok", "zz\r\nok", "\r\nok", "2 2\r\nok", "2\nok"];
    let chunks = chunks.map(|chunk| cut(&format!("a chunk {chunk:?}"), said(format!("{CHUNKED}{chunk}")), ""));
    let mut cases: Vec<Case> = wrong.chain(chunks).collect();
    cases.extend([
        whole("the same length twice", answer("2, 2"), 200, "ok"),
        cut("a length beyond all bounds", said(answer("9223372036854775807")), "ok"),
        cut("a chunk beyond all bounds", said(format!("{CHUNKED}7fffffffffffffff\r\nok")), "ok"),
        cut("a chunk longer than it says", said(format!("{CHUNKED}1\r\nok\r\n0\r\n\r\n")), "o"),
        whole("no length at all", "HTTP/1.1 200 OK\r\n\r\nok", 200, "ok"),
        whole("HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nok", 200, "ok"),
    ]);
    cases
}

/// Where readers disagree about the end of an answer.
fn smuggled() -> Vec<Case> {
    let chunked_and = |header: &str| format!("HTTP/1.1 200 OK\r\n{header}\r\nTransfer-Encoding: chunked\r\n\r\n");
    let (ok, other) = ("2\r\nok\r\n0\r\n\r\n", "HTTP/1.1 500 Other\r\nContent-Length: 5\r\n\r\nother");
    let with_coding =
        |version: &str, coding: &str| format!("HTTP/{version} 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n{ok}");
    vec![
        whole("two answers at once", format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{other}"), 200, "ok"),
        whole("two answers, the first without a body", format!("HTTP/1.1 204 None\r\n\r\n{other}"), 204, ""),
        whole("a length and chunks", format!("{}{ok}", chunked_and("Content-Length: 3")), 200, "ok"),
        whole("a length that hides an answer", format!("{}{ok}{other}", chunked_and("Content-Length: 99")), 200, "ok"),
        whole("chunks twice", format!("{}{ok}", chunked_and("Transfer-Encoding: chunked")), 200, "ok"),
        whole("chunks in disguise", with_coding("1.1", "xchunked"), 200, ok),
        whole("chunks and then something else", with_coding("1.1", "chunked, identity"), 200, ok),
        nothing("chunks in HTTP/1.0", said(with_coding("1.0", "chunked")), NOT_HTTP),
        nothing("a space before the colon", said("HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok"), NOT_HTTP),
        whole("lines that end in LF alone", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 200, "ok"),
        whole("empty lines first", "\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
        case("answers before it is asked", [Write(ok_answer()), Silence], Expected::Either),
    ]
}

fn ok_answer() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()
}

/// Answers that are well-formed and mean no good.
fn misleading() -> Vec<Case> {
    let answer = |status: u16, rest: &str| format!("HTTP/1.1 {status} Scripted\r\n{rest}");
    let metadata = "Location: http://169.254.169.254/latest/meta-data/\r\nContent-Length: 0\r\n\r\n";
    let redirects = [300, 301, 302, 303, 305, 307, 308];
    let redirects = redirects.map(|status| {
        whole(&format!("redirects to the cloud's metadata with {status}"), answer(status, metadata), status, "")
    });
    let mut cases = Vec::from(redirects);
    cases.extend([
        whole("204 with a body", answer(204, "Content-Length: 5\r\n\r\nhello"), 204, ""),
        whole("204 with chunks", answer(204, "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), 204, ""),
        whole("205 with a body", answer(205, "Content-Length: 5\r\n\r\nhello"), 205, "hello"),
        whole("304 with a body", answer(304, "Content-Length: 5\r\n\r\nhello"), 304, ""),
        whole("switches to another protocol", answer(101, "Connection: upgrade\r\nUpgrade: h2c\r\n\r\nhello"), 101, ""),
        whole("a status that nobody knows", answer(999, "Content-Length: 2\r\n\r\nok"), 999, "ok"),
        whole("interim answers first", [answer(100, "\r\n").repeat(50).into_bytes(), ok_answer()].concat(), 200, "ok"),
    ]);
    cases
}

fn in_the_handshake(authority: &Authority) -> Vec<Case> {
    // A record of 16 KiB (RFC 8446 §5.1) with the beginning of a certificate of 16 MiB.
    let mut record = vec![0_u8; 5 + (16 << 10)];
    record[..9].copy_from_slice(&[22, 3, 3, 0x40, 0, 11, 0xff, 0xff, 0xff]);
    let not_tls = "TLS error: the receiver does not speak TLS";
    let cases = [
        nothing("says nothing in the handshake", [Silence], TIMED_OUT),
        nothing("hangs up in the handshake", [FirstByte], CLOSED),
        nothing("resets in the handshake", [FirstByte, Reset], CLOSED),
        nothing("answers the handshake in HTTP", [FirstByte, Write(ok_answer()), Silence], not_tls),
        nothing("floods the handshake", [FirstByte, Flood(record)], not_tls),
    ];
    let good = authority.acceptor(&["localhost"]);
    cases.into_iter().map(|case| Case { https: Some(("localhost", good.clone())), ..case }).collect()
}

fn certificates(authority: &Authority) -> Vec<Case> {
    let names = ["localhost"];
    let good = authority.acceptor(&names);
    let stranger = Authority::new();
    let cases = [
        ("has expired", authority.acceptor_valid_in(2019..2020, &names), "TLS error: certificate has expired"),
        ("begins later", authority.acceptor_valid_in(2200..2201, &names), "TLS error: certificate is not valid yet"),
        ("is for another", authority.acceptor(&["example.com"]), "TLS error: certificate is for another name"),
        ("vouches for itself", Authority::self_signed(&names), "TLS error: certificate issuer is not trusted"),
        // Called like the authority that is trusted, which gives the forgery away.
        ("has a strange issuer", stranger.acceptor(&names), "TLS error: certificate is not valid"),
    ];
    let bad = cases.map(|(name, acceptor, why)| Case {
        name: format!("a certificate that {name}"),
        script: Script::over_tls(acceptor, said(ok_answer())),
        https: Some(("localhost", good.clone())),
        expected: Expected::Nothing(why),
    });
    let mut cases = Vec::from(bad);
    cases.push(Case {
        name: "a certificate for who asks by name only".to_owned(),
        script: Script::over_tls(authority.acceptor_by_name("localhost"), said(ok_answer())),
        // An address is not a name (RFC 6066 §3): nothing is asked for.
        https: Some(("127.0.0.1", authority.acceptor(&["127.0.0.1"]))),
        expected: Expected::Nothing("TLS error: the receiver ended the handshake"),
    });
    cases.push(Case {
        name: "a body over TLS whose end could be anybody's".to_owned(),
        script: Script::over_tls(good.clone(), said("HTTP/1.1 200 OK\r\n\r\nhalf")),
        https: Some(("localhost", good)),
        expected: Expected::Cut("half".to_owned()),
    });
    cases
}

fn case(name: &str, steps: impl Into<Vec<Step>>, expected: Expected) -> Case {
    Case { name: name.to_owned(), script: Script::new(steps), https: None, expected }
}

fn whole(name: &str, answer: impl Into<Vec<u8>>, status: u16, body: impl Into<Vec<u8>>) -> Case {
    case(name, said(answer), Expected::Whole(status, body.into()))
}

fn cut(name: &str, steps: impl Into<Vec<Step>>, beginning: &str) -> Case {
    case(name, steps, Expected::Cut(beginning.to_owned()))
}

fn nothing(name: &str, steps: impl Into<Vec<Step>>, why: &'static str) -> Case {
    case(name, steps, Expected::Nothing(why))
}

/// Reads the request, says this and hangs up.
fn said(bytes: impl Into<Vec<u8>>) -> Vec<Step> {
    vec![Request, Write(bytes.into())]
}

/// Reads the request, says this and goes on so.
fn and(bytes: impl Into<Vec<u8>>, step: Step) -> Vec<Step> {
    vec![Request, Write(bytes.into()), step]
}
