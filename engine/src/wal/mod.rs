//! The write-ahead log: PostgreSQL 15's framing, our payloads.
