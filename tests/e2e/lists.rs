//! Lists come in pages that link to each other (RFC 8288).

use std::collections::{BTreeMap, BTreeSet};

use revnoxa_tests::{Host, Receiver, Reply};
use serde_json::{Value, json};

use crate::plugin_flow::plugin;

#[tokio::test(flavor = "multi_thread")]
async fn every_list_is_walked_by_its_links() {
    let host = Host::start().await;
    let receiver = Receiver::answering([200]).await;
    let acme = host.tenant("acme").await;
    host.tenant("bob").await;
    let (endpoint, other) = (acme.endpoint(&receiver).await, acme.endpoint(&receiver).await);
    let mut events = Vec::new();
    for _ in 0..3 {
        let event = acme.event("incident.created", json!({})).await;
        endpoint.delivery_in("succeeded", &event).await;
        other.delivery_in("succeeded", &event).await;
        events.push(event);
    }
    plugin(&acme, "mine", &["redact-fields", "only-matching"]).await;
    let operator = host.operator();
    operator.post("/v1/tenants/acme/tokens", json!({})).await.expect(201);
    operator.post("/v1/tokens", json!({"scope": "producer"})).await.expect(201);

    let (deliveries, filter) =
        (format!("endpoints/{}/deliveries", endpoint.id), "type=incident.created&state=succeeded");
    let lists = [
        ("/v1/tenants", "/v1/tenants".to_owned()),
        ("/v1/tokens", "/v1/tokens".to_owned()),
        ("/v1/event-types", "/v1/event-types".to_owned()),
        ("/v1/tenants/{tenant}/tokens", "/v1/tenants/acme/tokens".to_owned()),
        ("/v1/tenants/{tenant}/endpoints", "/v1/tenants/acme/endpoints".to_owned()),
        ("/v1/tenants/{tenant}/endpoints/{endpoint}/deliveries", format!("/v1/tenants/acme/{deliveries}?{filter}")),
        (
            "/v1/tenants/{tenant}/events/{event}/deliveries",
            format!("/v1/tenants/acme/events/{}/deliveries?after=2026-01-01T00:00:00%2B01:00", events[0].id),
        ),
        ("/v1/tenants/{tenant}/plugins", "/v1/tenants/acme/plugins".to_owned()),
        ("/v1/tenants/{tenant}/plugins/{plugin}/versions", "/v1/tenants/acme/plugins/mine/versions".to_owned()),
    ];
    let document = host.anyone().get("/openapi.json").await.expect(200).json;
    let described: BTreeSet<&str> = lists_of(&document).collect();
    assert_eq!(lists.iter().map(|(list, _)| *list).collect::<BTreeSet<_>>(), described);
    for (list, path) in &lists {
        let answer = document["paths"][list]["get"]["responses"]["200"]["headers"]["Link"]["$ref"].as_str();
        let header =
            document.pointer(answer.unwrap_or_else(|| panic!("{list} without its link")).trim_start_matches('#'));
        assert!(header.is_some_and(|header| header["description"].is_string()), "{list}: {header:?}");

        let all = operator.all(path).await;
        assert!(all.len() >= 2, "{path}: {all:?}");
        let joint = if path.contains('?') { '&' } else { '?' };
        let mut next = Some(format!("{path}{joint}limit=1"));
        let mut walked = Vec::new();
        while let Some(address) = next {
            let page = operator.get(&address).await.expect(200);
            let links = links(&page);
            let items = page["items"].as_array().unwrap();
            assert_eq!(items.len(), 1, "{address}");
            walked.extend_from_slice(items);
            let first = operator.get(&links["first"]).await.expect(200);
            assert_eq!((&first["items"][0], first["items"][1].is_null()), (&all[0], true), "{address}");
            assert_eq!(links.contains_key("next"), page["next_cursor"].is_string(), "{address}: {links:?}");
            next = links.get("next").cloned();
        }
        assert_eq!(walked, all, "{path}");
    }
}

/// Paths whose GET can be asked for by `cursor`.
fn lists_of(document: &Value) -> impl Iterator<Item = &str> {
    let paths = document["paths"].as_object().expect("paths");
    let paged = paths.iter().filter(|(_, item)| {
        let parameters = item["get"]["parameters"].as_array();
        parameters.is_some_and(|all| all.iter().any(|parameter| parameter["name"] == "cursor"))
    });
    paged.map(|(path, _)| path.as_str())
}

/// Targets of the `Link` header by relation.
fn links(reply: &Reply) -> BTreeMap<String, String> {
    let header = reply.header("link").unwrap_or_else(|| panic!("{} has no links", reply.call));
    let link = |link: &str| {
        let (target, relation) = link.split_once("; rel=").expect("a relation");
        let target = target.strip_prefix('<').and_then(|target| target.strip_suffix('>')).expect("a target");
        (relation.trim_matches('"').to_owned(), target.to_owned())
    };
    header.split(", ").map(link).collect()
}
