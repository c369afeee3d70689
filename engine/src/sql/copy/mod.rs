//! COPY: rows to and from text, CSV and PostgreSQL's binary form.
//!
//! `COPY FROM` is pushed: the session hands over the bytes that the client sent and gets control back when the whole
//! rows among them are written, which is the back-pressure. `COPY TO` is a row sink's formatter: the session plans
//! [`to::table_query`] or the statement's query and lets [`to::CopyTo`] write each row. Nothing here knows a socket; a file of
//! the server takes the client's place (`file`).

mod binary;
mod csv;
mod file;
pub mod from;
mod lines;
pub mod options;
mod run;
pub mod to;

#[cfg(test)]
mod tests;

pub use from::{CopyFrom, CopyTarget};
pub use options::{CopyFormat, CopyOptions, Header};
pub use run::{CatalogOf, Copied, CopyCall, run};
pub use to::CopyTo;
