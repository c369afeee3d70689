//! Rows of an execution on their way to the client.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::output::{Formats, Output};
use crate::ids::Oid;
use crate::sql::bound::OutputColumn;
use crate::sql::error::{SqlError, state};
use crate::sql::exec::{RowSink, SinkState};
use crate::types::datum::Datum;
use crate::types::function::FunctionCx;

pub struct ClientSink<'a, O: Output> {
    out: &'a mut O,
    types: Arc<[Oid]>,
    formats: &'a Formats,
    cx: &'a FunctionCx,
    /// RowDescription comes first (simple protocol); in the extended one Describe has given it.
    announce: bool,
}

impl<'a, O: Output> ClientSink<'a, O> {
    pub fn new(
        out: &'a mut O,
        types: Arc<[Oid]>,
        formats: &'a Formats,
        cx: &'a FunctionCx,
        announce: bool,
    ) -> ClientSink<'a, O> {
        ClientSink {
            out,
            types,
            formats,
            cx,
            announce,
        }
    }
}

impl<O: Output> RowSink for ClientSink<'_, O> {
    fn columns(&mut self, columns: &[OutputColumn]) {
        if self.announce {
            self.out.row_description(columns, self.formats);
        }
    }

    fn row(&mut self, row: &[Datum]) -> Result<SinkState, SqlError> {
        self.out.data_row(row, &self.types, self.formats, self.cx)?;
        Ok(if self.out.is_full() {
            SinkState::Full
        } else {
            SinkState::More
        })
    }

    fn ready(&mut self) -> Pin<Box<dyn Future<Output = Result<(), SqlError>> + Send + '_>> {
        Box::pin(async { self.out.flush().await.map_err(|_| gone()) })
    }
}

/// The client went away while rows were sent to it.
pub fn gone() -> SqlError {
    SqlError::fatal(state::CONNECTION_FAILURE, "connection to client lost")
}
