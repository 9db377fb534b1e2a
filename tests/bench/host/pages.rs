//! How long the pages of an endpoint with a long history take the server.

use std::time::{Duration, Instant};

use revnoxa_tests::{HOW_TO_INSTALL, Machine, Page, Postgres, Reader};
use serde_json::{Value, json};

use crate::{generator::Event, receiver::Receiver};

/// Deliveries of the endpoint that the large one is compared with.
const FEW: usize = 100;
/// Events of one request.
const BATCH: usize = 1_000;
/// How often each page is asked for.
const TIMES: usize = 100;

/// Prints the time of each page, for an endpoint with few deliveries and one with this many, on each database.
pub(crate) async fn measure(deliveries: usize) {
    let machine = Machine::on_a_file();
    let host = machine.serve().await;
    measure_on("SQLite", &machine, deliveries).await;
    drop(host);
    let Some(server) = Postgres::start_with(&[]) else { return eprintln!("SKIPPED: {HOW_TO_INSTALL}") };
    let machine = Machine::on(&server.database());
    let _host = machine.serve().await;
    measure_on("PostgreSQL", &machine, deliveries).await;
}

async fn measure_on(what: &str, machine: &Machine, deliveries: usize) {
    let mut receiver = Receiver::start().await;
    let url = format!("http://127.0.0.1:{}/0", receiver.ports.http);
    let tenant = machine.tenant("acme").await;
    let mut times = Vec::new();
    for (event_type, count) in [("incident.created", FEW), ("incident.resolved", deliveries)] {
        let endpoint = tenant.endpoint_with(json!({"url": url, "event_types": [event_type]})).await;
        receiver.count(count, 1).await;
        for first in (0..count).step_by(BATCH) {
            let events: Vec<_> = (first..count.min(first + BATCH))
                .map(|number| json!({"tenant": "acme", "type": event_type, "data": data(number)}))
                .collect();
            machine.producer().await.post("/v1/events/batch", json!({"events": events})).await.expect(202);
        }
        assert_eq!(receiver.wait_for(count).await.deliveries, count);
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

fn data(number: usize) -> Value {
    serde_json::from_str(&Event { number, posted_nanos: 0 }.data()).unwrap()
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
