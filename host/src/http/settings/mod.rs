//! The page Settings › Webhooks.

#[cfg_attr(not(test), expect(dead_code, reason = "no page shows it yet"))]
mod chart;
