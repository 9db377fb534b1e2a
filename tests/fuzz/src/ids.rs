use std::fmt::{Debug, Display};
use std::str::FromStr;

use revnoxa_host::domain::event::EventType;
use revnoxa_host::domain::id::{DeliveryId, EndpointId, EventId, TenantId, TokenId};
use revnoxa_host::domain::plugin::{PluginName, Version};
use revnoxa_host::domain::token;
use revnoxa_host::store::Cursor;

use super::text;

/// Ids, names, cursors and tokens as callers send them: each has one spelling.
pub fn ids(input: &[u8]) {
    let Some(text) = text(input) else { return };
    has_one_spelling::<TenantId>(text, 63);
    has_one_spelling::<EventId>(text, 128);
    has_one_spelling::<EventType>(text, 64);
    has_one_spelling::<PluginName>(text, 63);
    has_one_spelling::<DeliveryId>(text, 36);
    has_one_spelling::<EndpointId>(text, 35);
    has_one_spelling::<TokenId>(text, 36);
    has_one_spelling::<Version>(text, 71);
    has_one_spelling::<Cursor<DeliveryId>>(text, 256);
    has_one_spelling::<Cursor<EventType>>(text, 256);
    has_one_spelling::<Cursor<TenantId>>(text, 256);
    if let Some(bearer) = token::bearer(text) {
        assert_eq!(bearer, bearer.trim());
        assert!(text[..7].eq_ignore_ascii_case("bearer ") && text.trim_end().ends_with(bearer));
        assert_eq!(token::bearer(&format!("bEARER {bearer}")), Some(bearer));
    }
}

fn has_one_spelling<T: FromStr + Display + Debug + PartialEq>(text: &str, longest: usize) {
    let Ok(parsed) = text.parse::<T>() else { return };
    assert_eq!(parsed.to_string(), text);
    assert!(text.len() <= longest && text.is_ascii(), "{parsed:?}");
    assert_eq!(text.parse::<T>().ok(), Some(parsed));
}
