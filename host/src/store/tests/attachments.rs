//! What is attached is there, and stays there while it is attached.

use super::*;
use crate::domain::plugin::Rollout;
use crate::store::{AttachError, PluginError, StoreError, TENANT_SETTINGS_LIMIT};

#[tokio::test]
async fn attachments_are_replaced_as_a_whole_and_read_with_the_endpoint() {
    let world = World::new().await;
    let (mine, other) = (world.plugin("mine").await, world.plugin("other").await);
    let (old, new) = (world.version(&mine, b"old").await, world.version(&mine, b"new").await);
    let second = world.version(&other, b"other").await;
    let (here, there) = (world.endpoint().await, world.endpoint().await);
    let mut first = attachment(&mine, new, "{\"a\": 1.0}");
    first.rollout = Some(Rollout::new(30, Some(old)).unwrap());
    first.on_error = OnError::Drop;
    let both = vec![first, attachment(&other, second, "[]")];
    world.store.attach(&world.acme, here.id, both.clone()).await.unwrap();
    let read = async |id| world.store.endpoint(&world.acme, id).await.unwrap().unwrap().plugins.clone();
    assert_eq!(read(here.id).await, both);
    assert_eq!(read(there.id).await, []);
    let listed = world.store.endpoints(&world.acme, &all()).await.unwrap().items;
    assert_eq!(listed[0].plugins, both);

    // An event that is accepted after the change finds the cached endpoints too old.
    world.store.attach(&world.acme, here.id, both[1..].to_vec()).await.unwrap();
    world.event("1").await;
    assert_eq!(read(here.id).await, both[1..]);
    world.store.attach(&world.acme, here.id, Vec::new()).await.unwrap();
    assert_eq!(read(here.id).await, []);
}

#[tokio::test]
async fn what_the_tenant_does_not_have_is_not_attached_and_nothing_changes() {
    let world = World::new().await;
    let mallory: TenantId = "mallory".parse().unwrap();
    world.store.create_tenant(&mallory, "").await.unwrap().unwrap();
    let theirs: PluginName = "theirs".parse().unwrap();
    world.store.create_plugin(&mallory, &theirs).await.unwrap();
    let not_ours = world.store.add_version(&mallory, &theirs, Bytes::from_static(b"theirs")).await.unwrap().0.version;
    let built_in: PluginName = "built-in".parse().unwrap();
    let for_all = world.store.keep_built_in(&built_in, Bytes::from_static(b"for all")).await.unwrap();
    let mine = world.plugin("mine").await;
    let version = world.version(&mine, b"mine").await;
    let endpoint = world.endpoint().await;
    let good = attachment(&mine, version, "{}");
    world.store.attach(&world.acme, endpoint.id, vec![good.clone()]).await.unwrap();

    let attach = async |second: Attachment| {
        let first = attachment(&built_in, for_all, "{}");
        world.store.attach(&world.acme, endpoint.id, vec![first, second]).await
    };
    let unknown = attach(attachment(&theirs, not_ours, "{}")).await;
    assert!(matches!(unknown, Err(AttachError::UnknownVersion(1))), "{unknown:?}");
    let unknown = attach(attachment(&mine, not_ours, "{}")).await;
    assert!(matches!(unknown, Err(AttachError::UnknownVersion(1))), "{unknown:?}");
    let mut canary = good.clone();
    canary.rollout = Some(Rollout::new(1, Some(not_ours)).unwrap());
    let unknown = attach(canary).await;
    assert!(matches!(unknown, Err(AttachError::UnknownBaseline(1))), "{unknown:?}");
    let elsewhere = world.store.attach(&mallory, endpoint.id, Vec::new()).await;
    assert!(matches!(elsewhere, Err(AttachError::NotFound)), "{elsewhere:?}");
    let read = world.store.endpoint(&world.acme, endpoint.id).await.unwrap().unwrap();
    assert_eq!(read.plugins, [good]);
}

