use std::{
    net::SocketAddr,
    ops::Index,
    sync::{Arc, RwLock},
};

use reqwest::{
    Method,
    header::{CONTENT_TYPE, HeaderMap},
};
use serde_json::Value;

/// Where the host listens; follows it through a restart.
#[derive(Clone)]
pub(crate) struct Server(Arc<Inner>);

struct Inner {
    http: reqwest::Client,
    address: RwLock<SocketAddr>,
}

impl Server {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self(Arc::new(Inner { http, address: RwLock::new(address) }))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        *self.0.address.read().unwrap()
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.0.http
    }

    pub(crate) fn moved_to(&self, address: SocketAddr) {
        *self.0.address.write().unwrap() = address;
    }
}

/// Calls the host's API below one path with one token.
#[derive(Clone)]
pub struct Client {
    server: Server,
    prefix: String,
    token: Option<String>,
}

impl Client {
    pub(crate) fn new(server: Server, token: Option<&str>) -> Self {
        Self { server, prefix: String::new(), token: token.map(Into::into) }
    }

    /// The same token, at `path` below this client's path.
    pub fn below(&self, path: &str) -> Self {
        let mut below = self.clone();
        below.prefix.push_str(path);
        below
    }

    /// The same path with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    /// The same path without a token.
    pub fn without_token(&self) -> Self {
        Self { token: None, ..self.clone() }
    }

    /// The token this client sends.
    pub fn token(&self) -> &str {
        self.token.as_deref().expect("this client has no token")
    }

    /// GET, given in full.
    pub async fn get(&self, path: &str) -> Reply {
        self.request("GET", path).send().await
    }

    /// POST with a JSON body.
    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.request("POST", path).json(&body).send().await
    }

    /// POST without a body, for calls that need none.
    pub async fn post_empty(&self, path: &str) -> Reply {
        self.request("POST", path).send().await
    }

    /// PATCH with a JSON body.
    pub async fn patch(&self, path: &str, body: Value) -> Reply {
        self.request("PATCH", path).json(&body).send().await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Reply {
        self.request("DELETE", path).send().await
    }

    /// A request to be dressed by hand.
    pub fn request(&self, method: &str, path: &str) -> Request {
        let path = format!("{}{path}", self.prefix);
        let url = format!("http://{}{path}", self.server.address());
        let method: Method = method.parse().unwrap();
        let mut builder = self.server.0.http.request(method.clone(), url);
        if let Some(token) = &self.token {
            builder = builder.bearer_auth(token);
        }
        Request { call: format!("{method} {path}"), builder }
    }

    /// Every item of a list, page by page, each page checked for the shape of a list.
    pub async fn all(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = None::<String>;
        loop {
            let joint = if path.contains('?') { '&' } else { '?' };
            let page = match &cursor {
                Some(cursor) => self.get(&format!("{path}{joint}cursor={cursor}")).await,
                None => self.get(path).await,
            }
            .expect(200);
            items.extend_from_slice(page["items"].as_array().expect("a list has items"));
            match &page["next_cursor"] {
                Value::Null => return items,
                Value::String(next) => cursor = Some(next.clone()),
                other => panic!("next_cursor is {other} in {path}"),
            }
            assert!(items.len() < 100_000, "{path} has no end");
        }
    }
}

/// A request before it is sent.
pub struct Request {
    call: String,
    builder: reqwest::RequestBuilder,
}

impl Request {
    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.builder = self.builder.header(name, value);
        self
    }

    /// Sends this JSON.
    pub fn json(self, body: &Value) -> Self {
        self.body(body.to_string())
    }

    /// Sends exactly these bytes, said to be JSON.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.builder = self.builder.header(CONTENT_TYPE, "application/json").body(body.into());
        self
    }

    /// Sends exactly these bytes, said to be `content_type`, or nothing said.
    pub fn body_of(mut self, content_type: Option<&str>, body: impl Into<Vec<u8>>) -> Self {
        if let Some(content_type) = content_type {
            self.builder = self.builder.header(CONTENT_TYPE, content_type);
        }
        self.builder = self.builder.body(body.into());
        self
    }

    /// The reply; fails the test when the host gives none.
    pub async fn send(self) -> Reply {
        let call = self.call.clone();
        self.try_send().await.unwrap_or_else(|error| panic!("{call}: {error:?}"))
    }

    /// The reply, or the error of a host that is gone.
    pub async fn try_send(self) -> Result<Reply, reqwest::Error> {
        let response = self.builder.send().await?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let text = response.text().await?;
        Ok(Reply { call: self.call, status, headers, json: serde_json::from_str(&text).unwrap_or(Value::Null), text })
    }
}

/// What the host answered. Indexing reads its JSON.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Method and path, for messages.
    pub call: String,
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub text: String,
    /// The body as JSON; null when it is none.
    pub json: Value,
}

impl Reply {
    /// Itself, if the status is this one; else the test fails and shows the body.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{} answered {}: {}", self.call, self.status, self.text);
        self
    }

    /// Itself, if it is the problem `slug` (RFC 9457) with this status.
    #[track_caller]
    pub fn expect_problem(self, status: u16, slug: &str) -> Self {
        let reply = self.expect(status);
        let context = format!("{}: {}", reply.call, reply.text);
        assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{context}");
        let problem = format!("https://revnoxa.com/problems/{slug}");
        assert_eq!(reply["type"], problem.as_str(), "{context}");
        assert_eq!(reply["status"], status, "{context}");
        assert!(reply["title"].is_string() && reply["detail"].is_string(), "{context}");
        reply
    }

    /// The first field a problem blames, `""` when it blames none.
    pub fn blamed_field(&self) -> &str {
        self["errors"][0]["field"].as_str().unwrap_or("")
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a readable header"))
    }

    /// A member of the JSON that must be a string.
    #[track_caller]
    pub fn text_of(&self, member: &str) -> &str {
        self[member].as_str().unwrap_or_else(|| panic!("{}: no string {member} in {}", self.call, self.text))
    }
}

impl Index<&str> for Reply {
    type Output = Value;

    fn index(&self, member: &str) -> &Value {
        &self.json[member]
    }
}
