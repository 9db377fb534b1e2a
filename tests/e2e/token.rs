//! API tokens: what each may do, and that they can be taken away.

use revnoxa_tests::{Client, Host, Machine, Receiver};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_shown_once_and_listed_without_itself() {
    let host = Host::start().await;
    let operator = host.operator();
    let made = operator.post("/v1/tokens", json!({"scope": "producer"})).await.expect(201);
    let (id, token) = (made.text_of("id"), made.text_of("token"));
    assert!(id.starts_with("tok_"), "{id}");
    let random = token.strip_prefix("rvx_producer_").expect("a readable prefix");
    assert_eq!(random.len(), 43, "base64url of 32 bytes");

    let listed = operator.get("/v1/tokens").await.expect(200);
    assert!(!listed.text.contains(random));
    let mine = listed["items"].as_array().unwrap().iter().find(|known| known["id"] == id).expect("it is listed");
    assert_eq!(mine["scope"], "producer");
    assert!(mine["created_at"].is_string(), "{mine}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_worthless_at_once_and_for_ever() {
    let mut host = Host::start().await;
    let acme = host.tenant("acme").await;
    let operator = host.operator();
    let tokens = operator.all("/v1/tenants/acme/tokens").await;
    let id = tokens[0]["id"].as_str().unwrap();
    assert_eq!(tokens[0]["scope"], "tenant");
    acme.get("/endpoints").await.expect(200);
    operator.delete(&format!("/v1/tenants/acme/tokens/{id}")).await.expect(204);
    let refused = acme.get("/endpoints").await.expect_problem(401, "unauthorized");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    operator.delete(&format!("/v1/tenants/acme/tokens/{id}")).await.expect_problem(404, "not-found");
    host.restart().await;
    acme.get("/endpoints").await.expect_problem(401, "unauthorized");

    let producer = operator.post("/v1/tokens", json!({"scope": "producer"})).await.expect(201);
    let post = json!({"tenant": "acme", "type": "incident.created", "data": {}});
    let client = host.anyone().with_token(producer.text_of("token"));
    client.post("/v1/events", post.clone()).await.expect(202);
    operator.delete(&format!("/v1/tokens/{}", producer.text_of("id"))).await.expect(204);
    client.post("/v1/events", post).await.expect_problem(401, "unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_scope_may_do_its_own_and_no_more() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let callers = [host.operator(), host.producer().await, host.anyone().with_token(acme.token())];
    let event = json!({"tenant": "acme", "type": "incident.created", "data": {}});
    // Method, path, body, and the status for operator, producer, tenant.
    let rights: [(&str, &str, Value, [u16; 3]); 16] = [
        ("POST", "/v1/events", event.clone(), [202, 202, 403]),
        ("POST", "/v1/events/batch", json!({"events": [event]}), [202, 202, 403]),
        ("GET", "/v1/tenants", Value::Null, [200, 403, 403]),
        ("POST", "/v1/tenants", json!({"id": "new"}), [201, 403, 403]),
        ("GET", "/v1/tenants/acme", Value::Null, [200, 403, 403]),
        ("DELETE", "/v1/tenants/new", Value::Null, [204, 403, 403]),
        ("GET", "/v1/tokens", Value::Null, [200, 403, 403]),
        ("POST", "/v1/tokens", json!({"scope": "producer"}), [201, 403, 403]),
        ("DELETE", "/v1/tokens/tok_00000000000000000000000000000001", Value::Null, [404, 403, 403]),
        ("GET", "/v1/tenants/acme/tokens", Value::Null, [200, 403, 403]),
        ("POST", "/v1/tenants/acme/tokens", json!({}), [201, 403, 403]),
        ("GET", "/v1/event-types", Value::Null, [200, 200, 200]),
        ("POST", "/v1/event-types", json!({"name": "a.b"}), [201, 403, 403]),
        ("DELETE", "/v1/event-types/a.b", Value::Null, [204, 403, 403]),
        ("GET", "/v1/tenants/acme/endpoints", Value::Null, [200, 403, 200]),
        ("GET", "/v1/tenants/acme/events/evt_none/deliveries", Value::Null, [404, 403, 404]),
    ];
    for (method, path, body, statuses) in rights {
        for (caller, status) in callers.iter().zip(statuses) {
            let reply = call(caller, method, path, &body).await.expect(status);
            if status == 403 {
                reply.expect_problem(403, "forbidden");
            }
        }
        for nobody in [host.anyone(), host.anyone().with_token("rvx_operator_guessed_guessed_guessed_guessed")] {
            let reply = call(&nobody, method, path, &body).await.expect_problem(401, "unauthorized");
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        }
    }
}

async fn call(caller: &Client, method: &str, path: &str, body: &Value) -> revnoxa_tests::Reply {
    let request = caller.request(method, path);
    if body.is_null() { request.send().await } else { request.json(body).send().await }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_operator_token_is_an_operator() {
    let host = Host::start().await;
    let made = host.operator().post("/v1/tokens", json!({"scope": "operator"})).await.expect(201);
    assert!(made.text_of("token").starts_with("rvx_operator_"));
    host.anyone().with_token(made.text_of("token")).get("/v1/tenants").await.expect(200);
    for refused in [json!({"scope": "tenant"}), json!({"scope": "admin"}), json!({})] {
        let reply = host.operator().post("/v1/tokens", refused).await;
        assert!([400, 422].contains(&reply.status), "{}", reply.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_forms_of_authorization_are_refused() {
    let host = Host::start().await;
    let token = host.operator().token().to_owned();
    for value in
        [format!("Basic {token}"), token.clone(), "Bearer".into(), "Bearer ".into(), format!("Bearer {token} ")]
    {
        let reply = host.anyone().request("GET", "/v1/tenants").header("Authorization", &value).send().await;
        if value.trim_end() != value && value.len() > 10 {
            continue; // White space at the end of a header's value does not belong to it (RFC 9110 §5.5).
        }
        reply.expect_problem(401, "unauthorized");
    }
    let lower = host.anyone().request("GET", "/v1/tenants").header("Authorization", &format!("bearer {token}"));
    lower.send().await.expect(200);
    let in_query = format!("/v1/tenants?token={token}");
    host.anyone().get(&in_query).await.expect_problem(401, "unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_setting_s_operator_token_counts_while_it_is_set() {
    let machine = Machine::new();
    let host = machine.serve().await;
    machine.operator().get("/v1/tenants").await.expect(200);
    let receiver = Receiver::answering([200]).await;
    let acme = machine.tenant("acme").await;
    acme.endpoint(&receiver).await;
    host.kill9().await;

    let machine = machine.unset("REVNOXA_OPERATOR_TOKEN");
    let _host = machine.serve().await;
    machine.operator().get("/v1/tenants").await.expect_problem(401, "unauthorized");
    acme.get("/endpoints").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn token_create_on_the_command_line_makes_a_working_token() {
    let machine = Machine::new().unset("REVNOXA_OPERATOR_TOKEN");
    let made = machine.run(&["token", "create", "--scope", "operator"]).await;
    assert!(made.status.success(), "{made:?}");
    let printed = String::from_utf8(made.stdout).unwrap();
    let token = printed.split_whitespace().find(|word| word.starts_with("rvx_operator_")).expect("a token");
    let _host = machine.serve().await;
    let operator = machine.anyone().with_token(token);
    operator.get("/v1/tenants").await.expect(200);

    // Beside a running host as well, for each scope.
    operator.post("/v1/tenants", json!({"id": "acme"})).await.expect(201);
    let made = machine.run(&["token", "create", "--scope", "tenant", "--tenant", "acme"]).await;
    let token = String::from_utf8(made.stdout).unwrap();
    machine.anyone().with_token(token.trim()).get("/v1/tenants/acme/endpoints").await.expect(200);
    let nobody = machine.run(&["token", "create", "--scope", "tenant", "--tenant", "nobody"]).await;
    assert!(!nobody.status.success());
}
