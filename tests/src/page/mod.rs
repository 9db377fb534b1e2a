//! Pages as a user with scripts switched off has them: a [`Reader`] asks for a [`Page`], follows its links and sends its [`Form`]s.

mod form;
mod reader;

pub use form::Form;
pub use reader::{Cookie, Reader};

use reqwest::header::HeaderMap;
use scraper::{ElementRef, Html, Node, Selector};
use url::Url;

/// A page as it was answered, and what is on it.
pub struct Page {
    /// Its address, after redirects.
    pub url: Url,
    /// Its status code.
    pub status: u16,
    /// Its headers; what the redirects before it had is in the reader's cookies.
    pub headers: HeaderMap,
    /// The HTML as it came.
    pub html: String,
    /// The redirects that led to it, each as its status code and `Location`.
    pub redirects: Vec<(u16, String)>,
    reader: Reader,
    document: Html,
}

impl Page {
    fn new(reader: &Reader, url: Url, status: u16, headers: HeaderMap, html: String) -> Self {
        // Where scripts do not run, these two tags are as good as not there.
        let unscripted = html.replace("<noscript>", "").replace("</noscript>", "");
        let document = Html::parse_document(&unscripted);
        Self { url, status, headers, html, redirects: Vec::new(), reader: reader.clone(), document }
    }

