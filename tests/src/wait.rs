use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long a test waits for something that should happen at once; past it the test fails and says for what.
///
/// Generous, since two cores run many hosts side by side; a passing test never uses it up.
pub const WAIT: Duration = Duration::from_secs(20);

/// Asks `check` again and again until it gives `Some`, and fails the test after [`WAIT`], naming `what`.
pub async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {WAIT:?} in vain for: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}
