//! Walsender, walreceiver, slots, base backup.
//!
//! Reading order: `messages` (what travels), `connect`, `client` and `receiver` (the standby's side), `reply`, `standbys`,
//! `slots`, `sender` and `base_backup` (the primary's side).

pub mod base_backup;
pub mod client;
pub mod clock;
mod connect;
pub mod error;
pub mod messages;
pub mod receiver;
pub mod recovery_link;
pub mod reply;
pub mod sender;
pub mod slots;
pub mod standbys;
mod standstill;
