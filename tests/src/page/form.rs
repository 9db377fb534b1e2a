use reqwest::Method;
use scraper::{ElementRef, Selector};
use url::{Url, form_urlencoded::Serializer};

use super::{Page, Part, Reader, collapsed};

/// A form as it is filled in on its page, to be changed and sent. Nothing checks what is put in, so that the host must.
#[derive(Debug, Clone)]
pub struct Form {
    page: Url,
    action: Url,
    method: Method,
    multipart: bool,
    controls: Vec<Control>,
}

#[derive(Debug, Clone)]
struct Control {
    name: String,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    /// A text field, hidden field, or the pressed button.
    Text(String),
    /// A box or radio button.
    Checkable {
        value: String,
        on: bool,
        radio: bool,
    },
    /// A list: each option's value, and whether it is chosen.
    List {
        options: Vec<(String, bool)>,
        multiple: bool,
    },
    File {
        name: String,
        bytes: Vec<u8>,
    },
}

impl Form {
    #[track_caller]
    pub(super) fn find(page: &Page, button_or_css: &str) -> Self {
        let buttons: Vec<Part<'_>> =
            page.select("button, input").into_iter().filter(|button| submits(button.0)).collect();
        let mut named = buttons.iter().filter(|button| button_name(button) == button_or_css);
        let pressed = named.next();
        assert!(named.next().is_none(), "{} has several buttons {button_or_css:?}", page.url);
        let form = match pressed {
            Some(button) => form_of(page, button.0),
            None => {
                let selector = Selector::parse(button_or_css).ok();
                let forms: Vec<_> = selector.iter().flat_map(|selector| page.document.select(selector)).collect();
                forms.into_iter().find(|found| found.value().name() == "form")
            }
        };
        let Some(form) = form else {
            let known: Vec<_> = buttons.iter().map(button_name).collect();
            panic!("{} has no form with the button {button_or_css:?}, only {known:?}", page.url);
        };
        // Enter presses the first one.
        let belongs = |button: &ElementRef<'_>| form_of(page, *button).is_some_and(|its| its.id() == form.id());
        let pressed = pressed.map(|button| button.0).or_else(|| buttons.iter().map(|button| button.0).find(belongs));
        Self::read(page, form, pressed)
    }

    fn read(page: &Page, form: ElementRef<'_>, pressed: Option<ElementRef<'_>>) -> Self {
        let said = |of_button: &str, of_form: &str| {
            pressed.and_then(|button| button.attr(of_button)).or_else(|| form.attr(of_form)).unwrap_or_default()
        };
        let action = said("formaction", "action");
        let action = page.url.join(action).unwrap_or_else(|error| panic!("{} sends to {action}: {error}", page.url));
        let post = said("formmethod", "method").eq_ignore_ascii_case("post");
        let multipart = said("formenctype", "enctype").eq_ignore_ascii_case("multipart/form-data");
        let mut controls = Vec::new();
        for part in page.select("input, textarea, select, button") {
            let its_own = form_of(page, part.0).is_some_and(|its| its.id() == form.id());
            let name = part.attr("name").unwrap_or_default();
            if its_own && !name.is_empty() && !is_disabled(part.0) {
                let is_pressed = pressed.is_some_and(|button| button.id() == part.0.id());
                controls.extend(Kind::read(part.0, is_pressed).map(|kind| Control { name: name.into(), kind }));
            }
        }
        let method = if post { Method::POST } else { Method::GET };
        Self { page: page.url.clone(), action, method, multipart: multipart && post, controls }
    }

    /// Puts this into the text or hidden field of this name, or chooses the option of this value; of several the first.
    #[track_caller]
    pub fn set(self, name: &str, value: &str) -> Self {
        self.set_in_row(0, name, value)
    }

    /// The same in a row, counted from 0, of a form that has fields of this name in each of its rows.
    #[track_caller]
    pub fn set_in_row(mut self, row: usize, name: &str, value: &str) -> Self {
        let control = self.control(row, name, |kind| matches!(kind, Kind::Text(_) | Kind::List { .. }));
        match &mut control.kind {
            Kind::List { options, multiple } => {
                assert!(options.iter().any(|(known, _)| known == value), "{name} has no {value:?}, only {options:?}");
                for (known, chosen) in options {
                    *chosen = known == value || (*chosen && *multiple);
                }
            }
            kind => *kind = Kind::Text(value.into()),
        }
        self
    }

    /// Ticks the box, or picks the radio button, of this name and value.
    #[track_caller]
    pub fn check(self, name: &str, value: &str) -> Self {
        self.turn(name, value, true)
    }

