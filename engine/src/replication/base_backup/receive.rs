//! The client's side of `BASE_BACKUP`: a copy of a running server into an empty directory.
//!
//! The archive is taken apart while it comes. Nothing in it is trusted: a path must stay inside the target, and only
//! files and directories are made. The copy is durable when [`receive`] returns; a crash before leaves a directory
//! without `backup_manifest`, which its owner throws away.

use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use bytes::{Buf, Bytes};
use postgres_protocol::message::backend::Message;
use tokio::sync::mpsc;

use crate::config::conninfo::ConnInfo;
use crate::ids::Term;
use crate::io::real::RealDisk;
use crate::io::{Access, Disk};
use crate::replication::client::{Connection, CopyEvent, Identity};
use crate::replication::error::ReplicationError;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct CopyRequest {
    pub conninfo: ConnInfo,
    pub label: String,
    pub fast_checkpoint: bool,
    /// The log that the copy needs comes with it.
    pub wal: bool,
    pub manifest: bool,
    /// For a managed instance: who asks, and the term below which a source is refused.
    pub instance: Option<(String, Term)>,
}

#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error(transparent)]
    Replication(#[from] ReplicationError),
    #[error("could not write \"{}\": {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("invalid archive: {0}")]
    Archive(String),
}

/// Pieces on their way from the connection to the disk.
const QUEUE: usize = 64;
const PIECE: usize = 256 << 10;

/// Copies into `target`, which exists and is empty.
pub async fn receive(request: &CopyRequest, target: &Path) -> Result<(), CopyError> {
    let mut connection = connect(request).await?;
    connection.send_command(&command(request)).await?;
    // Two row sets, then the copy.
    loop {
        if let Message::CopyOutResponse(_) = connection.message().await? {
            break;
        }
    }
    let (pieces, incoming) = mpsc::channel(QUEUE);
    let root = target.to_owned();
    let unpacking = tokio::task::spawn_blocking(move || unpack(Pieces::new(incoming), &root));
    let manifest = take_copy(&mut connection, pieces).await;
    let unpacked = unpacking
        .await
        .map_err(|e| CopyError::Archive(e.to_string()))?;
    // A disk that is full ends both; its own word is the better one.
    unpacked?;
    let manifest = manifest?;
    finish(&mut connection).await?;
    let target = target.to_owned();
    let kept = tokio::task::spawn_blocking(move || complete(&target, manifest));
    kept.await.map_err(|e| CopyError::Archive(e.to_string()))?
}

async fn connect(request: &CopyRequest) -> Result<Connection, CopyError> {
    let mut identity = Identity {
        application_name: "understudy basebackup".to_owned(),
        options: Vec::new(),
        database: None,
    };
    if let Some((id, term)) = &request.instance {
        identity.options = vec![
            ("understudy.instance_id".to_owned(), id.clone()),
            ("understudy.term".to_owned(), term.to_string()),
        ];
    }
    let mut connection = Connection::open(&request.conninfo, &identity).await?;
    if let Some((_, promised)) = &request.instance {
        let upstream = connection.promised_term().await?;
        if upstream < *promised {
            return Err(ReplicationError::StaleTerm {
                upstream,
                promised: *promised,
            }
            .into());
        }
    }
    Ok(connection)
}

fn command(request: &CopyRequest) -> String {
    let mut options = vec![format!("LABEL '{}'", request.label.replace('\'', "''"))];
    if request.fast_checkpoint {
        options.push("CHECKPOINT 'fast'".to_owned());
    }
    if request.wal {
        options.push("WAL".to_owned());
    }
    options.push("WAIT 0".to_owned());
    if request.manifest {
        options.push("MANIFEST 'yes'".to_owned());
    }
    options.push("TARGET 'client'".to_owned());
    format!("BASE_BACKUP ({})", options.join(", "))
}

/// Sends the archive's bytes on; gives the manifest's.
async fn take_copy(
    connection: &mut Connection,
    pieces: mpsc::Sender<Bytes>,
) -> Result<Vec<u8>, CopyError> {
    let mut manifest = None;
    let mut archives = 0;
    loop {
        let mut data = match connection.copy_event().await? {
            CopyEvent::Done => return Ok(manifest.unwrap_or_default()),
            CopyEvent::Data(data) => data,
        };
        let kind = if data.has_remaining() {
            data.get_u8()
        } else {
            0
        };
        match kind {
            b'n' => {
                archives += 1;
                if archives > 1 {
                    return Err(CopyError::Archive("it has tablespaces".to_owned()));
                }
            }
            b'm' => manifest = Some(Vec::new()),
            b'd' => match &mut manifest {
                Some(text) => text.extend_from_slice(&data),
                None => {
                    if pieces.send(data).await.is_err() {
                        // Unpacking has failed and says why.
                        return Ok(Vec::new());
                    }
                }
            },
            b'p' => {}
            other => {
                return Err(CopyError::Archive(format!("message of kind {other}")));
            }
        }
    }
}

