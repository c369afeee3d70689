//! Walsender, walreceiver, slots, base backup.
