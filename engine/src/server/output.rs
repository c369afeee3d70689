//! What a session says, encoded into the connection's buffer.

use bytes::Bytes;

use super::connection::{Connection, FULL, ReadError};
use super::log;
use super::protocol::ProtocolError;
use super::protocol::backend::{self, CopyKind, Field, RowWriter};
use super::protocol::frontend::Message;
use crate::ids::Oid;
use crate::sql::bound::OutputColumn;
use crate::sql::error::{SqlError, no_binary_output, state};
use crate::sql::session::output::{CopyInput, Format, Formats, Gone, Output};
use crate::types::codec;
use crate::types::datum::Datum;
use crate::types::function::FunctionCx;

/// PostgreSQL's largest allocation: no row and no value may be longer.
const MAX_ROW: usize = 0x3fff_ffff;

impl Output for Connection {
    fn row_description(&mut self, columns: &[OutputColumn], formats: &Formats) {
        let fields = columns.iter().enumerate().map(|(i, c)| Field {
            name: &c.name,
            table: c.table.raw(),
            attribute: c.attribute,
            type_oid: c.ty.oid.raw(),
            type_size: crate::types::registry::by_oid(c.ty.oid).map_or(-1, |t| t.length),
            modifier: c.ty.modifier,
            format: formats.of(i),
        });
        backend::row_description(&mut self.output, fields);
    }

    fn data_row(
        &mut self,
        row: &[Datum],
        types: &[Oid],
        formats: &Formats,
        cx: &FunctionCx,
    ) -> Result<(), SqlError> {
        let mut writer = RowWriter::new(&mut self.output, row.len());
        for (i, (value, ty)) in row.iter().zip(types).enumerate() {
            if value.is_null() {
                writer.null();
                continue;
            }
            match formats.of(i) {
                Format::Text => {
                    if let Err(error) = codec::check_text(value, cx) {
                        writer.abandon();
                        return Err(error.into());
                    }
                    writer.value(|out| codec::write_text(*ty, value, out, cx));
                }
                Format::Binary if !codec::has_binary(value) => {
                    writer.abandon();
                    return Err(no_binary_output());
                }
                Format::Binary => writer.value(|out| codec::encode_binary(*ty, value, out)),
            }
            if writer.length() > MAX_ROW {
                writer.abandon();
                return Err(
                    SqlError::new(state::PROGRAM_LIMIT_EXCEEDED, "out of memory")
                        .detail("A row of the result is longer than 1 GB."),
                );
            }
        }
        writer.finish();
        Ok(())
    }

    fn command_complete(&mut self, tag: &str) {
        backend::command_complete(&mut self.output, tag);
    }
    fn empty_query(&mut self) {
        backend::empty_query(&mut self.output);
    }
    fn portal_suspended(&mut self) {
        backend::portal_suspended(&mut self.output);
    }
    fn parameter_description(&mut self, types: &[Oid]) {
        backend::parameter_description(&mut self.output, types.iter().map(|t| t.raw()));
    }
    fn no_data(&mut self) {
        backend::no_data(&mut self.output);
    }
    fn notice(&mut self, notice: &SqlError) {
        backend::notice_response(&mut self.output, notice);
    }
    fn error(&mut self, error: &SqlError) {
        backend::error_response(&mut self.output, error);
    }
    fn parameter_status(&mut self, name: &str, value: &str) {
        if name == "application_name" {
            log::application_changed(value);
        }
        backend::parameter_status(&mut self.output, name, value);
    }

    fn copy_in(&mut self, format: Format, columns: usize) {
        let columns = u16::try_from(columns).unwrap_or(u16::MAX);
        backend::copy_response(&mut self.output, CopyKind::In, format, columns);
    }
    fn copy_out(&mut self, format: Format, columns: usize) {
        let columns = u16::try_from(columns).unwrap_or(u16::MAX);
        backend::copy_response(&mut self.output, CopyKind::Out, format, columns);
    }
    fn copy_data(&mut self, data: &[u8]) {
        backend::copy_data(&mut self.output, data);
    }
    fn copy_done(&mut self) {
        backend::copy_done(&mut self.output);
    }

    fn is_full(&self) -> bool {
        self.output.len() >= FULL
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        self.flush_unless_ended().await.map_err(|_| Gone)
    }

    async fn receive_copy(&mut self) -> Result<CopyInput, SqlError> {
        let interrupts = self.interrupts.clone();
        let interrupted = async {
            match &interrupts {
                Some(interrupts) => interrupts.wait().await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(interrupted);
        loop {
            let frame = tokio::select! {
                biased;
                frame = self.frame(None) => frame,
                interrupt = &mut interrupted => return Err(interrupt.into()),
            };
            let frame = match frame {
                Ok(Some(frame)) => frame,
                Ok(None) | Err(ReadError::Cut | ReadError::Io(_)) => {
                    return Err(SqlError::fatal(
                        state::CONNECTION_FAILURE,
                        "unexpected EOF on client connection with an open transaction",
                    ));
                }
                Err(ReadError::Protocol(e)) => return Err(protocol_error(&e)),
            };
            if frame.tag == b'd' {
                return Ok(CopyInput::Data(Bytes::from(frame.body)));
            }
            if !matches!(frame.tag, b'c' | b'f' | b'H' | b'S') {
                // Nobody can tell where the data would end: the stream has lost its step.
                return Err(SqlError::fatal(
                    state::PROTOCOL_VIOLATION,
                    format!(
                        "unexpected message type 0x{:02X} during COPY from stdin",
                        frame.tag
                    ),
                ));
            }
            match frame.message().map_err(|e| protocol_error(&e))? {
                Message::CopyDone => return Ok(CopyInput::Done),
                Message::CopyFail(why) => return Ok(CopyInput::Fail(why.to_owned())),
                _ => {}
            }
        }
    }
}

/// As an error that goes to the client; FATAL where the stream cannot be trusted any more.
pub fn protocol_error(e: &ProtocolError) -> SqlError {
    if e.ends_connection() {
        SqlError::fatal(e.sqlstate(), e.to_string())
    } else {
        SqlError::new(e.sqlstate(), e.to_string())
    }
}