    /// Takes the tick out of the box of this name and value.
    #[track_caller]
    pub fn uncheck(self, name: &str, value: &str) -> Self {
        self.turn(name, value, false)
    }

    /// Puts a file of this name with these bytes into the file field.
    #[track_caller]
    pub fn attach(mut self, name: &str, file_name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let control = self.control(0, name, |kind| matches!(kind, Kind::File { .. }));
        control.kind = Kind::File { name: file_name.into(), bytes: bytes.into() };
        self
    }

    /// Adds a field that the page does not have.
    pub fn forge(mut self, name: &str, value: &str) -> Self {
        self.controls.push(Control { name: name.into(), kind: Kind::Text(value.into()) });
        self
    }

    /// Takes away what the page has under this name.
    #[track_caller]
    pub fn without(mut self, name: &str) -> Self {
        self.control(0, name, |_| true);
        self.controls.retain(|control| control.name != name);
        self
    }

    /// Sends it elsewhere: `change` gives the address in place of the page's own.
    #[track_caller]
    pub fn sent_to(mut self, change: impl FnOnce(&str) -> String) -> Self {
        self.action = change(self.action.as_str()).parse().expect("a URL");
        self
    }

    /// All that would be sent under this name.
    pub fn values(&self, name: &str) -> Vec<String> {
        self.entries().into_iter().filter(|(known, _)| *known == name).map(|(_, value)| value).collect()
    }

    /// What is in the field of this name.
    #[track_caller]
    pub fn value(&self, name: &str) -> String {
        let mut values = self.values(name);
        assert_eq!(values.len(), 1, "values of {name} in the form on {}, which sends {:?}", self.page, self.entries());
        values.remove(0)
    }

    /// Sends it as this reader; gives the page that follows.
    pub async fn submit(&self, reader: &Reader) -> Page {
        let entries = || Serializer::new(String::new()).extend_pairs(self.entries()).finish();
        if self.method == Method::GET {
            let mut url = self.action.clone();
            url.set_query(Some(&entries()));
            return reader.follow(url).await;
        }
        let (content_type, body) = match self.multipart {
            true => self.multipart_body(),
            false => ("application/x-www-form-urlencoded".to_owned(), entries().into_bytes()),
        };
        reader.send(self.method.clone(), self.action.clone(), &content_type, body).await
    }

    #[track_caller]
    fn turn(mut self, name: &str, value: &str, on: bool) -> Self {
        let this = |kind: &Kind| matches!(kind, Kind::Checkable { value: known, .. } if known == value);
        let picks_radio = matches!(self.control(0, name, this).kind, Kind::Checkable { radio: true, .. }) && on;
        for control in self.controls.iter_mut().filter(|control| control.name == name) {
            if let Kind::Checkable { value: known, on: is_on, radio } = &mut control.kind {
                *is_on = if known == value { on } else { *is_on && !(*radio && picks_radio) };
            }
        }
        self
    }

    #[track_caller]
    fn control(&mut self, row: usize, name: &str, fits: impl Fn(&Kind) -> bool) -> &mut Control {
        let known = format!("{:?}", self.controls);
        let mut found = self.controls.iter_mut().filter(|control| control.name == name && fits(&control.kind));
        match found.nth(row) {
            Some(control) => control,
            None => panic!("the form on {} has no such control {name} in row {row}, only {known}", self.page),
        }
    }

    /// What is sent, in the order of the page. A file counts with its name.
    fn entries(&self) -> Vec<(&str, String)> {
        let entries = self.controls.iter().flat_map(|control| {
            let values = match &control.kind {
                Kind::Text(value) | Kind::Checkable { value, on: true, .. } => vec![value.clone()],
                Kind::Checkable { .. } => Vec::new(),
                Kind::List { options, .. } => {
                    options.iter().filter(|(_, chosen)| *chosen).map(|(value, _)| value.clone()).collect()
                }
                Kind::File { name, .. } => vec![name.clone()],
            };
            values.into_iter().map(|value| (control.name.as_str(), with_crlf(&value)))
        });
        entries.collect()
    }

    /// RFC 7578, with names escaped as the HTML standard says.
    fn multipart_body(&self) -> (String, Vec<u8>) {
        let boundary = format!("----reader{:032x}", rand::random::<u128>());
        let escaped = |text: &str| text.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A");
        let mut body = Vec::new();
        let mut part = |name: &str, head: &str, bytes: &[u8]| {
            let name = escaped(name);
            body.extend(
                format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"{head}\r\n\r\n").bytes(),
            );
            body.extend(bytes);
            body.extend(b"\r\n");
        };
        for control in &self.controls {
            if let Kind::File { name, bytes } = &control.kind {
                let head = format!("; filename=\"{}\"\r\nContent-Type: application/octet-stream", escaped(name));
                part(&control.name, &head, bytes);
                continue;
            }
            let alone = Self { controls: vec![control.clone()], ..self.clone() };
            alone.entries().iter().for_each(|(name, value)| part(name, "", value.as_bytes()));
        }
        body.extend(format!("--{boundary}--\r\n").bytes());
        (format!("multipart/form-data; boundary={boundary}"), body)
    }
}

