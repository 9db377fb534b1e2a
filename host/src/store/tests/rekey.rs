//! One master key takes another's place while hosts go on.

use super::sealed::dressed;
use super::*;
use crate::config::KeyId;
use crate::domain::id::EndpointId;
use crate::store::{EndpointChange, RekeyError, Rekeyed, StoreError};

fn id(key: u8) -> KeyId {
    MasterKey::from_bytes([key; 32]).id()
}

/// Why the database does not open with these keys; `None`: it does.
async fn refusal(world: &World, current: u8, previous: &[u8]) -> Option<OpenError> {
    match try_open(&world.folder, &world.clock, &keys(current, previous)).await {
        Ok(store) => {
            store.close().await;
            None
        }
        Err(error) => Some(error),
    }
}

async fn host(world: &World, current: u8, previous: &[u8]) -> Arc<Store> {
    try_open(&world.folder, &world.clock, &keys(current, previous)).await.unwrap()
}

async fn rekey(world: &World, store: &Store) -> Result<Rekeyed, RekeyError> {
    store.rekey(&world.folder.url(), |_| {}).await
}

/// What is sealed of a tenant's endpoints, and what they sign.
async fn read(store: &Store, tenant: &TenantId) -> Vec<String> {
    let endpoints = store.endpoints(tenant, &all()).await.unwrap().items;
    let told = endpoints.iter().map(|endpoint| {
        let headers: Vec<(&str, &str)> = endpoint.headers.iter().collect();
        let settings: Vec<&str> = endpoint.plugins.iter().map(|plugin| &*plugin.settings).collect();
        let signed = endpoint.keys.sign("evt_1", at(NOW), b"{}");
        format!("{} {headers:?} {settings:?} {} {}", endpoint.id, signed.hex, signed.standard)
    });
    told.collect()
}

/// How many endpoints' headers name this key.
async fn sealed_under(world: &World, key: u8) -> i64 {
    sqlx::query_scalar("SELECT COUNT(*) FROM endpoints WHERE substr(headers, 2, 4) = $1")
        .bind(id(key).as_bytes().as_slice())
        .fetch_one(&world.store.read)
        .await
        .unwrap()
}

async fn plain(store: &Store, tenant: &TenantId) -> Result<EndpointId, StoreError> {
    let new = NewEndpoint {
        url: EndpointUrl::parse("https://example.com/", AddressPolicy::PublicOnly).unwrap(),
        description: String::new(),
        event_types: None,
        headers: CustomHeaders::parse([("x-token", "credential")]).unwrap(),
    };
    Ok(store.create_endpoint(tenant, new).await?.unwrap().0.id)
}

/// As many that a rekey takes several batches.
async fn crowded() -> (World, Vec<EndpointId>) {
    let world = World::new().await;
    let mut endpoints = Vec::new();
    for _ in 0..80 {
        endpoints.push(plain(&world.store, &world.acme).await.unwrap());
    }
    (world, endpoints)
}

#[tokio::test]
async fn everything_opens_with_the_new_key_alone_afterwards_and_not_before() {
    let world = World::new().await;
    let mallory: TenantId = "mallory".parse().unwrap();
    world.store.create_tenant(&mallory, "").await.unwrap().unwrap();
    dressed(&world.store, &world.acme, "one").await;
    dressed(&world.store, &world.acme, "two").await;
    dressed(&world.store, &mallory, "three").await;
    let before = (read(&world.store, &world.acme).await, read(&world.store, &mallory).await);

    let alone = refusal(&world, 2, &[]).await;
    assert!(matches!(alone, Some(OpenError::WrongMasterKey(Some(key))) if key == id(1)), "{alone:?}");
    let said = alone.unwrap().to_string();
    assert!(said.contains(&id(1).to_string()) && said.contains("`previous_master_keys`"), "{said}");
    let both = host(&world, 2, &[1]).await;
    assert_eq!((read(&both, &world.acme).await, read(&both, &mallory).await), before);
    let mut told = 0;
    let rekeyed = both.rekey(&world.folder.url(), |values| told += values).await.unwrap();
    // Headers, secret, the secret before and settings of each.
    assert_eq!(rekeyed, Rekeyed { key: id(2), sealed: 12, unreadable: 0 });
    assert_eq!(told, 12);
    assert_eq!((read(&both, &world.acme).await, read(&both, &mallory).await), before);

    let new = host(&world, 2, &[]).await;
    assert_eq!((read(&new, &world.acme).await, read(&new, &mallory).await), before);
    assert_eq!(rekey(&world, &new).await.unwrap(), Rekeyed { key: id(2), sealed: 0, unreadable: 0 });
    let old = refusal(&world, 1, &[]).await;
    assert!(matches!(old, Some(OpenError::WrongMasterKey(Some(key))) if key == id(2)), "{old:?}");
}

