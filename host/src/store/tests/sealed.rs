//! What is sealed opens in its own place only: whoever can write to the database brings no endpoint another one's credentials.

use super::*;
use crate::domain::id::EndpointId;
use crate::store::{AcceptError, Accepted, Output, PastEvent, StoreError};

/// An active endpoint with all that is sealed: a header, a secret, the one before it, and a plugin's settings.
pub(super) async fn dressed(store: &Store, tenant: &TenantId, credential: &str) -> EndpointId {
    let new = NewEndpoint {
        url: EndpointUrl::parse("https://example.com/", AddressPolicy::PublicOnly).unwrap(),
        description: String::new(),
        event_types: None,
        headers: CustomHeaders::parse([("authorization", credential)]).unwrap(),
    };
    let (endpoint, _) = store.create_endpoint(tenant, new).await.unwrap().unwrap();
    store.record_test(&endpoint, None).await.unwrap();
    store.rotate_secret(tenant, endpoint.id, Duration::from_hours(1)).await.unwrap().unwrap();
    let built_in: PluginName = "built-in".parse().unwrap();
    let version = store.keep_built_in(&built_in, Bytes::from_static(b"for all")).await.unwrap();
    let settings = format!("{{\"token\":\"{credential}\"}}");
    store.attach(tenant, endpoint.id, vec![attachment(&built_in, version, &settings)]).await.unwrap();
    endpoint.id
}

async fn accept(world: &World) -> Result<Vec<Accepted>, AcceptError> {
    let now = world.clock.now();
    let (id, event_type): (_, EventType) = (EventId::new(now), "incident.created".parse().unwrap());
    let body = request_body(&id, &event_type, now, "1");
    let event = Event { tenant: world.acme.clone(), id, event_type, body, fingerprint: None, trace: None };
    let room = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
    world.writer.accept(vec![event], room).await
}

#[tokio::test]
async fn a_value_of_another_row_is_unreadable_and_nothing_is_sent_with_it() {
    let world = World::new().await;
    let mallory: TenantId = "mallory".parse().unwrap();
    world.store.create_tenant(&mallory, "").await.unwrap().unwrap();
    let here = dressed(&world.store, &world.acme, "ours").await;
    let there = dressed(&world.store, &world.acme, "ours too").await;
    let foreign = dressed(&world.store, &mallory, "theirs").await;
    for (table, id_column, column) in [
        ("endpoints", "id", "headers"),
        ("endpoints", "id", "secret"),
        ("endpoints", "id", "previous_secret"),
        ("attachments", "endpoint_id", "settings"),
    ] {
        let value = async |of: EndpointId| -> Vec<u8> {
            let select = format!("SELECT {column} FROM {table} WHERE {id_column} = $1");
            let select = sqlx::query_scalar(sqlx::AssertSqlSafe(select)).bind(of.to_string());
            select.fetch_one(&world.store.read).await.unwrap()
        };
        let put = async |value: &[u8]| {
            let update = format!("UPDATE {table} SET {column} = $1 WHERE {id_column} = $2");
            let update = sqlx::query(sqlx::AssertSqlSafe(update)).bind(value).bind(here.to_string());
            assert_eq!(update.execute(&world.store.write).await.unwrap().rows_affected(), 1);
            world.store.catalog.forget(&world.acme);
        };
        let own = value(here).await;
        for other in [there, foreign] {
            put(&value(other).await).await;
            let read = world.store.endpoint(&world.acme, here).await;
            let Err(StoreError::Unreadable { table: of, column: what, id, key: None }) = &read else {
                panic!("{column}: {read:?}");
            };
            assert_eq!((*of, *what, id), (table, column, &here.to_string()));
            let accepted = accept(&world).await;
            assert!(matches!(accepted, Err(AcceptError::Unavailable)), "{column}: {accepted:?}");
        }
        put(&own).await;
        assert!(accept(&world).await.is_ok(), "{column}");
    }
}

#[tokio::test]
async fn a_value_of_another_column_is_unreadable() {
    let world = World::new().await;
    let endpoint = dressed(&world.store, &world.acme, "ours").await;
    for (columns, swapped) in [
        (["secret", "previous_secret"], "the secret that was replaced, as if it were the current one"),
        (["secret", "headers"], "a secret as headers"),
    ] {
        let [one, other] = columns;
        let swap = format!("UPDATE endpoints SET {one} = {other}, {other} = {one}");
        for readable in [false, true] {
            sqlx::query(sqlx::AssertSqlSafe(swap.clone())).execute(&world.store.write).await.unwrap();
            world.store.catalog.forget(&world.acme);
            let read = world.store.endpoint(&world.acme, endpoint).await;
            assert_eq!(read.is_ok(), readable, "{swapped}: {read:?}");
        }
    }
}

/// What a panic or a log line would show.
#[tokio::test]
async fn what_is_read_shows_no_credential_and_no_payload() {
    const MARK: &str = "marked";
    let world = World::new().await;
    let id = dressed(&world.store, &world.acme, MARK).await;
    let event = world.event(&format!("\"{MARK}\"")).await;
    let delivery = world.leased().await;
    let endpoint = world.store.endpoint(&world.acme, id).await.unwrap().unwrap();
    let past: Vec<PastEvent> = world.store.last_events_of_endpoint(&world.acme, id, None, 1).await.unwrap();
    assert_eq!(past[0].event, event);
    let mut history = world.store.delivery_with_history(&world.acme, delivery.id).await.unwrap().unwrap();
    history.attempts.push(crate::store::AttemptRecord {
        number: 1,
        started_at: at(NOW),
        duration_ms: 1,
        request_headers: format!("x-token: {MARK}\n"),
        status_code: Some(200),
        response_body: Some(MARK.into()),
        response_truncated: false,
        error: None,
    });
    let output = Output { body: Some(MARK.into()), headers: Default::default() };
    let as_numbers = format!("{:?}", MARK.as_bytes());
    let as_numbers = as_numbers.trim_matches(['[', ']']);
    for shown in [
        format!("{endpoint:?}"),
        format!("{delivery:?}"),
        format!("{past:?}"),
        format!("{history:?}"),
        format!("{output:?}"),
    ] {
        assert!(!shown.contains(MARK) && !shown.contains(as_numbers), "{shown}");
    }
}