    /// Itself, if the status is this one; else the test fails and shows the page.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{} answered {}: {}", self.url, self.status, self.text());
        self
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a readable header"))
    }

    /// Path and query.
    pub fn path(&self) -> String {
        self.url[url::Position::BeforePath..url::Position::AfterQuery].to_owned()
    }

    /// What is in its `<title>`; empty when it has none.
    pub fn title(&self) -> String {
        self.select("title").first().map(|title| collapsed(title.0.text())).unwrap_or_default()
    }

    /// What it shows, white space collapsed. What is in its text fields and lists is the [`Form`]'s to tell.
    pub fn text(&self) -> String {
        self.select("body").first().map(Part::text).unwrap_or_default()
    }

    /// All elements that a CSS selector fits.
    #[track_caller]
    pub fn select(&self, css: &str) -> Vec<Part<'_>> {
        let selector = Selector::parse(css).unwrap_or_else(|error| panic!("{css} is not CSS: {error}"));
        self.document.select(&selector).map(Part).collect()
    }

    /// The one element that a CSS selector fits.
    #[track_caller]
    pub fn one(&self, css: &str) -> Part<'_> {
        let mut found = self.select(css);
        assert_eq!(found.len(), 1, "elements of {} that fit {css}; it shows: {}", self.url, self.text());
        found.remove(0)
    }

    /// The page behind the link of this text.
    pub async fn follow(&self, text: &str) -> Page {
        self.reader.clone().follow(self.link(text)).await
    }

    /// Where the link of this text leads.
    #[track_caller]
    pub fn link(&self, text: &str) -> Url {
        let links = self.select("a[href]");
        let mut found = links.iter().filter(|link| link.name() == text).map(|link| link.attr("href").unwrap());
        let Some(first) = found.next() else {
            let known: Vec<_> = links.iter().map(Part::name).collect();
            panic!("{} has no link {text:?}, only {known:?}", self.url);
        };
        assert!(found.all(|other| other == first), "{} has several links {text:?} that lead elsewhere", self.url);
        self.url.join(first).unwrap_or_else(|error| panic!("{} links to {first}: {error}", self.url))
    }

    /// The form of the submit button of this text, which will be pressed; or the one form that a CSS selector fits, to be sent
    /// with Enter.
    #[track_caller]
    pub fn form(&self, button_or_css: &str) -> Form {
        Form::find(self, button_or_css)
    }

    /// What the page says is wrong about the control of this name: the text of what `aria-describedby` points at.
    /// `None`: nothing, the control is not `aria-invalid`.
    #[track_caller]
    pub fn error_of(&self, name: &str) -> Option<String> {
        let controls = self.select(&format!(r#"[name="{name}"]"#));
        assert!(!controls.is_empty(), "{} has no control named {name}", self.url);
        let invalid = controls.iter().find(|control| control.attr("aria-invalid") == Some("true"))?;
        let Some(described_by) = invalid.attr("aria-describedby") else {
            panic!("{}: the invalid control {name} has no aria-describedby", self.url);
        };
        let texts: Vec<_> =
            described_by.split_whitespace().map(|id| self.one(&format!(r#"[id="{id}"]"#)).text()).collect();
        Some(texts.join(" "))
    }
}

/// An element of a [`Page`].
#[derive(Clone, Copy)]
pub struct Part<'p>(ElementRef<'p>);

impl<'p> Part<'p> {
    /// What it shows, white space collapsed.
    pub fn text(&self) -> String {
        let mut shown = String::new();
        collect(self.0, &mut shown);
        collapsed([shown.as_str()])
    }

    /// All text in it as it is written, as a `<pre>` shows it.
    pub fn raw_text(&self) -> String {
        self.0.text().collect()
    }

    /// An attribute as it is written.
    pub fn attr(&self, name: &str) -> Option<&'p str> {
        self.0.attr(name)
    }

    /// The elements in it that a CSS selector fits.
    #[track_caller]
    pub fn select(&self, css: &str) -> Vec<Part<'p>> {
        let selector = Selector::parse(css).unwrap_or_else(|error| panic!("{css} is not CSS: {error}"));
        self.0.select(&selector).map(Part).collect()
    }

    /// What a user calls it by: its `aria-label`, else its text.
    fn name(&self) -> String {
        self.attr("aria-label").map_or_else(|| self.text(), |label| collapsed([label]))
    }
}

/// These flow within a line; everything else begins a new one.
const INLINE: [&str; 28] = [
    "a", "abbr", "b", "bdi", "bdo", "cite", "code", "data", "del", "dfn", "em", "i", "ins", "kbd", "mark", "q", "s",
    "samp", "small", "span", "strong", "sub", "sup", "time", "u", "var", "wbr", "label",
];

/// These do not show the text in them, or show it as what they hold.
const SILENT: [&str; 8] = ["datalist", "head", "script", "select", "style", "template", "textarea", "title"];

fn collect(element: ElementRef<'_>, shown: &mut String) {
    let name = element.value().name();
    let closed = name == "dialog" && element.attr("open").is_none();
    if SILENT.contains(&name) || closed || element.attr("hidden").is_some() {
        return;
    }
    let apart = if INLINE.contains(&name) { "" } else { " " };
    shown.push_str(apart);
    for child in element.children() {
        match child.value() {
            Node::Text(text) => shown.push_str(text),
            _ => ElementRef::wrap(child).into_iter().for_each(|child| collect(child, shown)),
        }
    }
    shown.push_str(apart);
}

fn collapsed<'t>(texts: impl IntoIterator<Item = &'t str>) -> String {
    let whole: String = texts.into_iter().collect();
    whole.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Server;

    pub(super) fn page(html: &str) -> Page {
        let reader = Reader::new(Server::new("127.0.0.1:1".parse().unwrap()));
        let url = "http://127.0.0.1:1/settings/webhooks?page=2".parse().unwrap();
        Page::new(&reader, url, 200, HeaderMap::new(), html.into())
    }

    #[test]
    fn a_page_shows_what_a_user_without_script_sees() {
        let page = page(
            "<!doctype html><title> Webhooks </title><style>p {}</style><h1>Your\n <b>end</b>points</h1><table><tr><td>a<td>b</table>\
             <noscript><p>Reload to see more.</p></noscript><script>run()</script><p hidden>no</p><template>no</template>\
             <textarea>no</textarea><dialog>no</dialog><p>&lt;i&gt;",
        );
        assert_eq!(page.title(), "Webhooks");
        assert_eq!(page.text(), "Your endpoints a b Reload to see more. <i>");
        assert_eq!(page.path(), "/settings/webhooks?page=2");
        assert_eq!(page.one("h1 b").text(), "end");
    }

    #[test]
    fn links_are_found_by_what_they_say() {
        let page =
            page(r#"<a href="endpoints/new">Add <b>Endpoint</b></a><a href="?page=3" aria-label="Next page">›</a>"#);
        assert_eq!(page.link("Add Endpoint").as_str(), "http://127.0.0.1:1/settings/endpoints/new");
        assert_eq!(page.link("Next page").as_str(), "http://127.0.0.1:1/settings/webhooks?page=3");
    }

    #[test]
    #[should_panic(expected = r#"http://127.0.0.1:1/settings/webhooks?page=2 has no link "Delete", only ["Add"]"#)]
    fn a_link_that_is_not_there_fails_the_test() {
        page(r#"<a href="/add">Add</a>"#).link("Delete");
    }

    #[test]
    fn an_error_is_beside_its_field() {
        let page = page(
            r#"<input name=url aria-invalid=true aria-describedby="hint wrong"><p id=hint>With https.</p><p id=wrong>Not a URL.</p>
               <input name=description aria-describedby=hint>"#,
        );
        assert_eq!(page.error_of("url").as_deref(), Some("With https. Not a URL."));
        assert_eq!(page.error_of("description"), None);
    }
}
