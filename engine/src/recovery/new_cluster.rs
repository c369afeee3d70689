//! The beginning of a cluster's log: what `initdb` does before it writes anything else.

use std::sync::Arc;

use crate::ids::{Lsn, Oid, SystemId, TimelineId, Xid};
use crate::storage::{ClusterState, ControlData, Store};
use crate::wal::timeline::History;
use crate::wal::xlog_records::{self, CheckPoint, ParameterChange};
use crate::wal::{Record, RmgrId, StartWriting};

use super::error::RecoveryError;
use super::state::{Phase, RecoveryState};

/// The first `pg_control`: a log that begins with its second segment, as PostgreSQL's does.
pub fn control_data(
    system_id: SystemId,
    segment_size: u32,
    checksums: bool,
    parameters: ParameterChange,
    nonce: [u8; 32],
) -> ControlData {
    let first = Lsn::new(u64::from(segment_size)).advance(crate::wal::page::LONG_HEADER as u64);
    ControlData {
        system_id,
        state: ClusterState::StartingUp,
        time_s: 0,
        checkpoint: first,
        checkpoint_copy: CheckPoint {
            redo: first,
            timeline: TimelineId::FIRST,
            previous_timeline: TimelineId::FIRST,
            full_page_writes: true,
            next_xid: Xid::FIRST_NORMAL,
            next_oid: Oid::FIRST_NORMAL,
            oldest_xid: Xid::FIRST_NORMAL.low(),
            oldest_xid_database: Oid::new(1),
            time_s: xlog_records::now_s(),
            oldest_active_xid: 0,
        },
        min_recovery_point: Lsn::INVALID,
        min_recovery_timeline: TimelineId::FIRST,
        backup_start: Lsn::INVALID,
        backup_end: Lsn::INVALID,
        backup_end_required: false,
        parameters,
        wal_segment_size: segment_size,
        checksums,
        nonce,
    }
}

/// Opens the log of a new cluster with the checkpoint that its `pg_control` names. `initdb` ends with a shutdown
/// checkpoint like any server.
pub fn begin_new_cluster(store: &Arc<Store>, state: &RecoveryState) -> Result<(), RecoveryError> {
    let control = store.control.get();
    store.wal.begin_writing(StartWriting {
        history: History::root(TimelineId::FIRST),
        end_of_log: Lsn::new(u64::from(store.wal.segment_size())),
        last_record: Lsn::INVALID,
        aborted: None,
    })?;
    let main = control.checkpoint_copy.encode();
    let record = Record {
        rmgr: RmgrId::XLOG,
        info: xlog_records::CHECKPOINT_SHUTDOWN,
        xid: Xid::INVALID,
        main: &main,
        blocks: &[],
    };
    let inserted = store.wal.insert(&record);
    assert_eq!(
        inserted.start, control.checkpoint,
        "the log does not begin where pg_control says"
    );
    store.wal.set_redo_point_to(inserted.start);
    store.wal.flush_blocking(inserted.end);
    state.set_checkpoint_end(inserted.end);
    state.set_end_of_recovery(inserted.end);
    state.set_phase(Phase::Writing);
    Ok(())
}
