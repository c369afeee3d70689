//! What a session says to its client, and hears from it during COPY. `server` implements it over a socket, tests over
//! a vector. The session decides what is said and when; how it travels is not known here.

use std::future::Future;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::ids::Oid;
use crate::sql::bound::OutputColumn;
use crate::sql::error::SqlError;
use crate::types::datum::Datum;
use crate::types::function::FunctionCx;

/// How a value travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    #[default]
    Text,
    Binary,
}

/// The result formats of a portal as Bind gave them: none is text, one stands for all columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Formats(FormatList);

/// Nearly every client sends none or one.
pub type FormatList = SmallVec<[Format; 8]>;

impl Formats {
    pub fn new(formats: impl Into<FormatList>) -> Formats {
        Formats(formats.into())
    }

    #[inline]
    pub fn of(&self, column: usize) -> Format {
        match self.0.len() {
            0 => Format::Text,
            1 => self.0[0],
            _ => self.0.get(column).copied().unwrap_or_default(),
        }
    }

    /// The same of parameter formats.
    pub fn check_parameters(&self, parameters: usize) -> Result<(), SqlError> {
        if self.0.len() > 1 && self.0.len() != parameters {
            return Err(SqlError::new(
                crate::sql::error::state::PROTOCOL_VIOLATION,
                format!(
                    "bind message has {} parameter formats but {parameters} parameters",
                    self.0.len()
                ),
            ));
        }
        Ok(())
    }

    /// Bind must give none, one, or one for each column.
    pub fn check(&self, columns: usize) -> Result<(), SqlError> {
        if self.0.len() > 1 && self.0.len() != columns {
            return Err(SqlError::new(
                crate::sql::error::state::PROTOCOL_VIOLATION,
                format!(
                    "bind message has {} result formats but query has {columns} columns",
                    self.0.len()
                ),
            ));
        }
        Ok(())
    }
}

/// The client is gone; nothing more can be said to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("connection to client lost")]
pub struct Gone;

/// What a client sends while COPY FROM STDIN runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyInput {
    Data(Bytes),
    Done,
    /// The client gives up, with its reason.
    Fail(String),
}

pub trait Output: Send {
    fn row_description(&mut self, columns: &[OutputColumn], formats: &Formats);
    /// One row; `types` are the columns' types. An error leaves nothing of it behind.
    fn data_row(
        &mut self,
        row: &[Datum],
        types: &[Oid],
        formats: &Formats,
        cx: &FunctionCx,
    ) -> Result<(), SqlError>;
    fn command_complete(&mut self, tag: &str);
    fn empty_query(&mut self);
    fn portal_suspended(&mut self);
    fn parameter_description(&mut self, types: &[Oid]);
    fn no_data(&mut self);
    fn notice(&mut self, notice: &SqlError);
    fn error(&mut self, error: &SqlError);
    fn parameter_status(&mut self, name: &str, value: &str);

    fn copy_in(&mut self, format: Format, columns: usize);
    fn copy_out(&mut self, format: Format, columns: usize);
    fn copy_data(&mut self, data: &[u8]);
    fn copy_done(&mut self);

    /// So much is waiting that it should be flushed before more is added.
    fn is_full(&self) -> bool;
    /// Sends everything.
    fn flush(&mut self) -> impl Future<Output = Result<(), Gone>> + Send;
    /// The next message of COPY FROM STDIN. Flush and Sync in between are passed over, as the protocol says.
    fn receive_copy(&mut self) -> impl Future<Output = Result<CopyInput, SqlError>> + Send;
}
