//! Every operation of the OpenAPI document × who must not have it × whose ids: all are refused, and what is another's looks like
//! what is nowhere. The settings pages likewise, in [`pages`].

mod pages;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use revnoxa_tests::{Client, Host, Receiver, Reply, Tenant};
use serde_json::{Value, json};

use crate::plugin_flow::{component, plugin};

use Who::{AnyToken, Anyone, Operator, Owner, Producer};

/// Whom an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Anyone,
    AnyToken,
    Producer,
    Operator,
    /// The tenant of the path.
    Owner,
}

/// Stands for a body that is a plugin's component.
const COMPONENT: &str = "component";

/// Each operation with whom it is for, a body, and what they are answered about their own things, in an order in which all succeed.
const OPERATIONS: &[(&str, Who, &str, u16)] = &[
    ("GET /livez", Anyone, "", 200),
    ("GET /readyz", Anyone, "", 200),
    ("GET /metrics", Anyone, "", 200),
    ("GET /v1/tenants", Operator, "", 200),
    ("POST /v1/tenants", Operator, r#"{"id":"maude"}"#, 201),
    ("GET /v1/tenants/{tenant}", Operator, "", 200),
    ("GET /v1/tenants/{tenant}/tokens", Operator, "", 200),
    ("POST /v1/tenants/{tenant}/tokens", Operator, "{}", 201),
    ("POST /v1/tenants/{tenant}/portal-links", Operator, "{}", 201),
    ("GET /v1/tokens", Operator, "", 200),
    ("POST /v1/tokens", Operator, r#"{"scope":"operator"}"#, 201),
    ("DELETE /v1/tokens/{token}", Operator, "", 204),
    ("GET /v1/event-types", AnyToken, "", 200),
    ("POST /v1/event-types", Operator, r#"{"name":"matrix.type"}"#, 201),
    ("DELETE /v1/event-types/{type}", Operator, "", 204),
    ("POST /v1/events", Producer, r#"{"tenant":"{tenant}","type":"incident.created","data":{}}"#, 202),
    (
        "POST /v1/events/batch",
        Producer,
        r#"{"events":[{"tenant":"{tenant}","type":"incident.created","data":{}}]}"#,
        202,
    ),
    ("GET /v1/tenants/{tenant}/endpoints", Owner, "", 200),
    ("POST /v1/tenants/{tenant}/endpoints", Owner, r#"{"url":"{url}"}"#, 201),
    ("GET /v1/tenants/{tenant}/endpoints/{endpoint}", Owner, "", 200),
    ("PATCH /v1/tenants/{tenant}/endpoints/{endpoint}", Owner, r#"{"description":"mine now"}"#, 200),
    ("POST /v1/tenants/{tenant}/endpoints/{endpoint}/test", Owner, "", 200),
    ("POST /v1/tenants/{tenant}/endpoints/{endpoint}/rotate-secret", Owner, "{}", 200),
    ("POST /v1/tenants/{tenant}/endpoints/{endpoint}/disable", Owner, "", 200),
    ("POST /v1/tenants/{tenant}/endpoints/{endpoint}/enable", Owner, r#"{"held":"drop"}"#, 200),
    ("POST /v1/tenants/{tenant}/endpoints/{endpoint}/recover", Owner, r#"{"since":"2026-01-01T00:00:00Z"}"#, 202),
    ("GET /v1/tenants/{tenant}/endpoints/{endpoint}/deliveries", Owner, "", 200),
    ("GET /v1/tenants/{tenant}/events/{event}/deliveries", Owner, "", 200),
    ("GET /v1/tenants/{tenant}/deliveries/{delivery}", Owner, "", 200),
    ("POST /v1/tenants/{tenant}/deliveries/{delivery}/retry", Owner, "", 202),
    ("GET /v1/tenants/{tenant}/plugins", Owner, "", 200),
    ("POST /v1/tenants/{tenant}/plugins", Owner, r#"{"name":"matrix"}"#, 201),
    ("GET /v1/tenants/{tenant}/plugins/{plugin}", Owner, "", 200),
    ("GET /v1/tenants/{tenant}/plugins/{plugin}/versions", Owner, "", 200),
    ("POST /v1/tenants/{tenant}/plugins/{plugin}/versions", Owner, COMPONENT, 201),
    ("GET /v1/tenants/{tenant}/plugins/{plugin}/versions/{digest}", Owner, "", 200),
    ("POST /v1/tenants/{tenant}/plugins/{plugin}/versions/{digest}/dry-run", Owner, r#"{"event_id":"{event}"}"#, 200),
    ("POST /v1/tenants/{tenant}/plugins/{plugin}/versions/{digest}/replay", Owner, r#"{"endpoint":"{endpoint}"}"#, 200),
    ("GET /v1/tenants/{tenant}/endpoints/{endpoint}/plugins", Owner, "", 200),
    (
        "PUT /v1/tenants/{tenant}/endpoints/{endpoint}/plugins",
        Owner,
        r#"{"items":[{"plugin":"{plugin}","version":"{digest}"}]}"#,
        200,
    ),
    ("DELETE /v1/tenants/{tenant}/endpoints/{endpoint}", Owner, "", 204),
    ("DELETE /v1/tenants/{tenant}/plugins/{plugin}/versions/{digest}", Owner, "", 204),
    ("DELETE /v1/tenants/{tenant}/plugins/{plugin}", Owner, "", 204),
    ("DELETE /v1/tenants/{tenant}/tokens/{token}", Operator, "", 204),
    ("DELETE /v1/tenants/{tenant}", Operator, "", 204),
];

/// What a path item has besides its methods.
const NO_METHODS: [&str; 4] = ["parameters", "summary", "description", "servers"];

/// Headers whose values tell of the moment or of the request's number; that they are there must not differ.
const VARYING: [&str; 5] = ["date", "x-request-id", "ratelimit", "ratelimit-policy", "retry-after"];

/// An id that is none.
const NO_ID: &str = "nonesuch";

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_is_refused_to_whom_it_is_not_for() {
    let mut world = World::new().await;
    world.assert_all_known().await;
    let operations: Vec<Operation> = OPERATIONS.iter().map(Operation::of).collect();
    let before = world.everything().await;
    for operation in operations.iter().filter(|operation| operation.who != Anyone) {
        world.is_refused_to_strangers(operation).await;
        world.tells_nothing_of_others(operation).await;
    }
    assert_eq!(world.everything().await, before, "something came of what was refused");
    // Bobby's: to Alice's plugin it is new.
    world.component = component("only-matching");
    for operation in &operations {
        let caller = match operation.who {
            Anyone => world.host.anyone(),
            AnyToken | Owner => world.bearer(&world.alice),
            Producer => world.host.producer().await,
            Operator => world.host.operator(),
        };
        world.ask(&caller, operation, &world.own).await.expect(operation.granted);
    }
    println!("tenancy: {} operations, {} requests", operations.len(), world.asked.get());
}

/// How an operation is called.
struct Operation {
    method: &'static str,
    /// With `{names}` of ids, as is the body.
    path: String,
    who: Who,
    body: &'static str,
    /// The answer to those whom it is for.
    granted: u16,
}

impl Operation {
    fn of(&(name, who, body, granted): &(&'static str, Who, &'static str, u16)) -> Self {
        let (method, path) = name.split_once(' ').unwrap();
        // The one place where `{token}` is no tenant's.
        let path = path.replace("/v1/tokens/{token}", "/v1/tokens/{service_token}");
        Self { method, path, who, body, granted }
    }

    /// Names of ids that it takes besides the tenant's, those of the path first, and how many those are.
    fn names(&self) -> (Vec<&'static str>, usize) {
        let mut names = names_in(&self.path);
        let in_path = names.len();
        names.extend(names_in(self.body));
        (names, in_path)
    }
}

/// Ids by the name that they have in paths and bodies.
type Ids = BTreeMap<&'static str, String>;

/// What there are ids of, besides tenants.
const NAMES: [&str; 8] = ["endpoint", "event", "delivery", "token", "service_token", "type", "plugin", "digest"];

fn names_in(template: &str) -> Vec<&'static str> {
    NAMES.into_iter().filter(|name| template.contains(&place(name))).collect()
}

fn place(name: &str) -> String {
    format!("{{{name}}}")
}

fn filled(template: &str, ids: &Ids) -> String {
    ids.iter().fold(template.to_owned(), |text, (name, id)| text.replace(&place(name), id))
}

/// `ids` with these of `others`.
fn swapped(ids: &Ids, names: &[&'static str], others: &Ids) -> Ids {
    let mut ids = ids.clone();
    ids.extend(names.iter().map(|name| (*name, others[name].clone())));
    ids
}

/// Each of the names alone, and all together.
fn choices(names: &[&'static str]) -> Vec<Vec<&'static str>> {
    let mut choices: Vec<Vec<_>> = names.iter().map(|name| vec![*name]).collect();
    if names.len() > 1 {
        choices.push(names.to_vec());
    }
    choices
}

/// All that a caller sees of an answer, but for what echoes their own ids.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    status: u16,
    headers: BTreeSet<(String, String)>,
    body: String,
}

impl Seen {
    /// `asked` is what the request was made of, before `ids` were filled in.
    fn of(reply: &Reply, asked: &[&str], ids: &Ids) -> Self {
        let is_asked = |name: &str| asked.iter().any(|template| template.contains(&place(name)));
        let given: Vec<(&str, &str)> =
            ids.iter().map(|(name, id)| (*name, id.as_str())).filter(|(name, _)| is_asked(name)).collect();
        let blank = |text: &str| given.iter().fold(text.to_owned(), |text, (name, id)| text.replace(id, name));
        let header = |name: &str, value: &[u8]| {
            let value = if VARYING.contains(&name) { String::new() } else { blank(&String::from_utf8_lossy(value)) };
            (name.to_owned(), value)
        };
        Self {
            status: reply.status,
            headers: reply.headers.iter().map(|(name, value)| header(name.as_str(), value.as_bytes())).collect(),
            body: blank(&reply.text),
        }
    }
}

/// Two tenants that know each other's ids. Alice's are the own ones here.
struct World {
    host: Host,
    receiver: Receiver,
    alice: Tenant,
    bobby: Tenant,
    own: Ids,
    foreign: Ids,
    /// As long as the others, and nobody's.
    absent: Ids,
    /// What is uploaded. A small one as long as it is refused: what is left unread of a large body ends the connection.
    component: Vec<u8>,
    /// With tokens that were good once, by their scope.
    revoked: BTreeMap<&'static str, Client>,
    asked: Cell<usize>,
}

impl World {
    async fn new() -> Self {
        let host = Host::start().await;
        let receiver = Receiver::answering([200]).await;
        let (alice, bobby) = (host.tenant("alice").await, host.tenant("bobby").await);
        let own = things(&host, &receiver, &alice, "redact-fields").await;
        let mut foreign = things(&host, &receiver, &bobby, "only-matching").await;
        let digits = |letter: &str, length| letter.repeat(length);
        let absent = Ids::from([
            ("tenant", "carol".to_owned()),
            ("endpoint", format!("ep_{}", digits("a", 32))),
            ("event", format!("evt_{}", digits("b", 32))),
            ("delivery", format!("dlv_{}", digits("c", 32))),
            ("token", format!("tok_{}", digits("d", 32))),
            ("service_token", format!("tok_{}", digits("e", 32))),
            ("type", "carol.type".to_owned()),
            ("plugin", "carol-plugin".to_owned()),
            ("digest", format!("sha256:{}", digits("f", 64))),
            ("url", receiver.url()),
        ]);
        // Types are everybody's; what is not an operator's or producer's token is a tenant's.
        foreign.insert("type", absent["type"].clone());
        foreign.insert("service_token", foreign["token"].clone());
        let mut revoked = BTreeMap::new();
        for (scope, path, body) in [
            ("operator", "/v1/tokens", json!({"scope": "operator"})),
            ("producer", "/v1/tokens", json!({"scope": "producer"})),
            ("tenant", "/v1/tenants/alice/tokens", json!({})),
        ] {
            let made = host.operator().post(path, body).await.expect(201);
            let bearer = host.anyone().with_token(made.text_of("token"));
            bearer.get("/v1/event-types").await.expect(200);
            host.operator().delete(&format!("{path}/{}", made.text_of("id"))).await.expect(204);
            revoked.insert(scope, bearer);
        }
        let (component, asked) = (b"\0asm\x0d\0\x01\0".to_vec(), Cell::new(0));
        Self { host, receiver, alice, bobby, own, foreign, absent, component, revoked, asked }
    }

    /// Fails for an operation of the document that is not in the table, and for one in the table that is not in the document.
    async fn assert_all_known(&self) {
        let document = self.host.anyone().get("/openapi.json").await.expect(200);
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                if NO_METHODS.contains(&method.as_str()) {
                    continue;
                }
                let name = format!("{} {path}", method.to_uppercase());
                let Some((_, who, ..)) = OPERATIONS.iter().find(|(known, ..)| *known == name) else {
                    panic!("OPERATIONS does not tell how to call {name} and whom it is for");
                };
                assert_eq!(
                    operation["security"] == json!([{}]),
                    *who == Anyone,
                    "{name} by the document and by the table"
                );
                described.insert(name);
            }
        }
        let known: BTreeSet<String> = OPERATIONS.iter().map(|(name, ..)| (*name).to_owned()).collect();
        assert_eq!(known, described, "the table and the document");
    }

    /// Whoever has no token, one that was revoked, one of another scope, or another tenant's, is told so and nothing else, whosever ids
    /// are in the request.
    async fn is_refused_to_strangers(&self, operation: &Operation) {
        let (alice, bobby, producer) = (self.bearer(&self.alice), self.bearer(&self.bobby), self.host.producer().await);
        let (right, wrong) = match operation.who {
            Anyone | AnyToken => ("tenant", vec![]),
            Producer => ("producer", vec![alice, bobby.clone()]),
            Operator => ("operator", vec![producer, alice, bobby.clone()]),
            Owner => ("tenant", vec![producer]),
        };
        let everybody = [&self.own, &self.foreign, &self.absent];
        for nobody in [&self.host.anyone(), &self.revoked[right]] {
            self.is_refused(nobody, operation, &everybody, 401, "unauthorized").await;
        }
        for caller in &wrong {
            self.is_refused(caller, operation, &everybody, 403, "forbidden").await;
        }
        if operation.who == Owner {
            self.is_refused(&bobby, operation, &[&self.own, &self.absent], 404, "not-found").await;
        }
    }

    /// Below each of these tenants, whosever the other ids are.
    async fn is_refused(&self, caller: &Client, operation: &Operation, tenants: &[&Ids], status: u16, slug: &str) {
        let mut requests = BTreeSet::new();
        let mut first = None;
        for tenant in tenants {
            for ids in [&self.own, &self.foreign, &self.absent] {
                let ids = swapped(ids, &["tenant"], tenant);
                if !requests.insert((filled(&operation.path, &ids), filled(operation.body, &ids))) {
                    continue;
                }
                let refused = self.ask(caller, operation, &ids).await.expect_problem(status, slug);
                let seen = Seen::of(&refused, &[&operation.path, operation.body], &ids);
                assert_eq!(seen, *first.get_or_insert_with(|| seen.clone()), "{}", refused.call);
            }
        }
    }

    /// Whom it is for sees no difference between ids of another tenant's things and ids of none.
    async fn tells_nothing_of_others(&self, operation: &Operation) {
        let callers = match operation.who {
            Anyone | AnyToken | Producer => vec![],
            Operator => vec![self.host.operator()],
            Owner => vec![self.bearer(&self.alice), self.host.operator()],
        };
        let (names, in_path) = operation.names();
        let asked = [operation.path.as_str(), operation.body];
        for caller in &callers {
            for chosen in choices(&names) {
                let ask = async |others: &Ids| {
                    let ids = swapped(&self.own, &chosen, others);
                    let reply = self.ask(caller, operation, &ids).await;
                    (Seen::of(&reply, &asked, &ids), reply)
                };
                let (foreign, reply) = ask(&self.foreign).await;
                let (absent, _) = ask(&self.absent).await;
                assert_eq!(foreign, absent, "{} with another's {chosen:?}", reply.call);
                match &chosen[..] {
                    [name] if names[..in_path].contains(name) => {
                        reply.expect_problem(404, "not-found");
                        let (none, reply) = ask(&Ids::from([(*name, NO_ID.to_owned())])).await;
                        assert_eq!(none, absent, "{}", reply.call);
                    }
                    [_] => {
                        reply.expect_problem(422, "unprocessable");
                    }
                    _ => assert!([404, 422].contains(&reply.status), "{} answered {}", reply.call, reply.status),
                }
            }
        }
        if operation.path.contains("{tenant}") {
            let nowhere = swapped(&self.own, &["tenant"], &self.absent);
            self.ask(&self.host.operator(), operation, &nowhere).await.expect_problem(404, "not-found");
        }
    }

    async fn ask(&self, caller: &Client, operation: &Operation, ids: &Ids) -> Reply {
        self.asked.set(self.asked.get() + 1);
        let request = caller.request(operation.method, &filled(&operation.path, ids));
        match operation.body {
            "" => request,
            COMPONENT => request.body_of(Some("application/wasm"), self.component.clone()),
            body => request.body(filled(body, ids)),
        }
        .send()
        .await
    }

    /// The tenant's token, at paths of anybody.
    fn bearer(&self, tenant: &Tenant) -> Client {
        self.host.anyone().with_token(tenant.token())
    }

    /// What both tenants have, and what their receiver got.
    async fn everything(&self) -> Value {
        let operator = self.host.operator();
        let mut everything = json!({"events": self.receiver.received().len(), "tests": self.receiver.tests().len()});
        for list in ["/v1/tenants", "/v1/tokens", "/v1/event-types"] {
            everything[list] = operator.all(list).await.into();
        }
        for ids in [&self.own, &self.foreign] {
            for list in [
                "/endpoints",
                "/tokens",
                "/plugins",
                "/plugins/{plugin}/versions",
                "/endpoints/{endpoint}/plugins",
                "/endpoints/{endpoint}/deliveries",
            ] {
                let list = filled(&format!("/v1/tenants/{{tenant}}{list}"), ids);
                everything[&list] = operator.all(&list).await.into();
            }
            let delivery = filled("/v1/tenants/{tenant}/deliveries/{delivery}", ids);
            everything[&delivery] = operator.get(&delivery).await.expect(200).json;
        }
        everything
    }
}

/// One of each thing that a tenant can have.
async fn things(host: &Host, receiver: &Receiver, tenant: &Tenant, component: &str) -> Ids {
    let endpoint = tenant.endpoint(receiver).await;
    let event = tenant.event("incident.created", json!({"of": tenant.id})).await;
    let delivery = endpoint.delivery_in("succeeded", &event).await["id"].as_str().unwrap().to_owned();
    let name = format!("{}-plugin", tenant.id);
    let digest = plugin(tenant, &name, &[component]).await.remove(0);
    let event_type = format!("{}.type", tenant.id);
    let operator = host.operator();
    operator.post("/v1/event-types", json!({"name": event_type})).await.expect(201);
    let token = operator.post(&format!("/v1/tenants/{}/tokens", tenant.id), json!({})).await.expect(201);
    let service_token = operator.post("/v1/tokens", json!({"scope": "producer"})).await.expect(201);
    Ids::from([
        ("tenant", tenant.id.clone()),
        ("endpoint", endpoint.id.clone()),
        ("event", event.id),
        ("delivery", delivery),
        ("token", token.text_of("id").to_owned()),
        ("service_token", service_token.text_of("id").to_owned()),
        ("type", event_type),
        ("plugin", name),
        ("digest", digest),
        ("url", receiver.url()),
    ])
}
