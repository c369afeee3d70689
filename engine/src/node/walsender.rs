//! A walsender connection: its commands, one after the other, to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::ids::{Lsn, Term};
use crate::instance::Instance;
use crate::recovery::Backups;
use crate::replication::base_backup::{
    self, BackupOptions, BackupSource, Checkpoint, Started, Stopped,
};
use crate::replication::reply::{self, CommandError, Link, ServeError};
use crate::replication::sender::{self, StartReplication, Upstream};
use crate::replication::slots::Slots;
use crate::replication::standbys::{Peer, Registration};
use crate::server::connection::Connection;
use crate::server::host::{NewSession, ReplicationPeer};
use crate::server::protocol::backend;
use crate::sql::error::SqlError;
use crate::sql::front::ast::{OptionValue, UtilityOption};
use crate::sql::front::replication::{self, CreateSlot, ReplicationCommand, SlotKind};
use crate::txn::release::InstanceId;
use crate::types::oids;
use crate::wal::{Wal, timeline};

/// What all walsenders share.
pub struct Sender {
    pub instance: Arc<Instance>,
    pub backups: Arc<Backups>,
    /// True once the shutdown checkpoint is written.
    pub shutting_down: watch::Receiver<bool>,
}

impl Upstream for Sender {
    fn wal(&self) -> &Arc<Wal> {
        &self.instance.store.wal
    }
    fn slots(&self) -> &Arc<Slots> {
        &self.instance.slots
    }
    fn sender_timeout(&self) -> Duration {
        self.instance
            .settings
            .current()
            .wal_sender_timeout
            .unwrap_or_default()
    }
    fn safe_watch(&self) -> watch::Receiver<(Lsn, bool)> {
        self.instance.txns.release().safe_watch()
    }
    fn shutting_down(&self) -> watch::Receiver<bool> {
        self.shutting_down.clone()
    }
    fn feedback(&self, sender: u64, oldest: Option<Lsn>) {
        self.instance.txns.set_feedback(sender, oldest);
    }
}

/// One connection's base backup.
struct Backup<'a> {
    sender: &'a Sender,
    running: parking_lot::Mutex<Option<crate::recovery::StartedBackup>>,
}

fn backup_error(error: &crate::recovery::BackupError) -> CommandError {
    let mut command = CommandError::new(error.sqlstate(), error.to_string());
    if let Some(hint) = error.hint() {
        command = command.hint(hint);
    }
    command
}

impl BackupSource for Backup<'_> {
    fn disk(&self) -> &crate::io::DiskRef {
        &self.sender.instance.store.disk
    }
    fn wal(&self) -> &Arc<Wal> {
        &self.sender.instance.store.wal
    }

    async fn start(&self, options: &BackupOptions) -> Result<Started, CommandError> {
        let fast = options.checkpoint == Checkpoint::Fast;
        let started = self.sender.backups.start(&options.label, fast).await;
        let started = started.map_err(|e| backup_error(&e))?;
        let answer = Started {
            start: started.label.start,
            timeline: started.label.timeline,
            label_file: started.text.clone(),
        };
        *self.running.lock() = Some(started);
        Ok(answer)
    }

    async fn stop(&self, _started: &Started, wait: bool) -> Result<Stopped, CommandError> {
        let running = self.running.lock().take();
        let running =
            running.ok_or_else(|| CommandError::new("55000", "a backup is not in progress"))?;
        let stopped = self.sender.backups.stop(&running, wait).await;
        let stopped = stopped.map_err(|e| backup_error(&e))?;
        Ok(Stopped {
            end: stopped.end,
            timeline: stopped.timeline,
        })
    }

    fn abandon(&self, _started: &Started) {
        if let Some(running) = self.running.lock().take() {
            self.sender.backups.abandon(&running);
        }
    }
}

fn option_text(option: UtilityOption) -> (String, Option<String>) {
    let value = option.value.map(|value| match value {
        OptionValue::Text(text) | OptionValue::Number(text) => text,
        OptionValue::Star => "*".to_owned(),
        OptionValue::List(items) => items.join(","),
    });
    (option.name, value)
}

struct Serving<'a> {
    sender: &'a Sender,
    new: &'a NewSession,
    peer: &'a ReplicationPeer,
    registration: Registration,
}

