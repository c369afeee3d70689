//! A standby's receiver, between recovery (which drives it), the log's segments (where it writes) and settings.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::config::Settings;
use crate::ids::{Lsn, SystemId, Term, TimelineId};
use crate::io::{FileRef, durable};
use crate::recovery::{self, RecoveryState, UpstreamState};
use crate::replication::receiver::{
    Progress, ReceivedWal, Receiver, Standby, State, UpstreamSettings,
};
use crate::txn::TxnManager;
use crate::wal::{Segments, WalError};

/// Received bytes, into segment files.
pub struct SegmentWriter {
    pub segments: Arc<Segments>,
    /// The segment being written, not synced.
    open: Option<(TimelineId, u64, FileRef)>,
}

impl SegmentWriter {
    pub fn new(segments: Arc<Segments>) -> SegmentWriter {
        SegmentWriter {
            segments,
            open: None,
        }
    }

    fn file(&mut self, timeline: TimelineId, at: Lsn) -> io::Result<FileRef> {
        let segment = at.segment(self.segments.size());
        if let Some((open_timeline, open_segment, file)) = &self.open
            && *open_timeline == timeline
            && *open_segment == segment.raw()
        {
            return Ok(Arc::clone(file));
        }
        self.sync()?;
        let file = self
            .segments
            .open_or_create(timeline, segment)
            .map_err(as_io)?;
        self.open = Some((timeline, segment.raw(), Arc::clone(&file)));
        Ok(file)
    }
}

fn as_io(error: WalError) -> io::Error {
    io::Error::other(error)
}

impl ReceivedWal for SegmentWriter {
    fn write(&mut self, timeline: TimelineId, at: Lsn, bytes: &[u8]) -> io::Result<()> {
        let size = self.segments.size();
        let (mut at, mut rest) = (at, bytes);
        while !rest.is_empty() {
            let offset = at.segment_offset(size);
            let room = (size - offset) as usize;
            let (now, later) = rest.split_at(rest.len().min(room));
            self.file(timeline, at)?
                .write_all_at(now, u64::from(offset))?;
            at = at.advance(now.len() as u64);
            rest = later;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        match &self.open {
            Some((_, _, file)) => file.sync(),
            None => Ok(()),
        }
    }

    fn has_history(&self, timeline: TimelineId) -> io::Result<bool> {
        let path = self.segments.dir().join(timeline.history_file_name());
        self.segments.disk().exists(&path)
    }

    fn put_history(&mut self, timeline: TimelineId, text: &[u8]) -> io::Result<()> {
        let path = self.segments.dir().join(timeline.history_file_name());
        durable::replace(self.segments.disk(), &path, text)
    }
}

/// What the receiver asks of its server.
pub struct NodeStandby {
    pub settings: Arc<Settings>,
    pub system_id: SystemId,
    pub state: Arc<RecoveryState>,
    pub txns: Arc<TxnManager>,
}

impl Standby for NodeStandby {
    fn upstream(&self) -> UpstreamSettings {
        let current = self.settings.current();
        let name = if current.cluster_name.is_empty() {
            "walreceiver"
        } else {
            &current.cluster_name
        };
        UpstreamSettings {
            conninfo: current.primary_conninfo.clone(),
            slot: current.primary_slot_name.clone(),
            name: name.to_owned(),
            status_interval: current.wal_receiver_status_interval.unwrap_or_default(),
            timeout: current.wal_receiver_timeout.unwrap_or_default(),
            retry_interval: current.wal_retrieve_retry_interval,
            feedback: current.hot_standby_feedback,
            instance_id: current.instance_id.clone(),
        }
    }
    fn system_id(&self) -> SystemId {
        self.system_id
    }
    fn promised_term(&self) -> Option<Term> {
        None
    }
    fn replay_lsn(&self) -> watch::Receiver<Lsn> {
        self.state.replay_watch()
    }
    fn oldest_snapshot(&self) -> Option<Lsn> {
        Some(self.txns.oldest_needed().lsn)
    }
    fn released(&self, released: Lsn, synchronous: bool) {
        self.txns.told(synchronous.then_some(released));
    }
}

/// The receiver as recovery drives it.
pub struct NodeUpstream {
    settings: Arc<Settings>,
    receiver: Arc<Receiver>,
    progress: watch::Receiver<Progress>,
    /// What was asked for last: an older answer is not its answer.
    asked: Mutex<Option<(Lsn, TimelineId)>>,
}

impl NodeUpstream {
    /// Passes what the receiver has synced on to recovery, from a thread of its own.
    pub fn new(
        settings: Arc<Settings>,
        receiver: Arc<Receiver>,
        state: Arc<RecoveryState>,
    ) -> io::Result<Arc<NodeUpstream>> {
        let mut progress = receiver.progress();
        let upstream = Arc::new(NodeUpstream {
            settings,
            receiver,
            progress: progress.clone(),
            asked: Mutex::default(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        std::thread::Builder::new()
            .name("wal-progress".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    while progress.changed().await.is_ok() {
                        let now = progress.borrow_and_update().clone();
                        if now.flushed > now.started_at {
                            state.received(now.timeline, now.started_at, now.flushed);
                        }
                        state.wake();
                    }
                });
            })?;
        Ok(upstream)
    }
}

impl recovery::Upstream for NodeUpstream {
    fn is_configured(&self) -> bool {
        self.settings.current().primary_conninfo.is_some()
    }

    fn stream(&self, from: Lsn, timeline: TimelineId) {
        *self.asked.lock() = Some((from, timeline));
        self.receiver.stream(from, timeline);
    }

    fn stop(&self) {
        *self.asked.lock() = None;
        let receiver = Arc::clone(&self.receiver);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let runtime = runtime.expect("a runtime without I/O needs nothing of the system");
        let stopped = runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(60), receiver.stop()).await
        });
        assert!(stopped.is_ok(), "the walreceiver does not stop");
    }

    fn state(&self) -> UpstreamState {
        let Some((from, timeline)) = *self.asked.lock() else {
            return UpstreamState::Stopped;
        };
        let now = self.progress.borrow();
        if now.started_at != from || now.timeline != timeline {
            return UpstreamState::Connecting;
        }
        match now.state {
            State::Stopped | State::Connecting => UpstreamState::Connecting,
            State::Streaming => UpstreamState::Streaming,
            State::EndOfTimeline => UpstreamState::EndOfTimeline,
            State::Failed => UpstreamState::Failed,
        }
    }
}
