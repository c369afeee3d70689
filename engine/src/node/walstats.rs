//! `understudy walstats`: the log's records by kind, read as recovery reads them.
//!
//! What may occur is what the owners of the records say that they write; a record of another kind is an error, so
//! that their lists can't fall behind.

use std::sync::Arc;

use anyhow::Context as _;

use crate::catalog::database;
use crate::index::btree;
use crate::io::DiskRef;
use crate::io::real::RealDisk;
use crate::server::cli::{KindCount, WalStatsRequest};
use crate::storage::ControlFile;
use crate::table;
use crate::txn::record;
use crate::wal::{FileSource, ReadError, RmgrId, Segments, WalReader, timeline, xlog_records};

/// Every kind of record that this program writes.
fn written() -> Vec<(RmgrId, u8, &'static str)> {
    let lists: [(RmgrId, &[(u8, &'static str)]); 6] = [
        (RmgrId::XLOG, xlog_records::WRITTEN),
        (RmgrId::STORAGE, table::files::WRITTEN),
        (RmgrId::DATABASE, database::WRITTEN),
        (RmgrId::HEAP, table::WRITTEN),
        (RmgrId::BTREE, btree::WRITTEN),
        (RmgrId::SEQUENCE, table::sequence::WRITTEN),
    ];
    let of_lists = lists
        .into_iter()
        .flat_map(|(rmgr, kinds)| kinds.iter().map(move |(op, name)| (rmgr, *op, *name)));
    let mut all: Vec<_> = of_lists.chain(record::WRITTEN.iter().copied()).collect();
    all.sort();
    all
}

/// The part of a record's info that says what it is.
fn operation(rmgr: RmgrId, info: u8) -> u8 {
    match rmgr {
        RmgrId::TRANSACTION => record::operation(info),
        _ => info & 0xF0,
    }
}

pub fn walstats(request: &WalStatsRequest) -> anyhow::Result<Vec<KindCount>> {
    let disk: DiskRef = Arc::new(RealDisk::new(&request.data_directory));
    let control = ControlFile::open(Arc::clone(&disk))?.get();
    let segments = Arc::new(Segments::new(
        disk,
        "pg_wal".into(),
        control.wal_segment_size,
        control.system_id,
    ));
    let newest = control
        .checkpoint_copy
        .timeline
        .max(control.min_recovery_timeline);
    let history = timeline::read(segments.disk(), segments.dir(), newest)?
        .with_context(|| format!("no history of timeline {newest}"))?;
    let start = request.start.unwrap_or(control.checkpoint_copy.redo);
    let source = FileSource::new(Arc::clone(&segments), history.clone());
    let mut reader =
        WalReader::new(source, segments.size(), start).with_system_id(control.system_id);
    reader.set_history(history);
    let mut counts: Vec<KindCount> = written()
        .into_iter()
        .map(|(rmgr, operation, name)| KindCount {
            manager: rmgr.name(),
            manager_id: rmgr.raw(),
            operation,
            name,
            count: 0,
        })
        .collect();
    while request.end.is_none_or(|end| reader.position() < end) {
        let found = match reader.next() {
            Ok(found) => found,
            Err(ReadError::EndOfLog { .. }) if request.end.is_none() => break,
            Err(error) => return Err(error.into()),
        };
        let (lsn, rmgr) = (found.start, found.rmgr);
        let operation = operation(rmgr, found.info);
        let known = counts
            .iter_mut()
            .find(|k| k.manager_id == rmgr.raw() && k.operation == operation);
        let known = known.with_context(|| {
            format!("the record at {lsn} is of a kind that is not written: {rmgr} {operation:02X}")
        })?;
        known.count += 1;
    }
    Ok(counts)
}
