//! Files that transactions have made and that must go if they do not commit, across crashes too.
//!
//! A running transaction drops its files itself when it aborts. A crash takes that knowledge away; replay finds it
//! again, in the records that make files, and at its end drops the files of transactions without a commit. For
//! files made before the redo point each checkpoint logs, behind it, which files running transactions have made:
//!
//! ```text
//! COMMITLOG 0x10: count u32, then (xid u64, tablespace u32, database u32, file number u32) * count
//! ```
//!
//! A file is listed here before it is made, so a checkpoint that does not list it has its record behind the redo
//! point. Listing a file whose transaction has ended meanwhile is harmless: its outcome is asked for at the end.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::ids::{Oid, RelFile, Xid};
use crate::txn::manager::{Shared, TxnManager};
use crate::txn::snapshot::Seen;
use crate::txn::xid::widen;
use crate::wal::{Record, RmgrId};

/// COMMITLOG: the files that running transactions have made.
pub const MADE_FILES: u8 = 0x10;
const ENTRY: usize = 20;

/// The files of transactions that have not ended, here or in replay, by who made them.
#[derive(Default)]
pub(crate) struct MadeFiles(Mutex<HashMap<RelFile, Xid>>);

impl MadeFiles {
    pub(crate) fn add(&self, file: RelFile, xid: Xid) {
        self.0.lock().insert(file, xid);
    }

    pub(crate) fn remove(&self, files: &[RelFile]) {
        if !files.is_empty() {
            let mut made = self.0.lock();
            files.iter().for_each(|file| {
                made.remove(file);
            });
        }
    }

    fn encode(&self) -> Option<Vec<u8>> {
        let made = self.0.lock();
        if made.is_empty() {
            return None;
        }
        let mut out = (made.len() as u32).to_le_bytes().to_vec();
        for (file, xid) in &*made {
            out.extend_from_slice(&xid.raw().to_le_bytes());
            for part in [file.tablespace, file.database, file.number] {
                out.extend_from_slice(&part.raw().to_le_bytes());
            }
        }
        Some(out)
    }
}

fn decode(main: &[u8]) -> Option<Vec<(Xid, RelFile)>> {
    let (count, entries) = main.split_first_chunk::<4>()?;
    if entries.len() != u32::from_le_bytes(*count) as usize * ENTRY {
        return None;
    }
    let entry = |bytes: &[u8]| {
        let (xid, file) = bytes.split_first_chunk::<8>()?;
        let part = |i: usize| {
            let bytes = file.get(i * 4..)?.first_chunk()?;
            Some(Oid::new(u32::from_le_bytes(*bytes)))
        };
        let file = RelFile {
            tablespace: part(0)?,
            database: part(1)?,
            number: part(2)?,
        };
        Some((Xid::new(u64::from_le_bytes(*xid)), file))
    };
    entries.chunks_exact(ENTRY).map(entry).collect()
}

impl TxnManager {
    /// Replay met a record that makes a file, of the transaction with this low half.
    pub fn replay_made_file(&self, xid_low: u32, file: RelFile) {
        let shared = self.shared();
        if xid_low >= Xid::FIRST_NORMAL.low() {
            let xid = widen(xid_low, shared.xids.next());
            shared.made.add(file, xid);
        }
    }
}

impl TxnManager {
    /// The end of replay: was the file made by a transaction that did not commit?
    pub fn was_made_by_the_dead(&self, file: RelFile) -> bool {
        let made = self.shared().made.0.lock().get(&file).copied();
        made.is_some_and(|xid| self.shared().judge(xid, |_| true) != Seen::Yes)
    }

    /// The end of replay: every transaction is over, and the files of those that did not commit go.
    pub fn drop_files_of_the_dead(&self) {
        self.shared().drop_files_of_the_dead(self.next_xid());
    }
}

