//! What the transaction manager keeps for each session across its transactions.

/// A session (or background worker) as the lock manager and the release queue know it.
#[derive(Debug, Default)]
pub struct Participant {}
