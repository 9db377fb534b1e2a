//! An event's data: byte for byte, and no more than 256 KiB of it.

use revnoxa_tests::{Host, Receiver, verify};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn data_arrives_byte_for_byte() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let cases = [
        ("key order", r#"{"z":1,"a":2,"m":{"y":1,"b":2}}"#),
        ("a key twice", r#"{"a":1,"a":2}"#),
        ("a float that is whole", r#"{"n":1.0}"#),
        ("zeros at the end", r#"{"n":1.50000}"#),
        ("more digits than a float holds", r#"{"n":0.1000000000000000055511151231257827021181583404541015625}"#),
        ("beyond every float", r#"{"n":1e400,"m":-1E-400}"#),
        ("minus zero", r#"{"n":-0,"m":-0.0}"#),
        ("a big integer", r#"{"n":123456789012345678901234567890}"#),
        ("above 2^53", r#"{"n":9007199254740993}"#),
        ("escapes", r#"{"s":"\u00e9\u0041\/\b\t\ud83d\ude00"}"#),
        ("the same, not escaped", r#"{"s":"éA/😀"}"#),
        ("separators of lines in JavaScript", "{\"s\":\"\u{2028}\u{2029}\"}"),
        ("markup", r#"{"s":"<script>&amp;</script>"}"#),
        ("white space", "{ \"a\" :\t1 ,\r\n  \"b\":[ ] }"),
        ("deep", &deep),
        ("null", "null"),
        ("text", r#""text""#),
        ("number", "17"),
        ("list", "[1, 2,3]"),
        ("empty key", r#"{"":{}}"#),
    ];
    for (n, (case, raw)) in cases.into_iter().enumerate() {
        endpoint.tenant.event_raw(raw).await;
        let request = receiver.wait_for(n + 1).await[n].clone();
        let data = request.text().split_once(r#""data":"#).unwrap().1;
        assert_eq!(data, format!("{raw}}}"), "{case}");
        assert_eq!(
            request.header("x-revnoxa-signature"),
            Some(verify::openssl_hmac(&endpoint.secret, &request.body).as_str()),
            "{case}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_keeps_data_byte_for_byte_as_well() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let raw = r#"{ "z":1e400, "a":1.0 }"#;
    let body =
        format!(r#"{{"events":[{{"data":{raw},"type":"incident.created","tenant":"{}"}}]}}"#, endpoint.tenant.id);
    host.producer().await.request("POST", "/v1/events/batch").body(body).send().await.expect(202);
    assert!(receiver.wait_for(1).await[0].text().ends_with(&format!(r#","data":{raw}}}"#)));
}

#[tokio::test(flavor = "multi_thread")]
async fn data_may_have_256_kib_and_not_a_byte_more() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let of_length = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let most = of_length(256 * 1024);
    endpoint.tenant.event_raw(&most).await;
    assert!(receiver.wait_for(1).await[0].text().ends_with(&format!("{most}}}")));

    let producer = host.producer().await;
    let post = async |data: String| {
        let body = format!(r#"{{"tenant":"acme","type":"incident.created","data":{data}}}"#);
        producer.request("POST", "/v1/events").body(body).send().await
    };
    let reply = post(of_length(256 * 1024 + 1)).await.expect_problem(422, "unprocessable");
    assert_eq!(reply.blamed_field(), "data");
    post(of_length(1024 * 1024)).await.expect_problem(413, "payload-too-large");
    let marker = endpoint.tenant.event("incident.created", json!({})).await;
    endpoint.delivery_in("succeeded", &marker).await;
    assert_eq!(receiver.received().len(), 2);
}
