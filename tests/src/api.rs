use std::ops::Deref;

use serde_json::{Value, json};
use tokio::sync::OnceCell;
use url::{Position, Url};

use crate::{
    client::{Client, Server},
    page::Reader,
    receiver::Receiver,
    wait::eventually,
};

/// The host's API from the outside: who may call it, and what callers mostly want.
pub struct Api {
    pub(crate) server: Server,
    operator_token: String,
    producer_token: OnceCell<String>,
}

impl Api {
    pub(crate) fn new(server: Server, operator_token: &str) -> Self {
        Self { server, operator_token: operator_token.into(), producer_token: OnceCell::new() }
    }

    /// Where the host listens now, as `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Calls without a token.
    pub fn anyone(&self) -> Client {
        Client::new(self.server.clone(), None)
    }

    /// Calls with the operator's token.
    pub fn operator(&self) -> Client {
        Client::new(self.server.clone(), Some(&self.operator_token))
    }

    /// Calls with a producer's token, made at the first use.
    pub async fn producer(&self) -> Client {
        let token = self
            .producer_token
            .get_or_init(|| async {
                let made = self.operator().post("/v1/tokens", json!({"scope": "producer"})).await;
                made.expect(201).text_of("token").to_owned()
            })
            .await;
        Client::new(self.server.clone(), Some(token))
    }

    /// A browser without script, signed in nowhere.
    pub fn reader(&self) -> Reader {
        Reader::new(self.server.clone())
    }

    /// Makes a tenant and a token of its own.
    pub async fn tenant(&self, id: &str) -> Tenant {
        self.operator().post("/v1/tenants", json!({"id": id})).await.expect(201);
        self.known_tenant(id).await
    }

    /// A token of its own for a tenant that is there.
    pub async fn known_tenant(&self, id: &str) -> Tenant {
        let operator = self.operator();
        let token = operator.post(&format!("/v1/tenants/{id}/tokens"), json!({})).await.expect(201);
        let client = Client::new(self.server.clone(), Some(token.text_of("token")));
        let client = client.below(&format!("/v1/tenants/{id}"));
        Tenant { id: id.into(), client, producer: self.producer().await, operator, server: self.server.clone() }
    }
}

/// A customer. Dereferences to a client at `/v1/tenants/{id}` with the tenant's token.
#[derive(Clone)]
pub struct Tenant {
    /// Its id, as the operator chose it.
    pub id: String,
    client: Client,
    producer: Client,
    operator: Client,
    server: Server,
}

impl Tenant {
    /// Has the core post an event for this tenant.
    pub async fn event(&self, event_type: &str, data: Value) -> Event {
        let event = json!({"tenant": self.id, "type": event_type, "data": data});
        let accepted = self.producer.post("/v1/events", event).await.expect(202);
        Event { id: accepted.text_of("id").to_owned(), deliveries: accepted["deliveries"].as_u64().expect("a count") }
    }

