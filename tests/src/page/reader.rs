use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use reqwest::{
    Method,
    header::{CONTENT_TYPE, HeaderMap, LOCATION, SET_COOKIE},
};
use url::Url;

use super::Page;
use crate::client::Server;

const MOST_REDIRECTS: usize = 10;

/// A browser without script at one host: keeps its cookies, follows its redirects, and says where a request comes from.
/// Clones share the cookies.
#[derive(Clone)]
pub struct Reader {
    server: Server,
    cookies: Arc<Mutex<BTreeMap<String, Cookie>>>,
    foreign_origin: Option<String>,
}

impl Reader {
    pub(crate) fn new(server: Server) -> Self {
        Self { server, cookies: Arc::default(), foreign_origin: None }
    }

    /// The same browser with the same cookies, on a page of another site like `https://evil.example`: its requests say so.
    ///
    /// It sends `SameSite` cookies all the same, as if the browser knew nothing of that.
    pub fn from_another_site(&self, origin: &str) -> Self {
        Self { foreign_origin: Some(origin.into()), ..self.clone() }
    }

    /// The page at this path, or at this address of the host, as if it was typed in.
    pub async fn get(&self, path: &str) -> Page {
        let url = self.origin().join(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        self.navigate(Method::GET, url, "none", None).await
    }

    /// The cookie of this name, if it has one.
    pub fn cookie(&self, name: &str) -> Option<Cookie> {
        self.cookies.lock().unwrap().get(name).cloned()
    }

    /// All cookies it has, by name.
    pub fn cookies(&self) -> Vec<Cookie> {
        self.cookies.lock().unwrap().values().cloned().collect()
    }

    /// Has a cookie of this name and value from now on, as if it had been stolen from another browser.
    pub fn set_cookie(&self, name: &str, value: &str) {
        self.keep(&format!("{name}={value}; Path=/; Secure"));
    }

    pub(super) async fn follow(&self, url: Url) -> Page {
        self.navigate(Method::GET, url, self.site(), None).await
    }

    pub(super) async fn send(&self, method: Method, url: Url, content_type: &str, body: Vec<u8>) -> Page {
        self.navigate(method, url, self.site(), Some((content_type, body))).await
    }

    fn site(&self) -> &'static str {
        if self.foreign_origin.is_some() { "cross-site" } else { "same-origin" }
    }

    fn origin(&self) -> Url {
        format!("http://{}/", self.server.address()).parse().expect("an address is a host")
    }

    async fn navigate(&self, method: Method, url: Url, site: &str, form: Option<(&str, Vec<u8>)>) -> Page {
        let (mut method, mut url, mut form) = (method, url, form);
        let mut redirects = Vec::new();
        loop {
            let mut page = self.ask(&method, &url, site, form.as_ref()).await;
            let Some(location) = page.header(LOCATION.as_str()).map(ToOwned::to_owned) else {
                page.redirects = redirects;
                return page;
            };
            let next = url.join(&location).unwrap_or_else(|error| panic!("{url} redirects to {location}: {error}"));
            let as_get =
                matches!(page.status, 301..=303) || (matches!(page.status, 307 | 308) && method == Method::GET);
            // Elsewhere, and where a form would be sent once more, is not for it to go.
            if !as_get || next.origin() != self.origin().origin() {
                page.redirects = redirects;
                return page;
            }
            redirects.push((page.status, location));
            assert!(redirects.len() <= MOST_REDIRECTS, "{url} redirects without end: {redirects:?}");
            (method, url, form) = (Method::GET, next, None);
        }
    }

    async fn ask(&self, method: &Method, url: &Url, site: &str, form: Option<&(&str, Vec<u8>)>) -> Page {
        assert_eq!(url.origin(), self.origin().origin(), "{url} is not of this host");
        let mut request = self
            .server
            .http()
            .request(method.clone(), url.clone())
            .header("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
            .header("Sec-Fetch-Site", site)
            .header("Sec-Fetch-Mode", "navigate")
            .header("Sec-Fetch-Dest", "document");
        if let Some((content_type, body)) = form {
            let own = self.origin().origin().ascii_serialization();
            request = request
                .header("Origin", self.foreign_origin.as_ref().unwrap_or(&own))
                .header(CONTENT_TYPE, *content_type)
                .body(body.clone());
        }
        let cookies = self.cookies_for(url);
        if !cookies.is_empty() {
            request = request.header("Cookie", cookies);
        }
        let response = request.send().await.unwrap_or_else(|error| panic!("{method} {url}: {error:?}"));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        self.keep_all(&headers);
        let html = response.text().await.unwrap_or_else(|error| panic!("{method} {url}: {error:?}"));
        Page::new(self, url.clone(), status, headers, html)
    }

    fn cookies_for(&self, url: &Url) -> String {
        let cookies = self.cookies.lock().unwrap();
        let sent = cookies.values().filter(|cookie| cookie.is_for(url.path()));
        sent.map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect::<Vec<_>>().join("; ")
    }

    fn keep_all(&self, headers: &HeaderMap) {
        headers.get_all(SET_COOKIE).iter().for_each(|header| self.keep(header.to_str().expect("a readable cookie")));
    }

    fn keep(&self, header: &str) {
        let cookie = Cookie::parse(header);
        let mut cookies = self.cookies.lock().unwrap();
        if cookie.max_age_s.is_some_and(|left| left <= 0) {
            cookies.remove(&cookie.name);
        } else {
            cookies.insert(cookie.name.clone(), cookie);
        }
    }
}

/// A cookie as the host set it. It goes when the host takes it away, not with time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Whether scripts are kept from it.
    pub http_only: bool,
    /// Whether it is for https only. (Browsers count plain http on loopback as that.)
    pub secure: bool,
    /// `Strict`, `Lax` or `None`, if said.
    pub same_site: Option<String>,
    /// Below which path it is sent, if said; everywhere otherwise.
    pub path: Option<String>,
    /// With which sub-domains it is shared, if said.
    pub domain: Option<String>,
    /// For how many seconds it was to be kept, if said; as long as the browser is open otherwise.
    pub max_age_s: Option<i64>,
}

