//! TLS: certificates, the files that they come in, and what both ends of a connection are configured with.
//!
//! The cryptography is `rustls`'s. Here stands what PostgreSQL adds: which files are read and who may read them, how
//! names in certificates are shown and compared, channel binding. Knows no protocol message, no role and no session;
//! the server's socket is in `server`, the client's in `replication`.

pub mod certificate;

pub mod files;

pub mod versions;

pub mod server;

pub mod client;

pub mod facts;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// One for the whole program, named wherever one is needed: nothing depends on which is the process's default.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}
