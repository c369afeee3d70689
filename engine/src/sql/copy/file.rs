//! A file of the server at the other end of a COPY, in the client's place.
//!
//! It is any file that the server's user may open, and nothing of the data directory's `Disk`: devices too, so it is read
//! and written from its start to its end. What a COPY TO has written before an error stays, as PostgreSQL leaves it.

use std::fs::{self, File, OpenOptions};
use std::future::{self, Future};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use crate::config::conf_file::os_message;
use crate::sql::error::{SqlError, state};
use crate::sql::exec::ExecCx;
use crate::sql::maintenance::blocking;
use crate::sql::session::{CopyInput, CopyPort, Format};
use crate::txn::Interrupts;

/// Bytes read at a time, and gathered before a write.
const CHUNK: usize = 64 << 10;
/// What everybody may read and the server's user alone may write.
const MODE: u32 = 0o644;

pub struct ServerFile {
    file: File,
    interrupts: Arc<Interrupts>,
    pending: Vec<u8>,
}

/// `errcode_for_file_access`
fn state_of(e: &io::Error) -> &'static str {
    match e.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            state::INSUFFICIENT_PRIVILEGE
        }
        ErrorKind::NotFound => state::UNDEFINED_FILE,
        ErrorKind::NotADirectory | ErrorKind::IsADirectory => state::WRONG_OBJECT_TYPE,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => state::DISK_FULL,
        _ => state::IO_ERROR,
    }
}

fn failed(what: &str, e: &io::Error) -> SqlError {
    SqlError::new(state_of(e), format!("{what}: {}", os_message(e)))
}

/// Waiting for the other end of a pipe could not be interrupted.
fn refuse_pipe(name: &str, path: &Path) -> Result<(), SqlError> {
    if fs::metadata(path).is_ok_and(|known| known.file_type().is_fifo()) {
        return Err(SqlError::unsupported(format!(
            "COPY with the pipe \"{name}\" is not supported"
        ))
        .hint("Use COPY with STDIN or STDOUT, or psql's \\copy."));
    }
    Ok(())
}

impl ServerFile {
    /// For COPY FROM. A relative path counts from the data directory.
    pub fn to_read(name: &str, exec: &ExecCx) -> Result<ServerFile, SqlError> {
        let path = match exec.store.disk.root() {
            Some(root) => root.join(name),
            None => PathBuf::from(name),
        };
        refuse_pipe(name, &path)?;
        let opened = blocking(|| File::open(&path));
        let hint = "COPY FROM instructs the PostgreSQL server process to read a file. You may want a client-side \
                    facility such as psql's \\copy.";
        ServerFile::of(name, opened, "reading", hint, exec)
    }

    /// For COPY TO, emptied. A path has to be absolute: another may be a file of the database.
    pub fn to_write(name: &str, exec: &ExecCx) -> Result<ServerFile, SqlError> {
        let path = Path::new(name);
        if !path.is_absolute() {
            return Err(SqlError::new(
                state::INVALID_NAME,
                "relative path not allowed for COPY to file",
            ));
        }
        refuse_pipe(name, path)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(MODE);
        let opened = blocking(|| options.open(path));
        let hint = "COPY TO instructs the PostgreSQL server process to write a file. You may want a client-side \
                    facility such as psql's \\copy.";
        ServerFile::of(name, opened, "writing", hint, exec)
    }

    fn of(
        name: &str,
        opened: io::Result<File>,
        purpose: &str,
        hint: &str,
        exec: &ExecCx,
    ) -> Result<ServerFile, SqlError> {
        let file = opened.map_err(|e| {
            let error = failed(&format!("could not open file \"{name}\" for {purpose}"), &e);
            match e.kind() {
                ErrorKind::NotFound | ErrorKind::PermissionDenied => error.hint(hint),
                _ => error,
            }
        })?;
        let known = file
            .metadata()
            .map_err(|e| failed(&format!("could not stat file \"{name}\""), &e))?;
        if known.is_dir() {
            return Err(SqlError::new(
                state::WRONG_OBJECT_TYPE,
                format!("\"{name}\" is a directory"),
            ));
        }
        Ok(ServerFile {
            file,
            interrupts: Arc::clone(&exec.interrupts),
            pending: Vec::new(),
        })
    }

    fn write(&mut self) -> Result<(), SqlError> {
        self.interrupts.check()?;
        blocking(|| self.file.write_all(&self.pending))
            .map_err(|e| failed("could not write to COPY file", &e))?;
        self.pending.clear();
        Ok(())
    }

    fn read(&mut self) -> Result<CopyInput, SqlError> {
        let mut chunk = vec![0; CHUNK];
        loop {
            self.interrupts.check()?;
            match blocking(|| self.file.read(&mut chunk)) {
                Ok(0) => return Ok(CopyInput::Done),
                Ok(count) => {
                    chunk.truncate(count);
                    return Ok(CopyInput::Data(chunk.into()));
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(failed("could not read from COPY file", &e)),
            }
        }
    }
}

impl CopyPort for ServerFile {
    fn begin_in(&mut self, _: Format, _: usize) {}
    fn begin_out(&mut self, _: Format, _: usize) {}
    fn data(&mut self, bytes: &[u8]) -> bool {
        self.pending.extend_from_slice(bytes);
        self.pending.len() < CHUNK
    }
    fn end_out(&mut self) {}
    fn flush(&mut self) -> Pin<Box<dyn Future<Output = Result<(), SqlError>> + Send + '_>> {
        Box::pin(future::ready(self.write()))
    }
    fn receive(
        &mut self,
    ) -> Pin<Box<dyn Future<Output = Result<CopyInput, SqlError>> + Send + '_>> {
        Box::pin(future::ready(self.read()))
    }
}