impl Kind {
    /// `None`: this is never sent.
    fn read(element: ElementRef<'_>, is_pressed: bool) -> Option<Self> {
        let value = element.attr("value").unwrap_or_default();
        match element.value().name() {
            "textarea" => Some(Self::Text(element.text().collect())),
            "select" => Some(Self::read_list(element)),
            "button" => is_pressed.then(|| Self::Text(value.into())),
            _ => match element.attr("type").unwrap_or("text").to_ascii_lowercase().as_str() {
                "checkbox" | "radio" => Some(Self::Checkable {
                    value: element.attr("value").unwrap_or("on").into(),
                    on: element.attr("checked").is_some(),
                    radio: element.attr("type").is_some_and(|kind| kind.eq_ignore_ascii_case("radio")),
                }),
                "file" => Some(Self::File { name: String::new(), bytes: Vec::new() }),
                "submit" => is_pressed.then(|| Self::Text(value.into())),
                "button" | "reset" | "image" => None,
                _ => Some(Self::Text(value.into())),
            },
        }
    }

    fn read_list(list: ElementRef<'_>) -> Self {
        let multiple = list.attr("multiple").is_some();
        let found: Vec<_> = Part(list).select("option").into_iter().filter(|option| !is_disabled(option.0)).collect();
        let value = |option: &Part<'_>| option.attr("value").map_or_else(|| collapsed(option.0.text()), Into::into);
        let mut options: Vec<(String, bool)> =
            found.iter().map(|option| (value(option), option.attr("selected").is_some())).collect();
        if !multiple {
            // One is always chosen: the last that says so, or the first.
            let chosen = options.iter().rposition(|(_, selected)| *selected).unwrap_or(0);
            options.iter_mut().enumerate().for_each(|(index, option)| option.1 = index == chosen);
        }
        Self::List { options, multiple }
    }
}

fn submits(element: ElementRef<'_>) -> bool {
    let kind = element.attr("type").map(str::to_ascii_lowercase);
    let submits = match element.value().name() {
        "button" => !matches!(kind.as_deref(), Some("button" | "reset")),
        _ => kind.as_deref() == Some("submit"),
    };
    submits && !is_disabled(element)
}

fn button_name(button: &Part<'_>) -> String {
    match button.attr("value") {
        Some(value) if button.0.value().name() == "input" => value.into(),
        _ => button.name(),
    }
}

/// The form that a control belongs to: the one it names, or the one it is in.
fn form_of<'p>(page: &'p Page, control: ElementRef<'p>) -> Option<ElementRef<'p>> {
    if let Some(id) = control.attr("form") {
        return page.select("form").into_iter().find(|form| form.attr("id") == Some(id)).map(|form| form.0);
    }
    ancestors(control).find(|ancestor| ancestor.value().name() == "form")
}

/// It, its list's group of options, or the group of controls around it.
fn is_disabled(element: ElementRef<'_>) -> bool {
    let mut around = ancestors(element).filter(|ancestor| ["fieldset", "optgroup"].contains(&ancestor.value().name()));
    element.attr("disabled").is_some() || around.any(|ancestor| ancestor.attr("disabled").is_some())
}

