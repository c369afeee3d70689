//! Times as the replication protocol has them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds between the Unix epoch and 2000-01-01.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Microseconds since 2000-01-01 UTC.
pub fn now_micros() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX) - POSTGRES_EPOCH_MICROS
}
