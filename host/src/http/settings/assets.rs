//! Files that the pages load: a part of the program.

use std::fmt::Write;
use std::sync::LazyLock;

use axum::extract::{Path, RawQuery};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::super::problem::Problem;
use super::PageError;

struct Asset {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
    /// Of its bytes: another version has another address.
    digest: String,
}

const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

macro_rules! asset {
    ($name:literal) => {
        include_str!(concat!("../../../assets/", $name))
    };
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let files = [
        (
            "settings.css",
            CSS,
            concat!(asset!("settings.css"), asset!("chart.css"), asset!("debugger.css"), asset!("plugins.css")),
        ),
        ("icon.svg", "image/svg+xml", asset!("icon.svg")),
        ("settings.js", JS, asset!("settings.js")),
        ("plugins.js", JS, asset!("plugins.js")),
        ("debugger.js", JS, asset!("debugger.js")),
        ("diagnose.js", JS, asset!("diagnose.js")),
        ("diagnose-body.js", JS, asset!("diagnose-body.js")),
        ("diagnose-headers.js", JS, asset!("diagnose-headers.js")),
        ("diagnose-json.js", JS, asset!("diagnose-json.js")),
        ("diagnose-match.js", JS, asset!("diagnose-match.js")),
        ("diagnose-secret.js", JS, asset!("diagnose-secret.js")),
        ("diagnose-text.js", JS, asset!("diagnose-text.js")),
        ("webhook-verifier.js", JS, asset!("webhook-verifier.js")),
    ];
    let asset = |(name, kind, text): (&'static str, &'static str, &'static str)| {
        let mut digest = String::new();
        for byte in &Sha256::digest(text)[..8] {
            write!(digest, "{byte:02x}").expect("a String takes all");
        }
        Asset { name, kind, text, digest }
    };
    files.into_iter().map(asset).collect()
});

/// The address of a file: of this very version, so that browsers may keep it.
pub(super) fn address(name: &str) -> String {
    let asset = ASSETS.iter().find(|asset| asset.name == name);
    let digest = asset.map(|asset| asset.digest.as_str()).unwrap_or_default();
    format!("/settings/assets/{name}?v={digest}")
}

/// Without its version, as modules name each other, a file is asked for each time, and answered 304 if it is the same.
pub(super) async fn serve(Path(name): Path<String>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return PageError(Problem::NotFound).into_response();
    };
    let etag = format!("\"{}\"", asset.digest);
    let this_version = query.as_deref() == Some(&format!("v={}", asset.digest));
    let cache = if this_version { "public, max-age=31536000, immutable" } else { "no-cache" };
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes());
    let about = [(header::CACHE_CONTROL, cache.to_owned()), (header::ETAG, etag)];
    if known {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    (about, [(header::CONTENT_TYPE, asset.kind)], asset.text).into_response()
}
