//! A walsender connection as the replication room sees it: bytes out, messages in, in both directions at once.

use std::io;

use bytes::{Bytes, BytesMut};

use super::connection::{Connection, ReadError};
use crate::replication::reply::Link;

impl Link for Connection {
    fn out(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    async fn flush(&mut self) -> io::Result<()> {
        Connection::flush(self).await
    }

    async fn receive(&mut self) -> io::Result<Option<(u8, Bytes)>> {
        match self.frame(None).await {
            Ok(frame) => Ok(frame.map(|f| (f.tag, Bytes::from(f.body)))),
            Err(ReadError::Io(e)) => Err(e),
            Err(ReadError::Cut) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(ReadError::Protocol(e)) => Err(io::Error::new(io::ErrorKind::InvalidData, e)),
        }
    }
}