impl Cookie {
    /// What a `Set-Cookie` header says. Fails the test where a browser would ignore it (RFC 6265bis).
    fn parse(header: &str) -> Self {
        let mut parts = header.split(';').map(|part| part.trim().split_once('=').unwrap_or((part.trim(), "")));
        let (name, value) = parts.next().expect("never empty");
        let mut cookie = Self {
            name: name.into(),
            value: value.into(),
            http_only: false,
            secure: false,
            same_site: None,
            path: None,
            domain: None,
            max_age_s: None,
        };
        for (attribute, value) in parts {
            match attribute.to_ascii_lowercase().as_str() {
                "httponly" => cookie.http_only = true,
                "secure" => cookie.secure = true,
                "samesite" => cookie.same_site = Some(value.into()),
                "path" => cookie.path = Some(value.into()),
                "domain" => cookie.domain = Some(value.into()),
                "max-age" => cookie.max_age_s = Some(value.parse().expect("a number of seconds")),
                "expires" => {}
                other => panic!("an unknown attribute {other} in {header}"),
            }
        }
        let kept_apart = cookie.secure && cookie.path.as_deref() == Some("/") && cookie.domain.is_none();
        assert!(kept_apart || !name.starts_with("__Host-"), "browsers ignore a cookie like {header}");
        assert!(cookie.secure || !name.starts_with("__Secure-"), "browsers ignore a cookie like {header}");
        cookie
    }

    fn is_for(&self, path: &str) -> bool {
        let below = self.path.as_deref().unwrap_or("/");
        path.strip_prefix(below).is_some_and(|rest| rest.is_empty() || below.ends_with('/') || rest.starts_with('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Answer, Receiver};

    fn at(receiver: &Receiver) -> Reader {
        let url: Url = receiver.url().parse().unwrap();
        Reader::new(Server::new(url.socket_addrs(|| None).unwrap()[0]))
    }

    #[tokio::test]
    async fn cookies_are_kept_sent_and_taken_away() {
        let signed_in = Answer::redirect(303, "/settings")
            .header("Set-Cookie", "__Host-session=s3; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=600")
            .header("Set-Cookie", "elsewhere=1; Path=/elsewhere");
        let signed_out = Answer::status(200).header("Set-Cookie", "__Host-session=; Path=/; Secure; Max-Age=0");
        let receiver = Receiver::answering([signed_in, signed_out]).await;
        let reader = at(&receiver);
        let page = reader.get("/sign-in?link=1").await;
        assert_eq!((page.status, page.path().as_str()), (200, "/settings"));
        assert_eq!(page.redirects, [(303, "/settings".to_owned())]);
        let received = receiver.received();
        assert_eq!(received[0].header("cookie"), None);
        assert_eq!(received[1].header("cookie"), Some("__Host-session=s3"));
        assert_eq!(received[1].header("sec-fetch-site"), Some("none"));
        let names: Vec<_> = reader.cookies().into_iter().map(|cookie| cookie.name).collect();
        assert_eq!(names, ["elsewhere"]);
    }

    #[test]
    fn a_cookie_is_read_in_full() {
        let cookie = Cookie::parse("__Host-session=a=b; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=600");
        assert_eq!((cookie.name.as_str(), cookie.value.as_str()), ("__Host-session", "a=b"));
        assert!(cookie.http_only && cookie.secure);
        assert_eq!((cookie.same_site.as_deref(), cookie.max_age_s), (Some("Lax"), Some(600)));
        let below = Cookie::parse("a=1; Path=/settings");
        assert!(below.is_for("/settings") && below.is_for("/settings/webhooks"));
        assert!(!below.is_for("/settingsx") && !below.is_for("/"));
    }

    #[test]
    #[should_panic(expected = "browsers ignore a cookie like __Host-session=1; Path=/")]
    fn what_a_browser_would_ignore_fails_the_test() {
        Cookie::parse("__Host-session=1; Path=/");
    }
}