#[tokio::test]
async fn a_rekey_that_is_cut_short_needs_both_keys_and_goes_on() {
    let (world, _) = crowded().await;
    let before = read(&world.store, &world.acme).await;
    let both = host(&world, 2, &[1]).await;
    let batch = tokio::sync::Notify::new();
    let url = world.folder.url();
    tokio::select! {
        rekeyed = both.rekey(&url, |_| batch.notify_one()) => panic!("it was not cut short: {rekeyed:?}"),
        () = batch.notified() => {}
    }
    both.close().await;
    let done = sealed_under(&world, 2).await;
    assert!((1..80).contains(&done), "{done} of 80");

    let alone = refusal(&world, 2, &[]).await;
    assert!(matches!(alone, Some(OpenError::MissingMasterKey(Some(key))) if key == id(1)), "{alone:?}");
    let said = alone.unwrap().to_string();
    assert!(said.contains(&id(1).to_string()) && said.contains("until `revnoxa-host rekey` is through"), "{said}");
    let alone = refusal(&world, 1, &[]).await;
    assert!(matches!(alone, Some(OpenError::WrongMasterKey(Some(key))) if key == id(2)), "{alone:?}");

    // Whoever wants a third key by now first gets everything under the second.
    let third = host(&world, 3, &[2, 1]).await;
    assert_eq!(read(&third, &world.acme).await, before);
    let rekeyed = rekey(&world, &third).await.unwrap();
    assert_eq!((rekeyed.key, rekeyed.unreadable), (id(3), 0));
    assert_eq!(sealed_under(&world, 3).await, 80);
    assert_eq!(read(&*host(&world, 3, &[]).await, &world.acme).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_meanwhile_stays_as_it_was_changed() {
    let (world, endpoints) = crowded().await;
    let (both, other) = (host(&world, 2, &[1]).await, host(&world, 2, &[1]).await);
    let acme = world.acme.clone();
    let changes = tokio::spawn(async move {
        for round in ["first", "second"] {
            for endpoint in &endpoints {
                let headers = Some(CustomHeaders::parse([("x-token", round)]).unwrap());
                let change = EndpointChange { headers, ..EndpointChange::default() };
                other.change_endpoint(&acme, *endpoint, change).await.unwrap().unwrap();
                other.rotate_secret(&acme, *endpoint, Duration::from_hours(1)).await.unwrap().unwrap();
            }
        }
        read(&other, &acme).await
    });
    let rekeyed = rekey(&world, &both).await.unwrap();
    let changed = changes.await.unwrap();
    assert_eq!(rekeyed.unreadable, 0);
    assert!(changed.iter().all(|endpoint| endpoint.contains("second")), "{changed:?}");
    assert_eq!(read(&*host(&world, 2, &[]).await, &world.acme).await, changed);
}

#[tokio::test]
async fn new_values_are_under_the_key_that_all_hosts_know_and_after_the_rekey_under_the_new_one() {
    let world = World::new().await;
    let both = host(&world, 2, &[1]).await;
    plain(&both, &world.acme).await.unwrap();
    assert_eq!((sealed_under(&world, 1).await, sealed_under(&world, 2).await), (1, 0));
    assert_eq!(read(&world.store, &world.acme).await.len(), 1, "a host that knows the old key only reads it");

    rekey(&world, &*host(&world, 2, &[1]).await).await.unwrap();
    plain(&both, &world.acme).await.unwrap();
    assert_eq!((sealed_under(&world, 1).await, sealed_under(&world, 2).await), (0, 2));
    // One that was overlooked neither reads what it cannot, nor seals what the others could not read.
    let sealed = plain(&world.store, &world.acme).await;
    let missing = |error: &StoreError| matches!(error, StoreError::Unreadable { key: Some(key), .. } if *key == id(2));
    assert!(sealed.as_ref().is_err_and(missing), "{sealed:?}");
    let read = world.store.endpoints(&world.acme, &all()).await.map(|page| page.items.len());
    assert!(read.as_ref().is_err_and(missing), "{read:?}");
    let said = read.unwrap_err().to_string();
    assert!(said.ends_with(&format!("sealed under the master key {}, which is not configured", id(2))), "{said}");
}

#[tokio::test]
async fn a_rekey_waits_until_the_host_that_serves_knows_the_new_key() {
    let world = World::new().await;
    plain(&world.store, &world.acme).await.unwrap();
    let url = world.folder.url();
    let serve = async |keys: MasterKeys| {
        let handover = Arc::new(Handover::new(Limits { in_flight: 16, per_endpoint: 8 }));
        Store::open_to_serve(&url, &keys, world.clock.clone(), handover).await.unwrap()
    };
    let both = host(&world, 2, &[1]).await;
    let serving = serve(keys(1, &[])).await;
    let refused = rekey(&world, &both).await;
    assert!(matches!(refused, Err(RekeyError::UnknownToHost(key)) if key == id(2)), "{refused:?}");
    assert_eq!(sealed_under(&world, 1).await, 1, "nothing was changed");
    assert!(refusal(&world, 1, &[]).await.is_none());
    serving.close().await;

    let serving = serve(keys(2, &[1])).await;
    assert_eq!(rekey(&world, &both).await.unwrap().sealed, 2);
    assert_eq!(sealed_under(&world, 2).await, 1);
    serving.close().await;
}

#[tokio::test]
async fn a_value_that_no_key_opens_keeps_nothing_else_back() {
    let world = World::new().await;
    let mallory: TenantId = "mallory".parse().unwrap();
    world.store.create_tenant(&mallory, "").await.unwrap().unwrap();
    let broken = plain(&world.store, &mallory).await.unwrap();
    plain(&world.store, &world.acme).await.unwrap();
    sqlx::query("UPDATE endpoints SET secret = $1 WHERE id = $2")
        .bind(b"garbage".as_slice())
        .bind(broken.to_string())
        .execute(&world.store.write)
        .await
        .unwrap();
    let both = host(&world, 2, &[1]).await;
    let rekeyed = rekey(&world, &both).await.unwrap();
    assert_eq!(rekeyed, Rekeyed { key: id(2), sealed: 3, unreadable: 1 });
    let new = host(&world, 2, &[]).await;
    assert_eq!(read(&new, &world.acme).await.len(), 1);
    let error = new.endpoints(&mallory, &all()).await.map(drop).unwrap_err();
    assert!(matches!(error, StoreError::Unreadable { column: "secret", key: None, .. }), "{error:?}");
}