impl Shared {
    /// Part of a checkpoint, after its redo point is set.
    pub(crate) fn log_made_files(&self) {
        if self.in_recovery() {
            return; // a restartpoint: the primary's own record stands behind its redo point
        }
        if let Some(main) = self.made.encode() {
            self.store.wal.insert(&Record {
                rmgr: RmgrId::COMMITLOG,
                info: MADE_FILES,
                xid: Xid::INVALID,
                main: &main,
                blocks: &[],
            });
        }
    }

    /// Replay of [`MADE_FILES`]; false: it cannot be understood.
    pub(crate) fn redo_made_files(&self, main: &[u8]) -> bool {
        let Some(files) = decode(main) else {
            return false;
        };
        for (xid, file) in files {
            self.made.add(file, xid);
        }
        true
    }

    /// No transaction below `next` is running any more: the files of those that did not commit go.
    pub(crate) fn drop_files_of_the_dead(&self, next: Xid) {
        let ended: Vec<(RelFile, Xid)> = {
            let made = self.made.0.lock();
            let ended = made.iter().filter(|(_, xid)| **xid < next);
            ended.map(|(file, xid)| (*file, *xid)).collect()
        };
        let files: Vec<RelFile> = ended.iter().map(|(file, _)| *file).collect();
        let dead: Vec<RelFile> = ended
            .into_iter()
            .filter(|(_, xid)| self.judge(*xid, |_| true) != Seen::Yes)
            .map(|(file, _)| file)
            .collect();
        for file in &dead {
            tracing::info!(rel = %file, "removing file of a transaction that did not commit");
        }
        self.drop_files(&dead);
        self.made.remove(&files);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Fork;
    use crate::txn::redo::Effect;
    use crate::txn::release::CommitLevel;
    use crate::txn::testing::{DATABASE, World};

    fn file(n: u32) -> RelFile {
        RelFile::of_database(DATABASE, Oid::new(n))
    }

    #[tokio::test]
    async fn files_of_the_dead_go_at_the_end_of_replay() {
        let world = World::new();
        let mut txns = Vec::new();
        for n in 0..4 {
            let mut txn = world.begin();
            world.txns.xid(&mut txn).expect("an xid");
            txn.on_abort_drop(file(50_000 + n));
            txns.push(txn);
        }
        let committed = txns.remove(0);
        let later = txns.remove(0);
        let (committed_low, later_low) = (
            committed.top_xid().expect("assigned"),
            later.top_xid().expect("assigned"),
        );
        assert!(committed_low < later_low);
        world
            .txns
            .commit(committed, CommitLevel::On)
            .await
            .expect("committed");
        world.txns.checkpoint().expect("flushed");
        world
            .txns
            .commit(later, CommitLevel::On)
            .await
            .expect("committed");

        let copy = World::recovering(16);
        for n in 0..4 {
            let made = copy.store.files.create(file(50_000 + n), Fork::Main, false);
            made.expect("a new file");
        }
        let mut log = world.log();
        while let Ok(record) = log.next() {
            assert_eq!(
                copy.txns.redo(&record).expect("our own record"),
                Effect::None
            );
        }
        copy.txns.primary_restarted(world.txns.next_xid());
        let exists = |n: u32| copy.dir.path().join(format!("base/5/{n}")).exists();
        let left: Vec<bool> = (50_000..50_004).map(exists).collect();
        assert_eq!(left, [true, true, false, false]);
        txns.into_iter().for_each(std::mem::forget);
    }

    #[test]
    fn damaged_lists_are_refused() {
        let made = MadeFiles::default();
        assert_eq!(made.encode(), None);
        made.add(file(7), Xid::new(0x1_0000_0009));
        let main = made.encode().expect("one file");
        assert_eq!(
            decode(&main),
            Some(vec![(Xid::new(0x1_0000_0009), file(7))])
        );
        for len in 0..main.len() {
            assert_eq!(decode(&main[..len]), None);
        }
    }
}
