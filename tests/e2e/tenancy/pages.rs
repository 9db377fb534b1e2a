//! Every route of the settings pages × who has no business there × whose ids.

use std::collections::BTreeSet;

use revnoxa_host::http::settings;
use revnoxa_tests::{Client, Host, Reply, Tenant};

use super::{COMPONENT, Ids, NO_ID, Seen, World, choices, filled, names_in, swapped};
use crate::plugin_flow::component;

/// For whoever has the link, and for everybody.
const SIGN_IN: &str = "GET /settings/sign-in/{key}";
const ASSET: &str = "GET /settings/assets/{name}";

/// Stands for a form with a plugin's component in it.
const COMPONENT_FORM: &str = "component form";

/// Each other route with its query or its form, and what is answered to a session about its own tenant's things, in an order in which
/// all succeed.
const PAGES: &[(&str, &str, u16)] = &[
    ("GET /settings/webhooks", "", 200),
    ("GET /settings/webhooks/new", "", 200),
    ("GET /settings/webhooks/endpoints/{endpoint}", "", 200),
    ("GET /settings/webhooks/endpoints/{endpoint}/history", "", 200),
    ("GET /settings/webhooks/endpoints/{endpoint}/edit", "", 200),
    ("GET /settings/webhooks/endpoints/{endpoint}/plugins", "", 200),
    ("GET /settings/webhooks/debugger", "delivery={delivery}", 200),
    ("GET /settings/webhooks/deliveries/{delivery}", "", 200),
    ("GET /settings/webhooks/plugins", "", 200),
    ("GET /settings/webhooks/plugins/{plugin}", "endpoint={endpoint}", 200),
    ("GET /settings/webhooks/plugins/{plugin}/versions/{digest}", "endpoint={endpoint}", 200),
    ("POST /settings/webhooks", "url={url}&description=&types=all&headers=", 201),
    ("POST /settings/webhooks/endpoints/{endpoint}/edit", "url={url}&description=mine+now&types=all&headers=", 303),
    ("POST /settings/webhooks/endpoints/{endpoint}/test", "", 200),
    ("POST /settings/webhooks/endpoints/{endpoint}/rotate-secret", "overlap_seconds=0", 200),
    ("POST /settings/webhooks/endpoints/{endpoint}/disable", "", 200),
    ("POST /settings/webhooks/endpoints/{endpoint}/enable", "held=drop", 200),
    ("POST /settings/webhooks/endpoints/{endpoint}/recover", "since=2026-01-01T00:00", 200),
    ("POST /settings/webhooks/deliveries/{delivery}/retry", "", 303),
    ("POST /settings/webhooks/plugins", "name=matrix", 303),
    ("POST /settings/webhooks/plugins/{plugin}/upload", COMPONENT_FORM, 200),
    ("POST /settings/webhooks/plugins/{plugin}/versions", COMPONENT, 200),
    (
        "POST /settings/webhooks/plugins/{plugin}/versions/{digest}/dry-run",
        "on=past&type=incident.created&data=&event_id={event}&settings=&endpoint=",
        200,
    ),
    ("POST /settings/webhooks/plugins/{plugin}/versions/{digest}/replay", "endpoint={endpoint}&last=10&settings=", 200),
    (
        "POST /settings/webhooks/endpoints/{endpoint}/plugins",
        "row=new&plugin={plugin}&version={digest}&settings=&on_error=retry&percent=&baseline=&order=1",
        200,
    ),
    ("POST /settings/webhooks/endpoints/{endpoint}/delete", "", 303),
    ("POST /settings/webhooks/plugins/{plugin}/versions/{digest}/delete", "", 303),
    ("POST /settings/webhooks/plugins/{plugin}/delete", "", 303),
    ("POST /settings/sign-out", "", 401),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_refused_to_whom_it_is_not_for() {
    let mut world = World::new().await;
    assert_all_known(&world).await;
    let pages: Vec<Page> = PAGES.iter().map(Page::of).collect();
    let visitors = Visitors::of(&world).await;
    let before = world.everything().await;
    for page in &pages {
        is_refused_to_strangers(&world, &visitors, page).await;
        takes_no_forgery(&world, &visitors, page).await;
        tells_nothing_of_others(&world, &visitors, page).await;
    }
    assert_eq!(world.everything().await, before, "something came of what was refused");
    world.component = component("only-matching");
    for page in &pages {
        visitors.alice.ask(&world, page, &world.own).await.expect(page.granted);
    }
    println!("tenancy: {} pages, {} requests", pages.len(), world.asked.get());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_link_looks_like_none_and_files_are_everybodys() {
    let host = Host::start().await;
    let acme = host.tenant("acme").await;
    let (used, good) = (acme.portal_link().await, acme.portal_link().await);
    let path = |link: &str| link[host.url().len()..].to_owned();
    let anyone = host.anyone();
    anyone.get(&path(&used)).await.expect(303);
    let key = used.rsplit('/').next().unwrap();
    let mut refused = Vec::new();
    for key in [key, &"k".repeat(key.len())] {
        let reply = anyone.get(&format!("/settings/sign-in/{key}")).await.expect(401);
        assert_eq!(reply.header("set-cookie"), None);
        refused.push(Seen::of(&reply, &["{key}"], &Ids::from([("key", key.to_owned())])));
    }
    assert_eq!(refused[0], refused[1]);
    anyone.get(&path(&good)).await.expect(303);
    anyone.get("/settings/assets/settings.css").await.expect(200);
    anyone.get("/settings/assets/settings.txt").await.expect(404);
}

/// Fails for a route of the host that is not in the table, and for one in the table that the host does not have.
async fn assert_all_known(world: &World) {
    let mut routes = BTreeSet::new();
    for path in settings::paths() {
        let parts = path.split('/').map(|part| if part.starts_with('{') { NO_ID } else { part });
        let probe = parts.collect::<Vec<_>>().join("/");
        let reply = world.host.anyone().request("OPTIONS", &probe).send().await.expect(405);
        let allowed = reply.header("allow").expect("what would be allowed").to_owned();
        let methods = allowed.split(',').map(str::trim).filter(|method| *method != "HEAD");
        routes.extend(methods.map(|method| format!("{method} {path}")));
    }
    let known = PAGES.iter().map(|(name, ..)| *name).chain([SIGN_IN, ASSET]).map(str::to_owned);
    assert_eq!(known.collect::<BTreeSet<_>>(), routes, "the table and the host's routes");
}

/// How a page is asked for, or a form sent.
struct Page {
    method: &'static str,
    /// With `{names}` of ids, as is what follows.
    path: &'static str,
    /// The query or the form.
    given: &'static str,
    /// The answer to those whom it is for.
    granted: u16,
}

impl Page {
    fn of(&(name, given, granted): &(&'static str, &'static str, u16)) -> Self {
        let (method, path) = name.split_once(' ').unwrap();
        Self { method, path, given, granted }
    }

    fn is_form(&self) -> bool {
        self.method == "POST"
    }
}

/// Somebody with what their browser has.
#[derive(Clone)]
struct Visitor {
    client: Client,
    cookie: Option<String>,
    /// Of a page that they saw.
    csrf: String,
}

struct Visitors {
    alice: Visitor,
    /// Those without a session, or with one that ended.
    nobodies: Vec<Visitor>,
    /// Alice with a token that is not of her session's pages.
    forgers: Vec<Visitor>,
}

impl Visitors {
    async fn of(world: &World) -> Self {
        let (alice, again) = (session(world, &world.alice).await, session(world, &world.alice).await);
        let (ended, bobby) = (session(world, &world.alice).await, session(world, &world.bobby).await);
        let page = Page { method: "POST", path: "/settings/sign-out", given: "", granted: 401 };
        ended.ask(world, &page, &world.own).await.expect(page.granted);
        let bare = |client: Client| Visitor { client, cookie: None, csrf: alice.csrf.clone() };
        let nobodies = vec![
            bare(world.host.anyone()),
            bare(world.host.operator()),
            bare(world.bearer(&world.alice)),
            Visitor { cookie: Some("revnoxa-session=guessed".to_owned()), ..bare(world.host.anyone()) },
            ended,
        ];
        let forgers = [String::new(), again.csrf, bobby.csrf].map(|csrf| Visitor { csrf, ..alice.clone() });
        Self { nobodies, forgers: forgers.into(), alice }
    }
}

async fn session(world: &World, tenant: &Tenant) -> Visitor {
    let reader = tenant.sign_in().await;
    let cookie = reader.cookies().remove(0);
    let csrf = reader.get("/settings/webhooks").await.expect(200).form("Sign out").value("csrf");
    Visitor { client: world.host.anyone(), cookie: Some(format!("{}={}", cookie.name, cookie.value)), csrf }
}

impl Visitor {
    async fn ask(&self, world: &World, page: &Page, ids: &Ids) -> Reply {
        world.asked.set(world.asked.get() + 1);
        let mut path = filled(page.path, ids);
        if !page.is_form() && !page.given.is_empty() {
            path += &format!("?{}", filled(page.given, ids));
        }
        let mut request = self.client.request(page.method, &path);
        if let Some(cookie) = &self.cookie {
            request = request.header("Cookie", cookie);
        }
        if page.is_form() {
            request = request.header("Origin", &world.host.url());
            request = match page.given {
                COMPONENT => {
                    let request = request.header("X-CSRF-Token", &self.csrf);
                    request.body_of(Some("application/wasm"), world.component.clone())
                }
                COMPONENT_FORM => {
                    request.body_of(Some("multipart/form-data; boundary=b"), multipart(&self.csrf, &world.component))
                }
                form => {
                    let form = format!("csrf={}&{}", self.csrf, filled(form, ids));
                    request.body_of(Some("application/x-www-form-urlencoded"), form)
                }
            };
        }
        request.send().await
    }

    /// The page with the own ids but for these.
    async fn sees(&self, world: &World, page: &Page, chosen: &[&'static str], others: &Ids) -> Seen {
        let ids = swapped(&world.own, chosen, others);
        Seen::of(&self.ask(world, page, &ids).await, &[page.path, page.given], &ids)
    }
}

fn multipart(csrf: &str, component: &[u8]) -> Vec<u8> {
    let part = |head: &str| format!("--b\r\nContent-Disposition: form-data; name={head}\r\n\r\n");
    let (csrf_part, file_part) = (part("\"csrf\""), part("\"component\"; filename=\"p.wasm\""));
    [csrf_part.as_bytes(), csrf.as_bytes(), b"\r\n", file_part.as_bytes(), component, b"\r\n--b--\r\n"].concat()
}

/// Whoever has no session, or one that ended, is told so and nothing else. Tokens of the API open no page.
async fn is_refused_to_strangers(world: &World, visitors: &Visitors, page: &Page) {
    let names = all_names(page);
    for nobody in &visitors.nobodies {
        let own = nobody.sees(world, page, &names, &world.own).await;
        assert_eq!(own.status, 401, "{} {}: {}", page.method, page.path, own.body);
        for others in [&world.foreign, &world.absent] {
            assert_eq!(nobody.sees(world, page, &names, others).await, own, "{} {}", page.method, page.path);
        }
    }
}

/// A form whose token is not of the session's pages changes nothing, and tells nothing of others.
async fn takes_no_forgery(world: &World, visitors: &Visitors, page: &Page) {
    if !page.is_form() {
        return;
    }
    let names = all_names(page);
    for forger in &visitors.forgers {
        let own = forger.sees(world, page, &names, &world.own).await;
        assert_eq!(own.status, 403, "{} {}: {}", page.method, page.path, own.body);
        let foreign = forger.sees(world, page, &names, &world.foreign).await;
        let absent = forger.sees(world, page, &names, &world.absent).await;
        assert_eq!(foreign, absent, "{} {}", page.method, page.path);
        assert!([403, 404].contains(&foreign.status), "{} {} answered {}", page.method, page.path, foreign.status);
    }
}

/// A session sees no difference between ids of another tenant's things and ids of none.
async fn tells_nothing_of_others(world: &World, visitors: &Visitors, page: &Page) {
    let in_path = names_in(page.path);
    for chosen in choices(&all_names(page)) {
        let foreign = visitors.alice.sees(world, page, &chosen, &world.foreign).await;
        let absent = visitors.alice.sees(world, page, &chosen, &world.absent).await;
        assert_eq!(foreign, absent, "{} {} with another's {chosen:?}", page.method, page.path);
        if chosen.iter().any(|name| in_path.contains(name)) {
            assert_eq!(absent.status, 404, "{} {} with another's {chosen:?}: {}", page.method, page.path, absent.body);
        }
    }
    for name in in_path {
        let none = visitors.alice.sees(world, page, &[name], &Ids::from([(name, NO_ID.to_owned())])).await;
        assert_eq!(none.status, 404, "{} {} with {NO_ID} for {name}: {}", page.method, page.path, none.body);
    }
}

fn all_names(page: &Page) -> Vec<&'static str> {
    let mut names = names_in(page.path);
    names.extend(names_in(page.given));
    names
}