/// The end position's rows, and the connection's end.
async fn finish(connection: &mut Connection) -> Result<(), CopyError> {
    loop {
        if let Message::ReadyForQuery(_) = connection.message().await? {
            return Ok(());
        }
    }
}

/// The archive's bytes as they come.
struct Pieces {
    incoming: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Pieces {
    fn new(incoming: mpsc::Receiver<Bytes>) -> Pieces {
        Pieces {
            incoming,
            piece: Bytes::new(),
        }
    }
}

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.incoming.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let n = buf.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buf[..n]);
        Ok(n)
    }
}

fn unpack(pieces: Pieces, root: &Path) -> Result<(), CopyError> {
    let disk = RealDisk::new(root);
    let mut archive = tar::Archive::new(pieces);
    let bad = |e: io::Error| CopyError::Archive(e.to_string());
    let mut saw_control = false;
    for entry in archive.entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        let path = inside(&entry.path().map_err(bad)?)?;
        saw_control |= path == Path::new("global/pg_control");
        match entry.header().entry_type() {
            tar::EntryType::Directory => make_dir(&disk, &path)?,
            tar::EntryType::Regular => write_file(&disk, &path, &mut entry)?,
            other => {
                let shown = path.display();
                return Err(CopyError::Archive(format!("\"{shown}\" is a {other:?}")));
            }
        }
    }
    // A stream that broke off is reported by the connection; one that was never whole, here.
    if saw_control {
        Ok(())
    } else {
        Err(CopyError::Archive("it has no global/pg_control".to_owned()))
    }
}

/// The path, if it stays inside the target.
fn inside(path: &Path) -> Result<PathBuf, CopyError> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            _ => {
                let shown = path.display();
                return Err(CopyError::Archive(format!("\"{shown}\" leads out of it")));
            }
        }
    }
    Ok(clean)
}

fn write_error(path: &Path) -> impl Fn(io::Error) -> CopyError {
    let path = path.to_owned();
    move |source| CopyError::Write {
        path: path.clone(),
        source,
    }
}

fn make_dir(disk: &RealDisk, path: &Path) -> Result<(), CopyError> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    match disk.create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(write_error(path)),
    }
}

fn write_file(disk: &RealDisk, path: &Path, from: &mut impl Read) -> Result<(), CopyError> {
    let file = disk
        .open(path, Access::Truncate)
        .map_err(write_error(path))?;
    let mut buf = vec![0; PIECE];
    let mut at = 0;
    loop {
        let n = from
            .read(&mut buf)
            .map_err(|e| CopyError::Archive(e.to_string()))?;
        if n == 0 {
            return Ok(());
        }
        file.write_all_at(&buf[..n], at)
            .map_err(write_error(path))?;
        at += n as u64;
    }
}

/// Everything is on disk, then the manifest says so.
fn complete(target: &Path, manifest: Vec<u8>) -> Result<(), CopyError> {
    let failed = write_error(target);
    let open = std::fs::File::open(target).map_err(&failed)?;
    rustix::fs::syncfs(&open).map_err(|e| failed(e.into()))?;
    if manifest.is_empty() {
        return Ok(());
    }
    let disk = RealDisk::new(target);
    crate::io::durable::replace(&disk, Path::new("backup_manifest"), &manifest).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        assert_eq!(
            inside(Path::new("./base/1/2")).expect("inside"),
            Path::new("base/1/2")
        );
        for bad in ["/etc/passwd", "../x", "base/../../x"] {
            assert!(inside(Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_broken_archive_is_an_error() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (pieces, incoming) = mpsc::channel(2);
        pieces
            .blocking_send(Bytes::from_static(&[1; 700]))
            .expect("there is room");
        drop(pieces);
        assert!(unpack(Pieces::new(incoming), dir.path()).is_err());
        let (pieces, incoming) = mpsc::channel(2);
        drop(pieces);
        assert!(unpack(Pieces::new(incoming), dir.path()).is_err());
    }

    #[test]
    fn the_command_says_what_was_asked() {
        let request = CopyRequest {
            conninfo: ConnInfo::parse("host=h").expect("a conninfo"),
            label: "it's".to_owned(),
            fast_checkpoint: true,
            wal: true,
            manifest: false,
            instance: None,
        };
        assert_eq!(
            command(&request),
            "BASE_BACKUP (LABEL 'it''s', CHECKPOINT 'fast', WAL, WAIT 0, TARGET 'client')"
        );
    }
}
