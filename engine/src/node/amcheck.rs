//! `understudy amcheck`: a stopped cluster, looked at from outside. Nothing is written.
//!
//! The cluster is opened as a standby is that has replayed everything: a shutdown checkpoint says that every page and
//! every outcome is in its file. Anything else would have to be recovered first, and that is a server's work.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::catalog::check::{Check, databases};
use crate::catalog::relation::Relation;
use crate::catalog::view::CatalogError;
use crate::ids::{Oid, ProcessId};
use crate::io::real::RealDisk;
use crate::io::{DiskRef, EntryKind};
use crate::node::core::{Core, CoreConfig, KeepsNothing};
use crate::node::managed::told::AtStart;
use crate::recovery::CheckpointSettings;
use crate::server::cli::{CheckRequest, Report, pid_file};
use crate::storage::{ClusterState, ControlFile};
use crate::txn::{Interrupts, TxnConfig};
use crate::wal::WalConfig;

/// 64 MiB of pages.
const FRAMES: usize = 8192;

pub fn amcheck(request: &CheckRequest) -> anyhow::Result<Report> {
    let directory = &request.data_directory;
    let lock = pid_file::lock(directory).map_err(|c| anyhow::anyhow!(c.message))?;
    anyhow::ensure!(
        lock.is_some(),
        "a server is running in data directory \"{}\"\nUse SELECT * FROM understudy_check() there.",
        directory.display()
    );
    let disk: DiskRef = Arc::new(RealDisk::new(directory));
    let core = open(Arc::clone(&disk))?;
    let report = look(&core, &*disk, request);
    core.checkpointer.end_thread();
    report
}

fn open(disk: DiskRef) -> anyhow::Result<Core> {
    let control = ControlFile::open(Arc::clone(&disk))?;
    let data = control.get();
    anyhow::ensure!(
        data.state == ClusterState::ShutDown,
        "the cluster was not shut down cleanly (its state is \"{}\")\nStart the server and stop it, or use SELECT * FROM understudy_check() on the running server.",
        data.state.as_str()
    );
    let config = CoreConfig {
        frames: FRAMES,
        wal: WalConfig {
            segment_size: data.wal_segment_size,
            ..WalConfig::new(data.system_id)
        },
        txn: TxnConfig::default(),
        checkpoints: Arc::new(|| NO_CHECKPOINTS),
        retention: Arc::new(KeepsNothing),
        told: AtStart::default(),
    };
    let core = Core::open(disk, control, config)?;
    core.participant.begin_recovery(&data.checkpoint_copy);
    // A page may be as new as the record that the shutdown wrote.
    core.participant
        .replayed(data.checkpoint.advance(u64::from(u32::MAX)));
    Ok(core)
}

fn look(core: &Core, disk: &dyn crate::io::Disk, request: &CheckRequest) -> anyhow::Result<Report> {
    let reader = Interrupts::new(ProcessId::MIN);
    let mut report = Report::default();
    let mut shared_seen = HashSet::new();
    for (database, name) in databases(&core.catalog, &reader)? {
        if request
            .database
            .as_ref()
            .is_some_and(|wanted| *wanted != name)
        {
            continue;
        }
        report.databases += 1;
        let check = Check {
            catalog: &core.catalog,
            database,
            reader: Arc::clone(&reader),
            interrupted: &|| Ok::<(), CatalogError>(()),
        };
        let relations = check.everything()?;
        for relation in &relations {
            let again = relation.is_shared() && !shared_seen.insert(relation.oid);
            if again || !is_wanted(relation, &request.relations) {
                continue;
            }
            report.relations += 1;
            let findings = check.one(relation.oid)?;
            let shown = findings
                .into_iter()
                .map(|f| format!("database \"{name}\", {f}"));
            report.findings.extend(shown);
        }
        let directory = Path::new("base").join(database.to_string());
        report
            .leftovers
            .extend(leftovers(disk, &directory, &relations)?);
    }
    anyhow::ensure!(
        report.databases > 0,
        "database \"{}\" does not exist",
        request.database.as_deref().unwrap_or_default()
    );
    Ok(report)
}

fn is_wanted(relation: &Relation, names: &[String]) -> bool {
    let is = |name: &str, wanted: &String| {
        wanted == name || *wanted == format!("{}.{name}", relation.schema_name)
    };
    let any = |wanted: &String| {
        is(&relation.name, wanted) || relation.indexes.iter().any(|i| is(&i.name, wanted))
    };
    names.is_empty() || names.iter().any(any)
}

/// Numbered files of a database that no relation has.
fn leftovers(
    disk: &dyn crate::io::Disk,
    directory: &Path,
    relations: &[Arc<Relation>],
) -> anyhow::Result<Vec<String>> {
    let known: HashSet<Oid> = relations
        .iter()
        .flat_map(|r| {
            let indexes = r.indexes.iter().map(|i| i.file.number);
            [r.file.number]
                .into_iter()
                .chain(r.overflow.map(|f| f.number))
                .chain(indexes)
                .collect::<Vec<_>>()
        })
        .collect();
    let mut found = Vec::new();
    for (name, kind) in disk.list(directory)? {
        let digits: String = name.chars().take_while(char::is_ascii_digit).collect();
        let number = digits.parse().map(Oid::new);
        if kind == EntryKind::File && number.is_ok_and(|n| !known.contains(&n)) {
            found.push(directory.join(name).display().to_string());
        }
    }
    found.sort();
    Ok(found)
}

const NO_CHECKPOINTS: CheckpointSettings = CheckpointSettings {
    timeout: Duration::from_secs(1 << 30),
    completion_target: 0.9,
    max_wal_bytes: 1 << 40,
    min_wal_bytes: 0,
    wal_keep_bytes: 0,
    warning: Duration::ZERO,
    log: false,
};