#[tokio::test]
async fn what_is_attached_cannot_be_deleted() {
    let world = World::new().await;
    let mine = world.plugin("mine").await;
    let (old, new) = (world.version(&mine, b"old").await, world.version(&mine, b"new").await);
    let idle = world.version(&mine, b"idle").await;
    let (here, there) = (world.endpoint().await, world.endpoint().await);
    let mut canary = attachment(&mine, new, "{}");
    canary.rollout = Some(Rollout::new(10, Some(old)).unwrap());
    world.store.attach(&world.acme, here.id, vec![canary.clone(), canary]).await.unwrap();
    world.store.attach(&world.acme, there.id, vec![attachment(&mine, new, "{}")]).await.unwrap();
    for (version, expected) in [(new, 2), (old, 1)] {
        let refused = world.store.delete_version(&world.acme, &mine, version).await;
        assert!(matches!(refused, Err(PluginError::Attached { endpoints }) if endpoints == expected), "{refused:?}");
    }
    let refused = world.store.delete_plugin(&world.acme, &mine).await.unwrap_err();
    assert_eq!(refused.to_string(), "it is attached to 2 endpoints; detach it first");
    world.store.delete_version(&world.acme, &mine, idle).await.unwrap();

    world.store.delete_endpoint(&world.acme, here.id).await.unwrap();
    world.store.attach(&world.acme, there.id, Vec::new()).await.unwrap();
    world.store.delete_plugin(&world.acme, &mine).await.unwrap();
    assert_eq!(world.store.component(&world.acme, &mine, new).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_deleted_while_it_is_attached_is_one_or_the_other() {
    let world = World::new().await;
    let mine = world.plugin("mine").await;
    let endpoint = world.endpoint().await;
    let (mut attached, mut deleted) = (0, 0);
    for round in 0..50 {
        let component = Bytes::from(format!("{round}"));
        let version = world.store.add_version(&world.acme, &mine, component).await.unwrap().0.version;
        let attach = world.store.attach(&world.acme, endpoint.id, vec![attachment(&mine, version, "{}")]);
        let delete = world.store.delete_version(&world.acme, &mine, version);
        // Whoever is polled first mostly wins: both orders take turns.
        let (attach, delete) = if round % 2 == 0 {
            tokio::join!(attach, delete)
        } else {
            let (delete, attach) = tokio::join!(delete, attach);
            (attach, delete)
        };
        let is_there = world.store.version(&world.acme, &mine, version).await.unwrap().is_some();
        let now = world.store.endpoint(&world.acme, endpoint.id).await.unwrap().unwrap();
        let is_attached = now.plugins.iter().any(|plugin| plugin.version == version);
        assert_eq!((attach.is_ok(), delete.is_ok()), (is_attached, !is_there), "round {round}");
        assert_eq!(is_attached, is_there, "round {round}");
        attached += u32::from(is_attached);
        deleted += u32::from(!is_there);
    }
    assert!(attached > 0 && deleted > 0, "attached {attached}, deleted {deleted}");
}

#[tokio::test]
async fn settings_are_sealed_into_their_place() {
    let world = World::new().await;
    let mine = world.plugin("mine").await;
    let version = world.version(&mine, b"bytes").await;
    let endpoint = world.endpoint().await;
    let secret = "{\"webhook\":\"https://hooks.example.com/T0P/S3CR3T\"}";
    world.store.attach(&world.acme, endpoint.id, vec![attachment(&mine, version, secret)]).await.unwrap();
    let sealed: Vec<u8> =
        sqlx::query_scalar("SELECT settings FROM attachments").fetch_one(&world.store.read).await.unwrap();
    assert!(!sealed.windows(6).any(|window| window == b"S3CR3T"));
    sqlx::query("UPDATE attachments SET position = 1").execute(&world.store.write).await.unwrap();
    world.store.catalog.forget(&world.acme);
    let moved = world.store.endpoint(&world.acme, endpoint.id).await;
    assert!(matches!(moved, Err(StoreError::Unreadable { column: "settings", .. })), "{moved:?}");
}

#[tokio::test]
async fn a_tenants_settings_have_a_bound_together() {
    let world = World::new().await;
    let mine = world.plugin("mine").await;
    let version = world.version(&mine, b"bytes").await;
    let half = format!("\"{}\"", "x".repeat(TENANT_SETTINGS_LIMIT as usize / 2));
    let (here, there) = (world.endpoint().await, world.endpoint().await);
    let large = vec![attachment(&mine, version, &half)];
    world.store.attach(&world.acme, here.id, large.clone()).await.unwrap();
    let refused = world.store.attach(&world.acme, there.id, large.clone()).await;
    assert!(matches!(refused, Err(AttachError::TooMuchSettings)), "{refused:?}");
    world.store.attach(&world.acme, here.id, large).await.unwrap();
}
