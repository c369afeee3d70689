//! Everything between the protocol and the statement: transaction blocks, settings, prepared statements, portals.
//!
//! A [`Session`] belongs to one client. It turns messages into statements, statements into plans and executions, and
//! errors into what they mean for the transaction. What it runs on comes in through [`Services`]; how it speaks to its
//! client is [`Output`]. Of its socket it knows the options that settings are for (`client_socket`), of pages nothing. A
//! crash loses all of it, and that is right.
//!
//! Reading order: `output` and `services` (both sides), `facts` (who this is), `block` (the transaction), `query`
//! (one planned statement), `utility` and `settings` (the others), `prepared`, `shapes`, then `simple`, `portal` (Bind) and
//! `extended`.

pub mod output;
pub mod services;

pub mod backends;
pub mod client_socket;
pub mod facts;

mod block;
mod lifecycle;
mod logging;

mod prepared;
pub mod query;
mod references;
mod settings;
mod sink;
mod transaction;
mod utility;

pub mod copy;
mod cursor;
mod explain;
mod extended;
mod given;
mod portal;
mod scroll;
mod shapes;
mod simple;

pub use backends::{Backend, Backends};
pub use copy::CopyPort;
pub use facts::SessionFacts;
pub use lifecycle::{Session, functions_of};
pub use output::{CopyInput, Format, Formats, Gone, Output};
pub use portal::BindRequest;
pub use services::{Services, UtilityCall};
pub use settings::{join_values, refused as settings_error};
pub use transaction::commit_level;
