//! Settings, their files and their meaning; `pg_hba.conf`; connection strings.
//!
//! [`registry`] says which settings exist, [`store`] reads the files and holds the server's values,
//! [`session`] lays a session's own over them. Nothing here opens a socket or knows a page.

pub mod definition;
pub mod error;
pub mod registry;
pub mod value;

pub mod checks;
pub mod date_style;
pub mod keep_alive;
pub mod shell_command;

pub mod server;
pub mod session;
pub mod store;

pub mod auto_conf;
pub mod conf_file;
pub mod recovery_conf;

pub mod conninfo;
pub mod hba;
pub mod scram;

#[cfg(test)]
mod tests;

pub use date_style::{DateOrder, DateStyle, IntervalStyle};
pub use definition::{Context, Definition, SettingId};
pub use error::{ConfigError, SettingError};
pub use keep_alive::KeepAlive;
pub use server::ServerSettings;
pub use session::{Asker, SessionSettings, SessionStore, StoredFor};
pub use store::Settings;
pub use value::Value;
