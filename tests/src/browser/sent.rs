use serde_json::Value;

/// A request that a page has sent.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Its method.
    pub method: String,
    /// Where to, with query and fragment.
    pub url: String,
    /// Its headers, but for cookies.
    pub headers: Value,
    /// Its body as text. `None`: it has none, or the browser does not show it, which it does not when a file is in it.
    pub body: Option<String>,
}

impl Sent {
    /// Whether this text is somewhere in it, as it is or percent-encoded.
    pub fn mentions(&self, text: &str) -> bool {
        let headers = self.headers.to_string();
        let places = [Some(self.url.as_str()), Some(headers.as_str()), self.body.as_deref()];
        places.into_iter().flatten().any(|place| place.contains(text) || percent_decoded(place).contains(text))
    }

    /// `None`: it asks the browser itself, not the network.
    pub(super) fn read(request: &Value) -> Option<Self> {
        let url = request["url"].as_str().expect("a URL");
        if ["chrome:", "data:", "blob:", "about:"].iter().any(|own| url.starts_with(own)) {
            return None;
        }
        Some(Self {
            method: request["method"].as_str().expect("a method").to_owned(),
            url: format!("{url}{}", request["urlFragment"].as_str().unwrap_or_default()),
            headers: request["headers"].clone(),
            body: request["postData"].as_str().map(Into::into),
        })
    }
}

fn percent_decoded(text: &str) -> String {
    let pairs = url::form_urlencoded::parse(text.as_bytes()).map(|(name, value)| format!("{name}={value}"));
    pairs.collect::<Vec<_>>().join("&")
}