pub async fn serve(
    sender: &Sender,
    link: &mut Connection,
    new: &NewSession,
    peer: &ReplicationPeer,
) -> Result<(), SqlError> {
    let instance = &sender.instance;
    let registration = instance
        .standbys
        .register(Peer {
            process: new.backend.pid,
            user_oid: new.role.oid.raw(),
            user: new.role.name.clone(),
            application_name: peer.application_name.clone(),
            address: new.backend.remote.map(|a| (a.ip().to_string(), a.port())),
            started_at: new.backend.started,
            instance: peer.instance_id.as_deref().map(InstanceId::new),
            term: peer.term.map(Term::new),
        })
        .map_err(|e| fatal(&e))?;
    let serving = Serving {
        sender,
        new,
        peer,
        registration,
    };
    let outcome = serving.commands(link).await;
    instance.slots.drop_of(new.backend.pid);
    outcome
}

fn fatal(error: &CommandError) -> SqlError {
    SqlError::fatal(error.state, error.message.clone())
}

fn ordinary(error: CommandError) -> SqlError {
    let mut converted = SqlError::new(error.state, error.message);
    if let Some(detail) = error.detail {
        converted = converted.detail(detail);
    }
    if let Some(hint) = error.hint {
        converted = converted.hint(hint);
    }
    converted
}

