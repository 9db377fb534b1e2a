//! Links and sessions: each link opens one session, and nothing stays that has expired.

use super::*;
use crate::domain::session::{LINK_LIFE, SESSION_LIFE, hash};

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_come_with_one_link_one_gets_in() {
    let world = World::new().await;
    let (link, _) = world.store.create_portal_link(&world.acme).await.unwrap().unwrap();
    let link = hash(link.reveal());
    let together = (0..8).map(|_| {
        let store = world.store.clone();
        tokio::spawn(async move { store.sign_in(&link, None).await.unwrap() })
    });
    let mut opened = Vec::new();
    for one in together.collect::<Vec<_>>() {
        opened.extend(one.await.unwrap());
    }
    assert_eq!(opened.len(), 1);
    let session = world.store.session(&hash(opened[0].reveal())).await.unwrap();
    assert_eq!(session.unwrap().id, world.acme);
    assert_eq!((world.rows_of("portal_links").await, world.rows_of("sessions").await), (0, 1));
}

#[tokio::test]
async fn what_has_expired_is_deleted_and_the_rest_stays() {
    let world = World::new().await;
    let (first, _) = world.store.create_portal_link(&world.acme).await.unwrap().unwrap();
    let session = world.store.sign_in(&hash(first.reveal()), None).await.unwrap().unwrap();
    world.store.create_portal_link(&world.acme).await.unwrap().unwrap();
    world.store.sweep_sessions(world.clock.now()).await.unwrap();
    assert_eq!((world.rows_of("portal_links").await, world.rows_of("sessions").await), (1, 1));

    world.hand.advance(LINK_LIFE.unsigned_abs());
    world.store.sweep_sessions(world.clock.now()).await.unwrap();
    assert_eq!((world.rows_of("portal_links").await, world.rows_of("sessions").await), (0, 1));
    assert!(world.store.session(&hash(session.reveal())).await.unwrap().is_some());

    world.hand.advance((SESSION_LIFE - LINK_LIFE).unsigned_abs());
    assert!(world.store.session(&hash(session.reveal())).await.unwrap().is_none());
    world.store.sweep_sessions(world.clock.now()).await.unwrap();
    assert_eq!(world.rows_of("sessions").await, 0);
}
