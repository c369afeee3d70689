//! What replication sessions are served from: the instance's log, backups, slots and standbys.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::config::Settings;
use crate::ids::{Lsn, SystemId, Term, TimelineId};
use crate::instance::Instance;
use crate::io::Access;
use crate::node::managed::Managed;
use crate::replication::receiver::Progress;
use crate::replication::recovery_link::BackupCommand;
use crate::replication::sender::Upstream;
use crate::replication::slots::Slots;
use crate::replication::standbys::Standbys;
use crate::server::walsender::ReplicationSource;
use crate::wal::Wal;

/// What all walsenders share.
pub struct NodeReplication {
    pub instance: Arc<Instance>,
    pub managed: Option<Arc<Managed>>,
    /// True once the shutdown checkpoint is written.
    pub shutting_down: watch::Receiver<bool>,
    /// From here on nothing begins but what streams already.
    pub closing: AtomicBool,
}

impl Upstream for NodeReplication {
    fn wal(&self) -> &Arc<Wal> {
        &self.instance.store.wal
    }
    fn slots(&self) -> &Arc<Slots> {
        &self.instance.slots
    }
    fn sender_timeout(&self) -> Duration {
        let timeout = self.instance.settings.current().wal_sender_timeout;
        timeout.unwrap_or_default()
    }
    fn safe_watch(&self) -> watch::Receiver<(Lsn, bool)> {
        self.instance.txns.release().safe_watch()
    }
    fn shutting_down(&self) -> watch::Receiver<bool> {
        self.shutting_down.clone()
    }
    fn is_managed_primary(&self) -> bool {
        let managed = self.managed.as_ref();
        managed.is_some_and(|m| m.primary_term().is_some())
    }
    fn feedback(&self, sender: u64, oldest: Option<Lsn>) {
        self.instance.txns.set_feedback(sender, oldest);
    }
}

impl ReplicationSource for NodeReplication {
    type Backup = BackupCommand;

    fn settings(&self) -> &Settings {
        &self.instance.settings
    }
    fn upstream(&self) -> &dyn Upstream {
        self
    }
    fn backup(&self) -> BackupCommand {
        let store = &self.instance.store;
        let (disk, wal) = (Arc::clone(&store.disk), Arc::clone(&store.wal));
        BackupCommand::new(disk, wal, Arc::clone(&self.instance.backups))
    }
    fn standbys(&self) -> &Arc<Standbys> {
        &self.instance.standbys
    }
    fn system_id(&self) -> SystemId {
        self.instance.system_id
    }
    fn primary_term(&self) -> Option<Term> {
        self.managed.as_ref()?.primary_term()
    }
    fn receiving(&self) -> Option<watch::Receiver<Progress>> {
        self.instance.receiver.as_ref().map(|r| r.progress())
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    fn history_file(&self, timeline: TimelineId) -> io::Result<Vec<u8>> {
        let segments = self.instance.store.wal.segments();
        let path = segments.dir().join(timeline.history_file_name());
        let file = segments.disk().open(&path, Access::Read)?;
        let length = usize::try_from(file.len()?).map_err(io::Error::other)?;
        let mut text = vec![0; length];
        let n = file.read_at(&mut text, 0)?;
        text.truncate(n);
        Ok(text)
    }

    fn fresh_setting(&self, name: &str) -> Option<String> {
        if name != "understudy.term" {
            return None;
        }
        let term = self.managed.as_ref()?.promised_term();
        Some(term.to_string())
    }
}