impl Serving<'_> {
    async fn commands(&self, link: &mut Connection) -> Result<(), SqlError> {
        loop {
            let received = match Link::receive(link).await {
                Ok(Some(message)) => message,
                Ok(None) | Err(_) => return Ok(()),
            };
            let (kind, body) = received;
            match kind {
                b'X' => return Ok(()),
                b'Q' => {}
                // Left over from a copy that the other side ended a moment after us.
                b'c' | b'd' => continue,
                other => {
                    let what = format!(
                        "unexpected message type 0x{other:02X} on a replication connection"
                    );
                    return Err(SqlError::fatal("08P01", what));
                }
            }
            let text =
                String::from_utf8_lossy(body.strip_suffix(b"\0").unwrap_or(&body)).into_owned();
            match self.command(link, &text).await {
                Ok(()) => {}
                Err(ServeError::Command(error)) => {
                    backend::error_response(link.out(), &ordinary(error));
                }
                Err(ServeError::Fatal(error)) => return Err(fatal(&error)),
                Err(ServeError::Lost(_) | ServeError::Closed) => return Ok(()),
            }
            backend::ready_for_query(link.out(), b'I');
            if Link::flush(link).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn command(&self, link: &mut Connection, text: &str) -> Result<(), ServeError> {
        let parsed =
            replication::parse(text).map_err(|e| CommandError::new(e.state, e.message.clone()))?;
        let Some(command) = parsed else {
            let what = "cannot execute SQL commands in WAL sender for physical replication";
            return Err(CommandError::new("0A000", what).into());
        };
        match command {
            ReplicationCommand::IdentifySystem => self.identify(link),
            ReplicationCommand::Show(name) => self.show(link, &name)?,
            ReplicationCommand::TimelineHistory(wanted) => self.history(link, wanted)?,
            ReplicationCommand::CreateSlot(slot) => self.create_slot(link, &slot)?,
            ReplicationCommand::DropSlot { name, .. } => {
                self.sender.instance.slots.drop_slot(&name)?;
                reply::complete(link.out(), "DROP_REPLICATION_SLOT");
            }
            ReplicationCommand::ReadSlot(name) => self.read_slot(link, &name),
            ReplicationCommand::StartReplication {
                slot,
                start,
                timeline,
            } => {
                let request = StartReplication {
                    slot,
                    start,
                    timeline,
                    own_messages: self.peer.own_messages,
                };
                let id = u64::from(self.new.backend.pid.get());
                return sender::stream(link, self.sender, &self.registration, id, request).await;
            }
            ReplicationCommand::BaseBackup(given) => {
                let given: Vec<(String, Option<String>)> =
                    given.into_iter().map(option_text).collect();
                let options = BackupOptions::parse(&given)?;
                let backup = Backup {
                    sender: self.sender,
                    running: parking_lot::Mutex::default(),
                };
                self.registration
                    .set_state(crate::replication::standbys::SenderState::Backup);
                return base_backup::send(link, &backup, &options).await;
            }
            ReplicationCommand::StartLogicalReplication { .. } => {
                return Err(CommandError::new("0A000", "logical replication is not implemented")
                    .hint("Physical replication streams whole clusters: START_REPLICATION PHYSICAL.")
                    .into());
            }
        }
        Ok(())
    }

    fn identify(&self, link: &mut Connection) {
        let instance = &self.sender.instance;
        let wal = &instance.store.wal;
        let out = link.out();
        reply::columns(
            out,
            &[
                ("systemid", oids::TEXT),
                ("timeline", oids::INT4),
                ("xlogpos", oids::TEXT),
                ("dbname", oids::TEXT),
            ],
        );
        let values = [
            instance.system_id.to_string(),
            wal.timeline().to_string(),
            wal.flush_lsn().to_string(),
        ];
        let [system, timeline, position] = &values;
        reply::row(out, &[Some(system), Some(timeline), Some(position), None]);
        reply::complete(out, "IDENTIFY_SYSTEM");
    }

    fn show(&self, link: &mut Connection, name: &str) -> Result<(), CommandError> {
        let current = self.sender.instance.settings.current();
        let found = crate::config::registry::registry().find(name);
        let Some(definition) = found else {
            let what = format!("unrecognized configuration parameter \"{name}\"");
            return Err(CommandError::new("42704", what));
        };
        let value = definition.show(&current.values.get(definition.id).value);
        reply::columns(link.out(), &[(definition.name, oids::TEXT)]);
        reply::row(link.out(), &[Some(&value)]);
        reply::complete(link.out(), "SHOW");
        Ok(())
    }

    fn history(
        &self,
        link: &mut Connection,
        wanted: crate::ids::TimelineId,
    ) -> Result<(), CommandError> {
        let segments = self.sender.instance.store.wal.segments();
        let name = wanted.history_file_name();
        let found = timeline::read(segments.disk(), segments.dir(), wanted);
        let history = found
            .map_err(|e| CommandError::new("58030", e.to_string()))?
            .ok_or_else(|| {
                CommandError::new(
                    "58P01",
                    format!("could not open file \"pg_wal/{name}\": No such file or directory"),
                )
            })?;
        let out = link.out();
        reply::columns(out, &[("filename", oids::TEXT), ("content", oids::TEXT)]);
        reply::row(out, &[Some(&name), Some(&history.to_text())]);
        reply::complete(out, "TIMELINE_HISTORY");
        Ok(())
    }

    fn create_slot(&self, link: &mut Connection, slot: &CreateSlot) -> Result<(), CommandError> {
        if let SlotKind::Logical { .. } = slot.kind {
            return Err(CommandError::new(
                "0A000",
                "logical replication slots are not implemented",
            ));
        }
        if !slot.temporary {
            return Err(CommandError::new(
                "0A000",
                "permanent replication slots are not implemented yet",
            )
            .hint("Use a temporary slot, and wal_keep_size or an archive to keep WAL."));
        }
        let instance = &self.sender.instance;
        let reserve = slot
            .options
            .iter()
            .any(|o| o.name.eq_ignore_ascii_case("reserve_wal"));
        let restart = reserve.then(|| instance.store.wal.redo_point());
        instance
            .slots
            .create(&slot.name, self.new.backend.pid, restart)?;
        let out = link.out();
        reply::columns(
            out,
            &[
                ("slot_name", oids::TEXT),
                ("consistent_point", oids::TEXT),
                ("snapshot_name", oids::TEXT),
                ("output_plugin", oids::TEXT),
            ],
        );
        let point = restart.unwrap_or(Lsn::INVALID).to_string();
        reply::row(out, &[Some(&slot.name), Some(&point), None, None]);
        reply::complete(out, "CREATE_REPLICATION_SLOT");
        Ok(())
    }

    fn read_slot(&self, link: &mut Connection, name: &str) {
        let instance = &self.sender.instance;
        let out = link.out();
        reply::columns(
            out,
            &[
                ("slot_type", oids::TEXT),
                ("restart_lsn", oids::TEXT),
                ("restart_tli", oids::INT8),
            ],
        );
        match instance.slots.get(name) {
            None => reply::row(out, &[None, None, None]),
            Some(slot) => {
                let restart = slot.restart.is_valid().then(|| slot.restart.to_string());
                let timeline = instance.store.wal.timeline().to_string();
                let timeline = restart.as_ref().map(|_| timeline.as_str());
                reply::row(out, &[Some("physical"), restart.as_deref(), timeline]);
            }
        }
        reply::complete(out, "READ_REPLICATION_SLOT");
    }
}
