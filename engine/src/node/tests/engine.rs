//! An engine over a simulated disk, without sockets: made, started, spoken to in SQL, stopped, killed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::catalog::check::{Check, databases};
use crate::catalog::view::{CatalogError, CatalogView};
use crate::config::Settings;
use crate::config::server::Values;
use crate::ids::{Oid, PAGE_SIZE, ProcessId, SystemId};
use crate::instance::Instance;
use crate::io::sim::SimDisk;
use crate::io::{Access, Disk, DiskRef, EntryKind};
use crate::node::bootstrap::bootstrap_on;
use crate::node::core::{Core, CoreConfig, KeepsNothing};
use crate::node::managed::told::AtStart;
use crate::node::services::NodeServices;
use crate::node::standby::redo;
use crate::recovery::{
    Backups, CheckpointKind, CheckpointSettings, Mode, Outcome, RecoverySettings, Startup,
    StartupConfig,
};
use crate::replication::slots::Slots;
use crate::replication::standbys::Standbys;
use crate::server::cli::NewCluster;
use crate::sql::bound::OutputColumn;
use crate::sql::error::SqlError;
use crate::sql::session::backends::{Activity, Backend, BackendKind, Limits, Place};
use crate::sql::session::client_socket::ClientSocket;
use crate::sql::session::output::{CopyInput, Format, Formats, Gone, Output};
use crate::sql::session::{Backends, Session};
use crate::storage::ControlFile;
use crate::storage::page;
use crate::table::sequence::Sequences;
use crate::txn::{Interrupts, Isolation, ReleasePolicy, TxnConfig, TxnOptions};
use crate::types::codec;
use crate::types::datum::Datum;
use crate::types::function::FunctionCx;
use crate::wal::WalConfig;

pub const SEGMENT: u32 = 1 << 20;
const DIRECTORIES: [&str; 7] = [
    "global",
    "pg_wal",
    "pg_wal/archive_status",
    "base",
    "pg_xact",
    "pg_replslot",
    "pg_tblspc",
];

pub struct Engine {
    pub core: Core,
    services: Arc<NodeServices>,
    backends: Arc<Backends>,
    pub runtime: Arc<tokio::runtime::Runtime>,
    /// The log could not be written: a real server would have ended here.
    pub failed: Arc<AtomicBool>,
}

fn wal_config(failed: &Arc<AtomicBool>) -> WalConfig {
    let failed = Arc::clone(failed);
    WalConfig {
        segment_size: SEGMENT,
        buffers: 256 << 10,
        writer_delay: Duration::from_millis(20),
        fatal: Arc::new(move |_| failed.store(true, Ordering::SeqCst)),
        ..WalConfig::new(SystemId::new(77))
    }
}

fn no_checkpoints() -> CheckpointSettings {
    CheckpointSettings {
        timeout: Duration::from_secs(3600),
        completion_target: 0.9,
        max_wal_bytes: 1 << 40,
        min_wal_bytes: 0,
        wal_keep_bytes: 0,
        warning: Duration::ZERO,
        log: false,
    }
}

/// A cluster as `initdb` leaves it, all of it durable.
pub fn initialised() -> SimDisk {
    let disk = SimDisk::new();
    for dir in DIRECTORIES {
        disk.create_dir(Path::new(dir)).expect("an empty disk");
    }
    for dir in ["", "pg_wal"] {
        disk.sync_dir(Path::new(dir)).expect("synced");
    }
    let new = NewCluster {
        data_directory: PathBuf::new(),
        superuser: "postgres".to_owned(),
        password: None,
        checksums: true,
        wal_segment_size: SEGMENT,
        locale: "C".to_owned(),
    };
    let failed = Arc::default();
    bootstrap_on(Arc::new(disk.clone()), wal_config(&failed), &new).expect("a new cluster");
    disk.freeze().image(|_| true)
}

impl Engine {
    pub fn start(disk: &SimDisk) -> Result<Engine, anyhow::Error> {
        Engine::start_with(disk, true)
    }

