//! Whether a component fits the contract, in words for its author.

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::{ComponentFunc, ComponentItem};

use super::Refused;
use super::contract::handler::{Event, Verdict};
use super::contract::{HANDLER, LOG, VERSION};

/// WASI 0.2 without HTTP.
const WASI: [&str; 6] = ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];

/// Refuses other imports than a plugin may have, other versions of the contract, and what does not export its handler.
pub(super) fn check(engine: &Engine, component: &Component) -> Result<(), Refused> {
    let ty = component.component_type();
    for (name, _) in ty.imports(engine) {
        let wasi = WASI.iter().any(|package| name.starts_with(package)) && name.contains("@0.2.");
        let known = wasi || interface(name)? == Some(LOG);
        if !known {
            return Err(Refused::Import(name.to_owned()));
        }
    }
    for (name, export) in ty.exports(engine) {
        if interface(name)? != Some(HANDLER) {
            continue;
        }
        let function = match &export.ty {
            ComponentItem::ComponentInstance(instance) => instance.get_export(engine, "handle").map(|export| export.ty),
            _ => None,
        };
        let wrong = |how: &dyn std::fmt::Display| Refused::Contract(format!("`handle` of `{name}`: {how}"));
        let Some(ComponentItem::ComponentFunc(function)) = function else { return Err(wrong(&"it is not exported")) };
        return handles(&function, &ty).map_err(|error| wrong(&format_args!("{error:#}")));
    }
    Err(Refused::Contract(format!("it does not export `{HANDLER}@{VERSION}`")))
}

/// wasmtime checks the types of a function only when it is taken out of an instance; this is the same check, on none.
fn handles(function: &ComponentFunc, ty: &wasmtime::component::types::Component) -> wasmtime::Result<()> {
    function.typecheck::<(Event<'_>, &str), (Result<Verdict, String>,)>(&ty.instance_type())
}

/// The name of an interface of ours without its version; `None`: it is not of ours.
fn interface(name: &str) -> Result<Option<&str>, Refused> {
    if !name.starts_with("revnoxa:webhook/") {
        return Ok(None);
    }
    let (interface, version) = name.split_once('@').unwrap_or((name, ""));
    let patch = version.strip_prefix("1.0.").filter(|patch| patch.parse::<u32>().is_ok());
    match patch {
        Some(_) => Ok(Some(interface)),
        None => Err(Refused::ContractVersion { found: name.to_owned(), runs: VERSION }),
    }
}

/// An import that is not there, or not with these types. wasmtime puts names between backticks.
pub(super) fn not_linked(error: &wasmtime::Error) -> Refused {
    let text = format!("{error:#}");
    match text.split('`').nth(1) {
        Some(name) if !name.starts_with("revnoxa:") => Refused::Import(name.to_owned()),
        _ => Refused::Contract(text),
    }
}
