//! What a standby was told may be shown, kept beside the data so that a restart shows no more.
//!
//! ```text
//! told      one line: `any` (the primary has no synchronous standbys), or a position and its timeline, `X/X N`
//! ```
//! A position speaks of that timeline's log. A timeline that begins below it (a forced promotion's, which loses commits)
//! has other commits there, which nobody has released yet. So what was told counts on the timelines that are followed only as
//! far as they have that log in common ([`ToldKeeper::follows`]), and what is followed is known before anything is shown. A
//! line without a timeline, as older releases wrote it, may be of any log: nothing is shown until the primary speaks.
//!
//! Replaced by rename. It may lag behind what was told: then a restart shows less for a while, never more, because what it
//! says stays true of its timeline and is measured again by the timelines that are followed then. The one
//! step that must be durable before it takes effect is the first position after `any` (or after nothing). A crash
//! leaves the old file or the new one. A promoted instance has none.

#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::Settings;
use crate::config::recovery_conf::RecoveryMode;
use crate::ids::{Lsn, TimelineId};
use crate::io::{DiskRef, durable};
use crate::txn::TxnManager;
use crate::wal::timeline::History;

pub const FILE: &str = "told";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// No standby is synchronous: what is replayed may be shown.
    Any,
    /// What ends at or below `lsn` in the log of `timeline` and its ancestors.
    At { lsn: Lsn, timeline: TimelineId },
}

impl Told {
    /// Of synchronous standbys, and of no commit at all.
    const NOTHING: Told = Told::At {
        lsn: Lsn::INVALID,
        timeline: TimelineId::FIRST,
    };

    /// In the log of which `history` is, by the oldest timeline that has all of it: the one that others will have too.
    fn at(history: &History, lsn: Lsn) -> Told {
        let last_byte = Lsn::new(lsn.raw().saturating_sub(1));
        let timeline = history.owner(last_byte);
        Told::At { lsn, timeline }
    }

    /// As recovery wants it.
    fn limit(self) -> Option<Lsn> {
        match self {
            Told::Any => None,
            Told::At { lsn, .. } => Some(lsn),
        }
    }

    fn line(self) -> String {
        match self {
            Told::Any => "any\n".to_owned(),
            Told::At { lsn, timeline } => format!("{lsn} {timeline}\n"),
        }
    }

    fn parse(line: &str) -> Option<Told> {
        if line == "any" {
            return Some(Told::Any);
        }
        let Some((lsn, timeline)) = line.split_once(' ') else {
            // Of an older release: it may have been told of a timeline that has been left since.
            return line.parse::<Lsn>().is_ok().then_some(Told::NOTHING);
        };
        Some(Told::At {
            lsn: lsn.parse().ok()?,
            timeline: TimelineId::new(timeline.parse().ok()?),
        })
    }
}

/// `None` where it was never told.
fn read(disk: &DiskRef) -> io::Result<Option<Told>> {
    let bytes = match durable::read(&**disk, Path::new(FILE)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let text = String::from_utf8_lossy(&bytes);
    let line = text.trim();
    let told = Told::parse(line).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "\"{line}\" in file \"{FILE}\" is neither \"any\" nor a position and a timeline; with \"0/0 1\" in it \
                 this standby shows nothing until its primary tells it what it may"
            ),
        )
    })?;
    Ok(Some(told))
}

/// With what a standby begins; the default is for whoever is none.
#[derive(Debug, Clone, Copy, Default)]
pub struct AtStart {
    kept: Option<Told>,
    /// What may be shown before it is known which timelines are followed, as recovery wants it.
    pub limit: Option<Lsn>,
}

/// A managed standby that was never told shows nothing: what it holds may come from a primary (itself, once) that had
/// not released it.
pub fn at_start(settings: &Settings, disk: &DiskRef) -> io::Result<AtStart> {
    if settings.recovery_request().mode != RecoveryMode::Standby {
        return Ok(AtStart::default());
    }
    let kept = read(disk)?;
    Ok(AtStart::new(
        kept,
        settings.current().promise_file.is_some(),
    ))
}

impl AtStart {
    fn new(kept: Option<Told>, managed: bool) -> AtStart {
        let shows_all = match kept {
            Some(told) => told == Told::Any,
            None => !managed,
        };
        AtStart {
            kept,
            limit: (!shows_all).then_some(Lsn::INVALID),
        }
    }
}

/// What the primary says: every commit at or below `released` is on the required standbys, in the log of `timeline`.
#[derive(Debug, Clone, Copy)]
struct Word {
    timeline: TimelineId,
    released: Lsn,
    synchronous: bool,
}

