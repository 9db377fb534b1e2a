//! The client that brings spans to the operator's collector. Tenants' URLs never come here.

use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use opentelemetry_http::{HttpClient, HttpError};
use reqwest::{Client, redirect};
use tokio::runtime::Handle;

/// How long a collector has for its answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read: it tells at most that some spans were refused.
const ANSWER_LIMIT: usize = 64 * 1024;

/// Posts what an exporter of spans gives it.
#[derive(Debug)]
pub struct CollectorClient {
    client: Client,
    /// The exporter has a thread of its own, which cannot wait for the network.
    runtime: Handle,
}

impl CollectorClient {
    /// A client that works on the runtime that this is called on.
    ///
    /// # Errors
    /// When reqwest does not accept the configuration.
    pub fn new() -> Result<Self, reqwest::Error> {
        let client = Client::builder().no_proxy().redirect(redirect::Policy::none()).timeout(PATIENCE).build()?;
        Ok(Self { client, runtime: Handle::current() })
    }
}

#[async_trait]
impl HttpClient for CollectorClient {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        self.runtime.spawn(send(self.client.clone(), request)).await?
    }
}

async fn send(client: Client, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
    // Its headers may be credentials, and so may parts of the URL: neither is in an error.
    let mut answer = client.execute(request.try_into()?).await.map_err(reqwest::Error::without_url)?;
    let mut response = http::Response::new(Bytes::new());
    *response.status_mut() = answer.status();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > ANSWER_LIMIT {
            return Err("the collector's answer is too long".into());
        }
        body.extend_from_slice(&chunk);
    }
    *response.body_mut() = body.freeze();
    Ok(response)
}
