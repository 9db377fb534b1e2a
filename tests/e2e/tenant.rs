//! Tenants: their life, and the walls between them.

use revnoxa_tests::{Host, Receiver};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_created_listed_read_and_deleted() {
    let host = Host::start().await;
    let operator = host.operator();
    let created = operator.post("/v1/tenants", json!({"id": "acme", "name": "Acme Corp."})).await.expect(201);
    assert_eq!((&created["id"], &created["name"]), (&json!("acme"), &json!("Acme Corp.")));
    assert_eq!(created["created_at"], "2026-03-01T12:00:00.000Z");
    assert_eq!(operator.get("/v1/tenants/acme").await.expect(200).json, created.json);
    assert_eq!(operator.all("/v1/tenants").await, [created.json]);
    operator.post("/v1/tenants", json!({"id": "acme"})).await.expect_problem(409, "conflict");
    operator.delete("/v1/tenants/acme").await.expect(204);
    operator.delete("/v1/tenants/acme").await.expect_problem(404, "not-found");
    operator.get("/v1/tenants/acme").await.expect_problem(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn tenant_ids_follow_the_rule() {
    let host = Host::start().await;
    let operator = host.operator();
    let (longest, too_long) = ("a".repeat(63), "a".repeat(64));
    for id in ["", "-a", "Acme", "a_b", "a b", "a/b", "ä", "nul\u{0}", &too_long] {
        let reply = operator.post("/v1/tenants", json!({"id": id})).await.expect_problem(422, "unprocessable");
        assert_eq!(reply.blamed_field(), "id", "{id}");
    }
    for id in ["0", "a-b-", &longest] {
        operator.post("/v1/tenants", json!({"id": id})).await.expect(201);
    }
    assert_eq!(operator.all("/v1/tenants").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_tenant_takes_all_it_owned_along() {
    let host = Host::start().await;
    let receiver = Receiver::answering([500]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let event = endpoint.tenant.event("incident.created", json!({})).await;
    let failed = endpoint.attempted(1, &event).await;
    host.operator().delete("/v1/tenants/acme").await.expect(204);

    endpoint.get("").await.expect_problem(401, "unauthorized");
    let theirs = format!("/v1/tenants/acme/endpoints/{}", endpoint.id);
    host.operator().get(&theirs).await.expect_problem(404, "not-found");
    let post = json!({"tenant": "acme", "type": "incident.created", "data": {}});
    host.producer().await.post("/v1/events", post).await.expect_problem(422, "unprocessable");
    host.advance_to(&failed["next_attempt_at"], 0).await;
    host.claim_round().await;
    assert_eq!(receiver.received().len(), 1, "no retry for a tenant that is gone");

    let reborn = host.tenant("acme").await;
    assert!(reborn.all("/endpoints").await.is_empty(), "the name begins anew");
    reborn.get(&format!("/events/{}/deliveries", event.id)).await.expect_problem(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_reaches_its_own_tenant_only() {
    let host = Host::start().await;
    let (hers, his) = (Receiver::answering([200]).await, Receiver::answering([200]).await);
    let alice = host.tenant("alice").await.endpoint(&hers).await;
    let bob = host.tenant("bob").await.endpoint(&his).await;
    let for_alice = alice.tenant.event("incident.created", json!("for alice")).await;
    let for_bob = bob.tenant.event("incident.created", json!("for bob")).await;
    alice.delivery_in("succeeded", &for_alice).await;
    bob.delivery_in("succeeded", &for_bob).await;
    assert_eq!(hers.received().iter().map(|one| one.json()["data"].clone()).collect::<Vec<_>>(), ["for alice"]);
    assert_eq!(his.received().iter().map(|one| one.json()["data"].clone()).collect::<Vec<_>>(), ["for bob"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_may_do_what_a_tenant_may() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let endpoint = host.tenant("acme").await.endpoint(&receiver).await;
    let as_operator = endpoint.with_token(host.operator().token());
    assert_eq!(as_operator.get("").await.expect(200).json, endpoint.read().await);
    as_operator.post_empty("/rotate-secret").await.expect(200);
    as_operator.post_empty("/disable").await.expect(200);
    as_operator.delete("").await.expect(204);
}
