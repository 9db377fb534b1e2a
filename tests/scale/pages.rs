//! How long the pages of an endpoint with a long history take the server.

use std::time::{Duration, Instant};

use revnoxa_tests::{Machine, Page, Reader, eventually};
use serde_json::json;

use crate::receiver::Counter;

/// Deliveries of the endpoint that the large one is compared with.
const FEW: usize = 100;
/// Events of one request.
const BATCH: usize = 1_000;
/// How often each page is asked for.
const TIMES: usize = 100;

/// Prints the time of each page, for an endpoint with few deliveries and one with this many.
pub(crate) async fn measure(what: &str, machine: &Machine, deliveries: usize) {
    let receiver = Counter::start().await;
    let tenant = machine.tenant("acme").await;
    let mut times = Vec::new();
    for (event_type, count) in [("incident.created", FEW), ("incident.resolved", deliveries)] {
        let body = json!({"url": receiver.url, "event_types": [event_type]});
        let endpoint = tenant.endpoint_with(body).await;
        let before = receiver.arrivals.lock().unwrap().len();
        for first in (0..count).step_by(BATCH) {
            let event = json!({"tenant": "acme", "type": event_type, "data": {"title": "Checkout is down"}});
            let events = vec![event; BATCH.min(count - first)];
            machine.producer().await.post("/v1/events/batch", json!({"events": events})).await.expect(202);
            // As they are delivered: so many at once would wait longer than a test waits.
            eventually("the deliveries", async || {
                (receiver.arrivals.lock().unwrap().len() >= before + (first + BATCH).min(count)).then_some(())
            })
            .await;
        }
        let reader = tenant.sign_in().await;
        let path = format!("/settings/webhooks/endpoints/{}", endpoint.id);
        let first = time(&reader, &path).await;
        let delivery = reader.get(&path).await.select(".deliveries th a")[0].attr("href").unwrap().to_owned();
        let filtered = time(&reader, &format!("{path}?state=succeeded&type={event_type}")).await;
        times.push([first, filtered, time(&reader, &delivery).await]);
    }
    println!("\n{what:40} | {FEW:>7} deliveries | {deliveries:>7} deliveries | ratio");
    for (number, page) in ["first page of the history, median", "the same, filtered", "a delivery"].iter().enumerate() {
        let [few, many] = [times[0][number], times[1][number]];
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!("{page:40} | {:15.1} ms | {:15.1} ms | {:.2}", ms(few), ms(many), ms(many) / ms(few));
    }
}

/// The median of many.
async fn time(reader: &Reader, path: &str) -> Duration {
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let began = Instant::now();
        let _page: Page = reader.get(path).await.expect(200);
        times.push(began.elapsed());
    }
    times.sort();
    times[TIMES / 2]
}