impl Word {
    /// What may be shown of the log that `history` describes, with what was known before. `None`: it speaks of another.
    fn on(self, history: &History, before: Option<Told>) -> Option<Told> {
        if !history.contains(self.timeline) {
            return None;
        }
        if !self.synchronous {
            return Some(Told::Any);
        }
        let end = history.end_of(self.timeline).unwrap_or(Lsn::MAX);
        let before = before.and_then(Told::limit).unwrap_or(Lsn::INVALID);
        Some(Told::at(history, self.released.min(end).max(before)))
    }
}

#[derive(Debug, Default)]
struct Kept {
    durable: Option<Told>,
    now: Option<Told>,
    /// Since replay began.
    followed: Option<History>,
    /// The last one, until it has been taken up: a primary that is idle does not say it again.
    word: Option<Word>,
}

/// Takes over what the receiver hears.
pub struct ToldKeeper {
    disk: DiskRef,
    txns: Arc<TxnManager>,
    /// Held until `txns` knows as well: what was told of a timeline that is left must not come behind the leaving.
    kept: Mutex<Kept>,
}

impl ToldKeeper {
    pub fn new(disk: DiskRef, txns: Arc<TxnManager>, start: AtStart) -> ToldKeeper {
        let kept = Mutex::new(Kept {
            durable: start.kept,
            now: start.kept,
            ..Kept::default()
        });
        ToldKeeper { disk, txns, kept }
    }

    /// The upstream says on a stream of `timeline` that every commit at or below `released` is on the required standbys.
    /// Before it is known what is followed (the very first record may be streamed) that is only remembered.
    pub fn told(&self, timeline: TimelineId, released: Lsn, synchronous: bool) {
        let mut kept = self.kept.lock();
        kept.word = Some(Word {
            timeline,
            released,
            synchronous,
        });
        self.take_up_or_complain(&mut kept);
    }

    /// From here on these timelines are followed; nothing is replayed that is not of both these and those before. What
    /// was told counts as far as they are the same log, but "any" stays: it is no position.
    pub fn follows(&self, history: &History) {
        let mut kept = self.kept.lock();
        if let Some(Told::At { lsn, timeline }) = kept.now {
            let common = common(timeline, kept.followed.as_ref(), history);
            if common < lsn {
                tracing::info!(
                    "this standby was told that it may show what is below {lsn}; of that timeline {} has only what is below {common}",
                    history.timeline()
                );
            }
            let now = Told::at(history, lsn.min(common));
            kept.now = Some(now);
            self.txns.told_at_most(common);
            self.txns.told(now.limit());
        }
        kept.followed = Some(history.clone());
        self.take_up_or_complain(&mut kept);
    }

    /// Makes what was told last durable, if it is not; called from time to time and at a shutdown.
    pub fn keep(&self) -> io::Result<()> {
        let mut kept = self.kept.lock();
        self.take_up(&mut kept)?;
        match kept.now {
            Some(now) if kept.durable != Some(now) => self.write(&mut kept, now),
            _ => Ok(()),
        }
    }

    /// A primary is told nothing: if it is a standby again one day, what it holds is not all released.
    pub fn forget(&self) -> io::Result<()> {
        *self.kept.lock() = Kept::default();
        durable::remove(&*self.disk, Path::new(FILE))
    }

    fn take_up_or_complain(&self, kept: &mut Kept) {
        if let Err(error) = self.take_up(kept) {
            tracing::error!("could not write file \"{FILE}\": {error}");
        }
    }

    fn take_up(&self, kept: &mut Kept) -> io::Result<()> {
        let (Some(word), Some(history)) = (kept.word, &kept.followed) else {
            return Ok(());
        };
        let Some(now) = word.on(history, kept.now) else {
            return Ok(());
        };
        let first = now != Told::Any && !matches!(kept.durable, Some(Told::At { .. }));
        if first {
            // Nothing new is shown before it can be kept; [`Self::keep`] tries again.
            self.write(kept, now)?;
        }
        kept.word = None;
        kept.now = Some(now);
        self.txns.told(now.limit());
        Ok(())
    }

    fn write(&self, kept: &mut Kept, told: Told) -> io::Result<()> {
        durable::replace(&*self.disk, Path::new(FILE), told.line().as_bytes())?;
        kept.durable = Some(told);
        Ok(())
    }
}

/// Up to where what was told of `timeline`, one of `old`, holds on the timelines that `new` describes. At a start there is no
/// `old`.
fn common(timeline: TimelineId, old: Option<&History>, new: &History) -> Lsn {
    let (newest, end) = match old {
        Some(old) => (old.timeline(), old.fork_from(new)),
        None => (timeline, new.end_of(timeline)),
    };
    if newest == new.timeline() {
        return Lsn::MAX;
    }
    // Nothing of a stranger's.
    end.unwrap_or(Lsn::INVALID)
}