    /// Has the core post an event whose data is exactly `raw`.
    pub async fn event_raw(&self, raw: &str) -> Event {
        let body = format!(r#"{{"tenant":"{}","type":"incident.created","data":{raw}}}"#, self.id);
        let accepted = self.producer.request("POST", "/v1/events").body(body).send().await.expect(202);
        Event { id: accepted.text_of("id").to_owned(), deliveries: accepted["deliveries"].as_u64().expect("a count") }
    }

    /// A link that signs one browser in, once, as the core product asks for when a user goes to the settings.
    pub async fn portal_link(&self) -> String {
        let made = self.operator.post(&format!("/v1/tenants/{}/portal-links", self.id), json!({})).await;
        made.expect(201).text_of("url").to_owned()
    }

    /// A browser without script that is signed in.
    pub async fn sign_in(&self) -> Reader {
        let reader = Reader::new(self.server.clone());
        let link: Url = self.portal_link().await.parse().expect("a link is a URL");
        // The host is reached where it listens, whatever it is called outside.
        reader.get(&link[Position::BeforePath..]).await.expect(200);
        reader
    }

    /// Makes an endpoint at the receiver, for all event types.
    pub async fn endpoint(&self, receiver: &Receiver) -> Endpoint {
        self.endpoint_with(json!({"url": receiver.url()})).await
    }

    /// Makes the endpoint that `body` describes.
    pub async fn endpoint_with(&self, body: Value) -> Endpoint {
        let created = self.post("/endpoints", body).await.expect(201);
        let id = created.text_of("id").to_owned();
        Endpoint {
            secret: created.text_of("secret").to_owned(),
            client: self.below(&format!("/endpoints/{id}")),
            created: created.json,
            tenant: self.clone(),
            id,
        }
    }
}

impl Deref for Tenant {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// An event as the core knows it after the 202.
#[derive(Debug, Clone)]
pub struct Event {
    /// `evt_…`
    pub id: String,
    /// How many deliveries it became.
    pub deliveries: u64,
}

/// A tenant's endpoint. Dereferences to a client at `/v1/tenants/{tenant}/endpoints/{id}`.
#[derive(Clone)]
pub struct Endpoint {
    /// `ep_…`
    pub id: String,
    /// The secret shown at creation.
    pub secret: String,
    /// The whole answer to the creation.
    pub created: Value,
    /// Its owner.
    pub tenant: Tenant,
    client: Client,
}

impl Endpoint {
    /// The endpoint as it reads now.
    pub async fn read(&self) -> Value {
        self.get("").await.expect(200).json
    }

    /// Its state as it reads now.
    pub async fn state(&self) -> String {
        self.read().await["state"].as_str().unwrap().to_owned()
    }

    /// Waits until it is in this state.
    pub async fn comes_to(&self, state: &str) -> Value {
        eventually(&format!("endpoint {} to become {state}", self.id), async || {
            let endpoint = self.read().await;
            (endpoint["state"] == state).then_some(endpoint)
        })
        .await
    }

    /// Its deliveries, newest first; `query` is empty or starts with `?`.
    pub async fn deliveries(&self, query: &str) -> Vec<Value> {
        self.all(&format!("/deliveries{query}")).await
    }

    /// The delivery of this event here, with its history.
    pub async fn delivery(&self, event: &Event) -> Value {
        let path = format!("/events/{}/deliveries", event.id);
        let all = self.tenant.all(&path).await;
        let mut here = all.iter().filter(|one| one["endpoint_id"] == self.id);
        let id = here.next().expect("the event has a delivery here")["id"].as_str().unwrap();
        assert!(here.next().is_none(), "two deliveries of one event at one endpoint");
        let delivery = self.tenant.get(&format!("/deliveries/{id}")).await;
        delivery.expect(200).json
    }

    /// Waits until the delivery of this event is in this state.
    pub async fn delivery_in(&self, state: &str, event: &Event) -> Value {
        let mut last = Value::Null;
        eventually(&format!("the delivery of {} to be {state}", event.id), async || {
            last = self.delivery(event).await;
            (last["state"] == state).then(|| last.clone())
        })
        .await
    }

    /// Waits until this many attempts of the event's delivery are in the history.
    pub async fn attempted(&self, times: usize, event: &Event) -> Value {
        eventually(&format!("{times} attempts of {}", event.id), async || {
            let delivery = self.delivery(event).await;
            let recorded = delivery["history"].as_array().expect("a history").len();
            assert!(recorded <= times, "more than {times} attempts: {delivery:#}");
            (recorded == times).then_some(delivery)
        })
        .await
    }

    /// Asks for another go at the event's delivery.
    pub async fn retry(&self, event: &Event) -> crate::Reply {
        let delivery = self.delivery(event).await;
        let id = delivery["id"].as_str().unwrap();
        self.tenant.post_empty(&format!("/deliveries/{id}/retry")).await
    }
}

impl Deref for Endpoint {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}