    /// Without full-page writes redo changes only pages that are older than a record.
    pub fn start_with(disk: &SimDisk, full_page_writes: bool) -> Result<Engine, anyhow::Error> {
        let shared: DiskRef = Arc::new(disk.clone());
        let control = ControlFile::open(Arc::clone(&shared))?;
        let failed = Arc::default();
        let config = CoreConfig {
            frames: 128,
            wal: WalConfig {
                full_page_writes,
                ..wal_config(&failed)
            },
            txn: TxnConfig::default(),
            checkpoints: Arc::new(no_checkpoints),
            retention: Arc::new(KeepsNothing),
            told: AtStart::default(),
        };
        let core = Core::open(shared, control, config)?;
        core.txns.release().set_policy(ReleasePolicy::Local);
        let settings = Arc::new(Settings::fixed(
            Values::defaults(),
            PathBuf::from("/nowhere"),
        ));
        let backends = Backends::new();
        recover(&core, &settings, &backends).inspect_err(|_| end(&core))?;
        core.orphans.remove(&core.catalog)?;
        let instance = Arc::new(Instance {
            changes: Arc::default(),
            settings,
            store: Arc::clone(&core.store),
            txns: Arc::clone(&core.txns),
            catalog: Arc::clone(&core.catalog),
            oids: Arc::clone(&core.oids),
            state: Arc::clone(&core.state),
            checkpointer: Arc::clone(&core.checkpointer),
            backups: Arc::new(Backups::new(
                Arc::clone(&core.store),
                Arc::clone(&core.state),
                Arc::clone(&core.checkpointer),
            )),
            standbys: Standbys::new(0, Arc::clone(&core.txns)),
            slots: Slots::new(0),
            sequences: Arc::new(Sequences::default()),
            receiver: None,
            system_id: SystemId::new(77),
            started_at: 0,
        });
        let services = Arc::new(NodeServices {
            instance,
            backends: Arc::clone(&backends),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        Ok(Engine {
            core,
            services,
            backends,
            runtime: Arc::new(runtime),
            failed,
        })
    }

    pub fn session(&self) -> Speaker {
        let reader = Interrupts::new(ProcessId::MIN);
        let txn = self.core.txns.begin(reading(Oid::INVALID), reader);
        let view = self
            .core
            .catalog
            .view(Oid::INVALID, &txn, &[], Oid::INVALID);
        let role = view.role_named("postgres").expect("readable");
        let role = role.expect("initdb made it");
        let database = view.database_named("postgres").expect("readable");
        let database = database.expect("initdb made it");
        let pid = self.backends.new_pid();
        let backend = Backend {
            pid,
            key: 1,
            kind: BackendKind::Client,
            user: role.oid,
            user_name: Arc::from("postgres"),
            superuser: true,
            database: database.oid,
            database_name: Arc::from("postgres"),
            remote: None,
            tls: None,
            started: 0,
            interrupts: Interrupts::new(pid),
            socket: ClientSocket::unix(),
            activity: parking_lot::Mutex::new(Activity::default()),
            waits_for_client: AtomicBool::new(false),
            log: parking_lot::Mutex::new(None),
        };
        let limits = Limits {
            connections: 100,
            reserved: 0,
            database: -1,
            role: -1,
        };
        let place = self.backends.admit(backend, limits).expect("there is room");
        let services = Arc::clone(&self.services);
        let backend = Arc::clone(&place.backend);
        let session = Session::open(services, backend, &role, &database, &[], &[]);
        Speaker {
            session: Some(session.expect("opens")),
            runtime: Arc::clone(&self.runtime),
            _place: place,
        }
    }

    pub fn checkpoint(&self) -> Result<(), String> {
        let done = self
            .core
            .checkpointer
            .checkpoint_blocking(CheckpointKind::Immediate);
        done.map(|_| ())
    }

    /// A fast stop, after which every page on the disk must verify.
    pub fn stop(self) {
        self.core
            .checkpointer
            .shutdown()
            .expect("the last checkpoint");
        self.core.store.wal.stop();
    }

    /// The process is gone, the machine is not.
    pub fn kill(self, disk: &SimDisk) -> SimDisk {
        let left = disk.after_kill();
        self.core.store.wal.fail("killed");
        end(&self.core);
        left
    }

    /// What our own amcheck says of the database `postgres`.
    pub fn damage(&self) -> Vec<String> {
        let reader = Interrupts::new(ProcessId::MIN);
        let catalog = &self.core.catalog;
        let all = databases(catalog, &reader).expect("databases");
        let (database, _) = all.iter().find(|(_, n)| n == "postgres").expect("made");
        let check = Check {
            catalog,
            database: *database,
            reader,
            interrupted: &|| Ok::<(), CatalogError>(()),
        };
        let mut found = Vec::new();
        for relation in check.everything().expect("the catalog") {
            let findings = check.one(relation.oid).expect("checked");
            found.extend(findings.iter().map(ToString::to_string));
        }
        found
    }
}

fn recover(
    core: &Core,
    settings: &Arc<Settings>,
    backends: &Arc<Backends>,
) -> Result<Outcome, anyhow::Error> {
    let startup = Startup::new(StartupConfig {
        store: Arc::clone(&core.store),
        redo: redo(settings, core, backends),
        participant: Arc::clone(&core.participant),
        state: Arc::clone(&core.state),
        mode: Mode::Primary,
        request_file: None,
        settings: RecoverySettings::default(),
        archive: None,
        upstream: None,
        trigger: None,
    });
    Ok(startup.run()?)
}

/// Ends the threads, whatever state they are in.
fn end(core: &Core) {
    core.checkpointer.end_thread();
    core.store.wal.stop();
}

fn reading(database: Oid) -> TxnOptions {
    TxnOptions {
        isolation: Isolation::ReadCommitted,
        read_only: true,
        deferrable: false,
        database,
    }
}

/// A client of the engine.
pub struct Speaker {
    session: Option<Session<NodeServices>>,
    runtime: Arc<tokio::runtime::Runtime>,
    _place: Place,
}

impl Speaker {
    /// Runs a query string; its rows as text, columns joined by `|`, NULL as `-`.
    pub fn try_sql(&mut self, text: &str) -> Result<Vec<String>, SqlError> {
        let session = self.session.as_mut().expect("open");
        let mut heard = Heard::default();
        let limit = Duration::from_secs(60);
        let said = self.runtime.block_on(async {
            let said = tokio::time::timeout(limit, session.simple(text, &mut heard));
            said.await.expect("nothing waits for ever")
        });
        said?;
        match heard.error {
            Some(error) => Err(error),
            None => Ok(heard.rows),
        }
    }

    pub fn sql(&mut self, text: &str) -> Vec<String> {
        self.try_sql(text)
            .unwrap_or_else(|e| panic!("{text}: {} {}", e.state, e.message))
    }

    /// The session is lost with its process: nothing of it is rolled back.
    pub fn forget(mut self) {
        std::mem::forget(self.session.take());
    }

    pub fn close(mut self) {
        if let Some(session) = self.session.take() {
            self.runtime.block_on(session.close());
        }
    }
}

#[derive(Default)]
struct Heard {
    rows: Vec<String>,
    error: Option<SqlError>,
}

impl Output for Heard {
    fn row_description(&mut self, _columns: &[OutputColumn], _formats: &Formats) {}
    fn data_row(
        &mut self,
        row: &[Datum],
        types: &[Oid],
        _formats: &Formats,
        cx: &FunctionCx,
    ) -> Result<(), SqlError> {
        let values = row.iter().zip(types).map(|(value, ty)| match value {
            Datum::Null => "-".to_owned(),
            value => codec::to_text(*ty, value, cx),
        });
        self.rows.push(values.collect::<Vec<_>>().join("|"));
        Ok(())
    }
    fn command_complete(&mut self, _tag: &str) {}
    fn empty_query(&mut self) {}
    fn portal_suspended(&mut self) {}
    fn parameter_description(&mut self, _types: &[Oid]) {}
    fn no_data(&mut self) {}
    fn notice(&mut self, _notice: &SqlError) {}
    fn error(&mut self, error: &SqlError) {
        self.error = Some(error.clone());
    }
    fn parameter_status(&mut self, _name: &str, _value: &str) {}
    fn copy_in(&mut self, _format: Format, _columns: usize) {}
    fn copy_out(&mut self, _format: Format, _columns: usize) {}
    fn copy_data(&mut self, _data: &[u8]) {}
    fn copy_done(&mut self) {}
    fn is_full(&self) -> bool {
        false
    }
    async fn flush(&mut self) -> Result<(), Gone> {
        Ok(())
    }
    async fn receive_copy(&mut self) -> Result<CopyInput, SqlError> {
        Ok(CopyInput::Fail("no COPY here".to_owned()))
    }
}

/// Pages below `base/` and `global/` whose checksum is wrong, as `pg_checksums --check` would find them.
pub fn bad_pages(disk: &SimDisk) -> Vec<String> {
    let mut bad = Vec::new();
    let mut dirs = vec![PathBuf::from("global")];
    for (name, kind) in disk.list(Path::new("base")).expect("listed") {
        assert_eq!(kind, EntryKind::Directory, "base/{name}");
        dirs.push(Path::new("base").join(name));
    }
    for dir in dirs {
        for (name, _) in disk.list(&dir).expect("listed") {
            if !name.starts_with(|c: char| c.is_ascii_digit()) {
                continue;
            }
            let path = dir.join(&name);
            let file = disk.open(&path, Access::Read).expect("opened");
            let len = file.len().expect("a length");
            if len % PAGE_SIZE as u64 != 0 {
                bad.push(format!("{} has {len} bytes", path.display()));
            }
            for block in 0..len / PAGE_SIZE as u64 {
                let mut bytes = [0; PAGE_SIZE];
                let read = file.read_at(&mut bytes, block * PAGE_SIZE as u64);
                assert_eq!(read.expect("read"), PAGE_SIZE);
                let number = crate::ids::BlockNumber::new(block as u32);
                let sound = page::is_new(&bytes)
                    || page::stored_checksum(&bytes) == page::checksum_of(&bytes, number);
                if !sound {
                    bad.push(format!("{} block {block}", path.display()));
                }
            }
        }
    }
    bad
}
