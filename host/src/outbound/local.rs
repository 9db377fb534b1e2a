//! A client of an installation's own API, for `listen`. Tenants' URLs never come here.

use std::time::Duration;

use reqwest::{Client, Response, redirect};
use serde_json::Value;

/// How long a call may take: creating an endpoint waits for its test event.
const PATIENCE: Duration = Duration::from_secs(30);

/// Calls the API at one base URL with one token.
pub struct LocalApi {
    client: Client,
    url: String,
    token: String,
}

/// A call that did not work.
#[derive(Debug, thiserror::Error)]
pub enum LocalApiError {
    /// No answer.
    #[error("the host does not answer; is it running?")]
    NoAnswer(#[from] reqwest::Error),
    /// An answer that is an error.
    #[error("the host answered {0}")]
    Refused(reqwest::StatusCode),
}

impl LocalApi {
    /// Calls `url` with `token`.
    pub fn new(url: &str, token: &str) -> Result<Self, LocalApiError> {
        let client = Client::builder().no_proxy().redirect(redirect::Policy::none()).timeout(PATIENCE).build()?;
        Ok(Self { client, url: url.to_owned(), token: token.to_owned() })
    }

    /// Posts JSON and gives the answer's JSON.
    pub async fn post(&self, path: &str, json: &Value) -> Result<Value, LocalApiError> {
        let request = self.client.post(format!("{}{path}", self.url)).bearer_auth(&self.token);
        let body = json.to_string();
        let response = request.header(http::header::CONTENT_TYPE, "application/json").body(body).send().await?;
        let body = checked(response)?.bytes().await?;
        Ok(serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Deletes what is at `path`.
    pub async fn delete(&self, path: &str) -> Result<(), LocalApiError> {
        let request = self.client.delete(format!("{}{path}", self.url)).bearer_auth(&self.token);
        checked(request.send().await?).map(drop)
    }
}

fn checked(response: Response) -> Result<Response, LocalApiError> {
    if response.status().is_success() { Ok(response) } else { Err(LocalApiError::Refused(response.status())) }
}
