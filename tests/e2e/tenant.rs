//! Tenants: their life, and the walls between them.

use revnoxa_tests::{Host, Receiver, Reply};
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
async fn not_yours_and_not_there_read_the_same() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let (acme, mallory) = (host.tenant("acme").await, host.tenant("mallory").await);
    let theirs = acme.endpoint(&receiver).await;
    let event = acme.event("incident.created", json!({})).await;
    let delivery = theirs.delivery_in("succeeded", &event).await["id"].as_str().unwrap().to_owned();
    let (endpoint, nowhere) = (theirs.id.clone(), format!("ep_{:032x}", 1));
    let no_delivery = format!("dlv_{:032x}", 1);

    // (method, their path, a path to nothing): each asked by mallory below her own tenant and below acme's.
    let pairs = [
        ("GET", format!("/endpoints/{endpoint}"), format!("/endpoints/{nowhere}")),
        ("PATCH", format!("/endpoints/{endpoint}"), format!("/endpoints/{nowhere}")),
        ("DELETE", format!("/endpoints/{endpoint}"), format!("/endpoints/{nowhere}")),
        ("POST", format!("/endpoints/{endpoint}/test"), format!("/endpoints/{nowhere}/test")),
        ("POST", format!("/endpoints/{endpoint}/rotate-secret"), format!("/endpoints/{nowhere}/rotate-secret")),
        ("POST", format!("/endpoints/{endpoint}/enable"), format!("/endpoints/{nowhere}/enable")),
        ("POST", format!("/endpoints/{endpoint}/disable"), format!("/endpoints/{nowhere}/disable")),
        ("POST", format!("/endpoints/{endpoint}/recover"), format!("/endpoints/{nowhere}/recover")),
        ("GET", format!("/endpoints/{endpoint}/deliveries"), format!("/endpoints/{nowhere}/deliveries")),
        ("GET", format!("/events/{}/deliveries", event.id), "/events/evt_none/deliveries".into()),
        ("GET", format!("/deliveries/{delivery}"), format!("/deliveries/{no_delivery}")),
        ("POST", format!("/deliveries/{delivery}/retry"), format!("/deliveries/{no_delivery}/retry")),
    ];
    let ask = async |method: &str, path: &str| -> Reply {
        let request = mallory.with_token(mallory.token()).request(method, path);
        match (method, path) {
            (_, path) if path.ends_with("/recover") => request.json(&json!({"since": "2026-03-01T00:00:00Z"})),
            ("PATCH", _) => request.json(&json!({"description": "mine now"})),
            _ => request,
        }
        .send()
        .await
    };
    for (method, not_hers, not_there) in &pairs {
        let not_hers = ask(method, not_hers).await.expect_problem(404, "not-found");
        let not_there = ask(method, not_there).await.expect_problem(404, "not-found");
        assert_eq!(not_hers.text, not_there.text, "{}", not_hers.call);
    }
    let as_mallory = host.anyone().with_token(mallory.token());
    for (method, path, _) in &pairs {
        let mut bodies = Vec::new();
        for tenant in ["acme", "nobody"] {
            let at = as_mallory.below(&format!("/v1/tenants/{tenant}"));
            let request = at.request(method, path);
            let request = match *method {
                "PATCH" => request.json(&json!({"description": "mine now"})),
                "POST" if path.ends_with("/recover") => request.json(&json!({"since": "2026-03-01T00:00:00Z"})),
                _ => request,
            };
            bodies.push(request.send().await.expect_problem(404, "not-found").text);
        }
        assert_eq!(bodies[0], bodies[1], "{method} {path}");
    }
    for path in ["/endpoints", "/endpoints?limit=1"] {
        as_mallory.get(&format!("/v1/tenants/acme{path}")).await.expect_problem(404, "not-found");
    }
    let create = json!({"url": receiver.url()});
    as_mallory.post("/v1/tenants/acme/endpoints", create).await.expect_problem(404, "not-found");

    assert_eq!(theirs.read().await["description"], "", "nothing came of it");
    assert_eq!(theirs.state().await, "active");
    assert!(mallory.all("/endpoints").await.is_empty());
    assert_eq!((receiver.received().len(), receiver.tests().len()), (1, 1));
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
