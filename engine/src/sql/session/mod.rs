//! Everything between the protocol and the statement: transaction blocks, settings, prepared statements, portals.

pub mod output;

pub mod backends;

pub use backends::{Backend, Backends};
pub use output::{CopyInput, Format, Formats, Gone, Output};