fn ancestors(element: ElementRef<'_>) -> impl Iterator<Item = ElementRef<'_>> {
    element.ancestors().filter_map(ElementRef::wrap)
}

/// Line ends as forms send them.
fn with_crlf(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\n', "\r\n")
}

#[cfg(test)]
mod tests {
    use super::super::tests::page;
    use super::*;
    use crate::{Answer, Receiver, client::Server};

    const ENDPOINT: &str = r#"
        <form id=endpoint method=post action="/settings/endpoints">
          <input type=hidden name=csrf value=t0k3n> <input name=url value="https://a.example"> <input name=nothing>
          <textarea name=description>
one
two</textarea>
          <input type=checkbox name=types value=a checked> <input type=checkbox name=types value=b> <input type=checkbox name=live>
          <input type=radio name=which value=all checked> <input type=radio name=which value=some>
          <select name=overlap><option disabled>never<option value=0>none<option value=60>a minute</select>
          <input name=off value=1 disabled> <fieldset disabled><input name=off value=2></fieldset> <input value=unnamed>
          <button name=then value=save>Save</button> <button name=then value=test formaction="?test">Save and <b>test</b></button>
          <button type=button name=then value=never>Cancel</button>
        </form>
        <input form=endpoint name=outside value=yes>
        <form method=post enctype="multipart/form-data"><input type=file name=component><input name=note value='"quoted"'>
        <input type=submit value=Upload></form>"#;

    fn sent(form: &Form) -> String {
        Serializer::new(String::new()).extend_pairs(form.entries()).finish()
    }

    #[test]
    fn a_form_sends_what_a_browser_would() {
        let page = page(ENDPOINT);
        let form = page.form("Save");
        assert_eq!(
            sent(&form),
            "csrf=t0k3n&url=https%3A%2F%2Fa.example&nothing=&description=one%0D%0Atwo&types=a&which=all&overlap=0&then=save\
             &outside=yes"
        );
        assert_eq!((form.method.as_str(), form.action.path()), ("POST", "/settings/endpoints"));
        assert_eq!(sent(&page.form("#endpoint")), sent(&form), "Enter presses the first button");
        let other = page.form("Save and test");
        assert_eq!((other.value("then").as_str(), other.action.query()), ("test", Some("test")));
    }

    #[test]
    fn a_form_is_filled_in() {
        let form = page(ENDPOINT).form("Save").set("url", "b&c").set("overlap", "60").check("which", "some");
        let form =
            form.uncheck("types", "a").check("types", "b").check("live", "on").without("description").forge("x", "y");
        assert_eq!(
            sent(&form),
            "csrf=t0k3n&url=b%26c&nothing=&types=b&live=on&which=some&overlap=60&then=save&outside=yes&x=y"
        );
    }

    #[test]
    #[should_panic(expected = r#"has no form with the button "Delete", only ["Save", "Save and test", "Upload"]"#)]
    fn a_form_that_is_not_there_fails_the_test() {
        page(ENDPOINT).form("Delete");
    }

    #[test]
    #[should_panic(expected = "has no such control types in row 0")]
    fn a_box_that_is_not_there_fails_the_test() {
        page(ENDPOINT).form("Save").check("types", "c");
    }

    #[tokio::test]
    async fn forms_are_sent_as_a_browser_sends_them() {
        let html = ENDPOINT.to_owned() + "<form action=/find><input name=type><button>Find</button></form>";
        let receiver = Receiver::answering([Answer::status(200).body(html)]).await;
        let address: Url = receiver.url().parse().unwrap();
        let reader = Reader::new(Server::new(address.socket_addrs(|| None).unwrap()[0]));
        let origin = address.origin().ascii_serialization();
        let page = reader.get("/settings/plugins").await;

        page.form("Save").submit(&reader).await;
        page.form("Upload").attach("component", "p.wasm", b"\0asm").submit(&reader).await;
        page.form("Find").set("type", "a b").submit(&reader.from_another_site("https://evil.example")).await;
        page.form("Save").submit(&reader.from_another_site("https://evil.example")).await;

        let received = receiver.received();
        let [_, save, upload, find, evil] = received.as_slice() else { panic!("{received:?}") };
        assert_eq!(save.header("content-type"), Some("application/x-www-form-urlencoded"));
        assert_eq!(
            (save.header("origin"), save.header("sec-fetch-site")),
            (Some(origin.as_str()), Some("same-origin"))
        );
        assert_eq!((save.method.as_str(), save.path.as_str()), ("POST", "/settings/endpoints"));
        assert!(save.text().starts_with("csrf=t0k3n&url="), "{}", save.text());

        assert_eq!((upload.method.as_str(), upload.path.as_str()), ("POST", "/settings/plugins"));
        let (_, boundary) =
            upload.header("content-type").unwrap().split_once("multipart/form-data; boundary=").unwrap();
        let file = "Content-Disposition: form-data; name=\"component\"; filename=\"p.wasm\"\r\nContent-Type: application/octet-stream";
        let note = "Content-Disposition: form-data; name=\"note\"\r\n\r\n\"quoted\"";
        let whole = format!("--{boundary}\r\n{file}\r\n\r\n\0asm\r\n--{boundary}\r\n{note}\r\n--{boundary}--\r\n");
        assert_eq!(upload.text(), whole);

        assert_eq!((find.method.as_str(), find.path.as_str()), ("GET", "/find?type=a+b"));
        assert_eq!((find.header("origin"), find.header("sec-fetch-site")), (None, Some("cross-site")));
        assert_eq!(evil.header("origin"), Some("https://evil.example"));
        assert_eq!(evil.header("sec-fetch-site"), Some("cross-site"));
    }
}
