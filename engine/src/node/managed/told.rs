//! What a standby was told may be shown, kept beside the data so that a restart shows no more.
//!
//! ```text
//! told      one line: `any` (the primary has no synchronous standbys), or a position `X/X`
//! ```
//! Replaced by rename. It may lag behind what was told: then a restart shows less for a while, never more. The one
//! step that must be durable before it takes effect is the first position after `any` (or after nothing). A crash
//! leaves the old file or the new one. A promoted instance has none.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::Settings;
use crate::config::recovery_conf::RecoveryMode;
use crate::ids::Lsn;
use crate::io::{DiskRef, durable};
use crate::txn::TxnManager;

pub const FILE: &str = "told";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// No standby is synchronous: what is replayed may be shown.
    Any,
    At(Lsn),
}

impl Told {
    /// As recovery wants it.
    pub fn limit(self) -> Option<Lsn> {
        match self {
            Told::Any => None,
            Told::At(lsn) => Some(lsn),
        }
    }
}

/// `None` where it was never told. A file that makes no sense tells nothing.
pub fn read(disk: &DiskRef) -> io::Result<Option<Told>> {
    let bytes = match durable::read(&**disk, Path::new(FILE)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let text = String::from_utf8_lossy(&bytes);
    match text.trim() {
        "any" => Ok(Some(Told::Any)),
        position => position
            .parse()
            .map(|lsn| Some(Told::At(lsn)))
            .map_err(|_| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("\"{position}\" in \"{FILE}\""),
                )
            }),
    }
}

/// With what recovery begins. A managed standby that was never told shows nothing: what it holds may come from a
/// primary (itself, once) that had not released it.
pub fn at_start(settings: &Settings, kept: Option<Told>) -> Option<Lsn> {
    if settings.recovery_request().mode != RecoveryMode::Standby {
        return None;
    }
    match kept {
        Some(told) => told.limit(),
        None if settings.current().promise_file.is_some() => Some(Lsn::INVALID),
        None => None,
    }
}

#[derive(Debug, Default)]
struct Kept {
    durable: Option<Told>,
    now: Option<Told>,
}

/// Takes over what the receiver hears.
pub struct ToldKeeper {
    disk: DiskRef,
    txns: Arc<TxnManager>,
    kept: Mutex<Kept>,
}

impl ToldKeeper {
    /// `durable`: what [`read`] gave at the start.
    pub fn new(disk: DiskRef, txns: Arc<TxnManager>, durable: Option<Told>) -> ToldKeeper {
        let kept = Mutex::new(Kept {
            durable,
            now: durable,
        });
        ToldKeeper { disk, txns, kept }
    }

    /// The primary says that every commit at or below `released` is on the required standbys.
    pub fn told(&self, released: Lsn, synchronous: bool) {
        let mut kept = self.kept.lock();
        let now = match (synchronous, kept.now) {
            (false, _) => Told::Any,
            (true, Some(Told::At(before))) => Told::At(released.max(before)),
            (true, _) => Told::At(released),
        };
        let first = matches!(now, Told::At(_)) && !matches!(kept.durable, Some(Told::At(_)));
        if first && let Err(error) = self.write(&mut kept, now) {
            // Nothing new is shown before it can be kept.
            tracing::error!("could not write file \"{FILE}\": {error}");
            return;
        }
        kept.now = Some(now);
        drop(kept);
        self.txns.told(now.limit());
    }

    /// Makes what was told last durable, if it is not; called from time to time and at a shutdown.
    pub fn keep(&self) -> io::Result<()> {
        let mut kept = self.kept.lock();
        match kept.now {
            Some(now) if kept.durable != Some(now) => self.write(&mut kept, now),
            _ => Ok(()),
        }
    }

    fn write(&self, kept: &mut Kept, told: Told) -> io::Result<()> {
        let line = match told {
            Told::Any => "any\n".to_owned(),
            Told::At(lsn) => format!("{lsn}\n"),
        };
        durable::replace(&*self.disk, Path::new(FILE), line.as_bytes())?;
        kept.durable = Some(told);
        Ok(())
    }

    /// A primary is told nothing: if it is a standby again one day, what it holds is not all released.
    pub fn forget(&self) -> io::Result<()> {
        *self.kept.lock() = Kept::default();
        durable::remove(&*self.disk, Path::new(FILE))
    }
}
