//! The background vacuum: a thread of its own that looks at every table of every database, time and again.
//!
//! A table is vacuumed when statements have left more dead rows than `autovacuum_vacuum_threshold` and
//! `autovacuum_vacuum_scale_factor` of its rows, or when it has twice as many pages as after its last vacuum (which
//! finds what rolled back transactions left, and the catalog's own tables). Statistics are refreshed by the same rule
//! with the settings for analysis. It waits for no table's lock, only tries again for a while to cut off an empty tail, and
//! its commits wait for nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::analyze::{Analyzed, analyze_table};
use super::vacuum::{How, Vacuumed, vacuum_table};
use super::work::{Work, key_of};
use crate::catalog::relation::{Relation, RelationKind};
use crate::catalog::rows::DatabaseRow;
use crate::catalog::view::CatalogView;
use crate::config::server::AutovacuumSettings;
use crate::ids::{Fork, Oid, ProcessId};
use crate::instance::Instance;
use crate::sql::ddl::lock_database;
use crate::sql::error::SqlError;
use crate::txn::{CommitLevel, Interrupt, Interrupts};

/// A table this small is not vacuumed because it has grown.
const SMALL: u32 = 16;
const MAX_WORK_MEMORY: usize = 64 << 20;

/// The running thread.
pub struct Autovacuum {
    told: Arc<Told>,
    thread: Option<JoinHandle<()>>,
}

struct Told {
    stop: AtomicBool,
    woken: Notify,
    interrupts: Arc<Interrupts>,
}

impl Autovacuum {
    /// `pid`: what its locks and transactions go by.
    pub fn start(instance: Arc<Instance>, pid: ProcessId) -> std::io::Result<Autovacuum> {
        let told = Arc::new(Told {
            stop: AtomicBool::new(false),
            woken: Notify::new(),
            interrupts: Interrupts::new(pid),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let launcher = Launcher {
            instance,
            told: Arc::clone(&told),
            sizes: HashMap::new(),
        };
        let thread = std::thread::Builder::new()
            .name("autovacuum".to_owned())
            .spawn(move || runtime.block_on(launcher.run()))?;
        Ok(Autovacuum {
            told,
            thread: Some(thread),
        })
    }

    /// Interrupts what it does and waits for the thread's end.
    pub fn stop(&mut self) {
        self.told.stop.store(true, Ordering::Release);
        self.told.interrupts.raise(Interrupt::Terminate);
        self.told.woken.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the background vacuum ended with a panic");
        }
    }
}

impl Drop for Autovacuum {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Launcher {
    instance: Arc<Instance>,
    told: Arc<Told>,
    /// Pages after the last vacuum, or when the table was first seen.
    sizes: HashMap<(Oid, Oid), u32>,
}

/// What a table needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Need {
    vacuum: bool,
    analyze: bool,
}

impl Launcher {
    async fn run(mut self) {
        while !self.stopping() {
            let settings = self.instance.settings.current().autovacuum.clone();
            let pause = tokio::time::sleep(settings.naptime);
            tokio::select! {
                () = pause => {}
                () = self.told.woken.notified() => continue,
            }
            if settings.enabled && self.may_write() {
                self.round(&settings).await;
            }
        }
    }

    fn stopping(&self) -> bool {
        self.told.stop.load(Ordering::Acquire)
    }

    /// Not on a standby, and not before statements may read.
    fn may_write(&self) -> bool {
        !self.instance.state.in_recovery() && self.instance.txns.snapshots_open()
    }

    async fn round(&mut self, settings: &AutovacuumSettings) {
        let databases = match self.databases() {
            Ok(databases) => databases,
            Err(error) => return complain("the list of databases", &error),
        };
        self.sizes
            .retain(|(of, _), _| !of.is_valid() || databases.iter().any(|(oid, _)| oid == of));
        for (database, name) in databases {
            if self.stopping() {
                return;
            }
            if let Err(error) = self.database(database, &name, settings).await
                && !self.stopping()
            {
                complain(&format!("database \"{name}\""), &error);
            }
        }
    }

    fn work<'a>(&self, instance: &'a Instance, told: &'a Told, of: (Oid, &'a str)) -> Work<'a> {
        let values = &self.instance.settings.current().values;
        let kilobytes = usize::try_from(values.integer("maintenance_work_mem")).unwrap_or(0);
        Work {
            instance,
            database: of.0,
            database_name: of.1,
            interrupts: &told.interrupts,
            level: CommitLevel::Off,
            user: None,
            memory: (kilobytes * 1024).min(MAX_WORK_MEMORY),
            statistics_target: usize::try_from(values.integer("default_statistics_target"))
                .unwrap_or(100),
        }
    }

    fn databases(&self) -> Result<Vec<(Oid, String)>, SqlError> {
        let catalog = &self.instance.catalog;
        let work = self.work(&self.instance, &self.told, (Oid::INVALID, ""));
        let txn = work.begin();
        let system = catalog.system(Oid::INVALID);
        let cx = catalog.cx(&system, Oid::INVALID);
        let snapshot = catalog.txns.catalog_snapshot(&txn);
        let rows = cx.scan::<DatabaseRow>(&snapshot)?;
        Ok(rows
            .into_iter()
            .map(|(_, row)| (row.oid, row.datname))
            .collect())
    }

    async fn database(
        &mut self,
        database: Oid,
        name: &str,
        settings: &AutovacuumSettings,
    ) -> Result<(), SqlError> {
        let (instance, told) = (Arc::clone(&self.instance), Arc::clone(&self.told));
        let tables = {
            let work = self.work(&instance, &told, (database, name));
            let mut txn = work.begin();
            // Nobody copies or drops it while we look at it.
            lock_database(&instance.txns, &mut txn, database).await?;
            let view = instance.catalog.view(database, &txn, &[], Oid::INVALID);
            if view.database(database)?.is_none() {
                return Ok(());
            }
            view.relations()?
        };
        for table in tables.iter().filter(|t| t.kind == RelationKind::Table) {
            told.interrupts.check()?;
            // It may have been dropped since it was listed: the others are still to be looked at.
            let need = match self.need(database, table, settings) {
                Ok(need) => need,
                Err(error) => {
                    complain(&format!("table \"{name}.{}\"", table.name), &error);
                    continue;
                }
            };
            if need == Need::default() {
                continue;
            }
            let work = self.work(&instance, &told, (database, name));
            if let Err(error) = self.tend(&work, table, need, settings).await {
                told.interrupts.check()?;
                complain(&format!("table \"{name}.{}\"", table.name), &error);
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn need(
        &mut self,
        database: Oid,
        table: &Relation,
        settings: &AutovacuumSettings,
    ) -> Result<Need, SqlError> {
        let key = key_of(database, table);
        let pages = self
            .instance
            .store
            .pool
            .block_count(table.file, Fork::Main)?;
        let before = *self.sizes.entry(key).or_insert(pages);
        let seen = self.instance.changes.of(key.0, key.1);
        let rows = table.estimated_rows.max(0.0);
        let over = |count: u64, threshold: u64, factor: f64| {
            count as f64 > threshold as f64 + factor * rows
        };
        let (dead, grown) = (
            over(
                seen.dead,
                settings.vacuum_threshold,
                settings.vacuum_scale_factor,
            ),
            pages > SMALL && pages > before.saturating_mul(2),
        );
        Ok(Need {
            vacuum: dead || grown,
            analyze: over(
                seen.changed,
                settings.analyze_threshold,
                settings.analyze_scale_factor,
            ),
        })
    }

    async fn tend(
        &mut self,
        work: &Work<'_>,
        table: &Relation,
        need: Need,
        settings: &AutovacuumSettings,
    ) -> Result<(), SqlError> {
        // The database must not be copied or dropped meanwhile; the lock goes with this transaction's end, behind
        // that of the vacuum's own.
        let interrupts = Interrupts::new(work.interrupts.pid());
        let guard = Work {
            interrupts: &interrupts,
            ..*work
        };
        let mut held = guard.begin();
        lock_database(&work.instance.txns, &mut held, work.database).await?;
        if need.vacuum {
            self.vacuum(work, table, settings).await?;
        }
        if need.analyze {
            let began = Instant::now();
            if let Analyzed::Done(table) = analyze_table(work, table.oid, &[], true).await? {
                say(settings, began, || {
                    let name = full_name(work, &table);
                    format!("automatic analyze of table \"{name}\"")
                });
            }
        }
        Ok(())
    }

    async fn vacuum(
        &mut self,
        work: &Work<'_>,
        table: &Relation,
        settings: &AutovacuumSettings,
    ) -> Result<(), SqlError> {
        let how = How {
            freeze: false,
            truncate: true,
            skip_locked: true,
        };
        let began = Instant::now();
        let Vacuumed::Done {
            table,
            report,
            pages,
        } = vacuum_table(work, table.oid, how).await?
        else {
            return Ok(());
        };
        self.sizes.insert(key_of(work.database, &table), pages);
        say(settings, began, || {
            format!(
                "automatic vacuum of table \"{}\": index scans: {}\n\
                 pages: {} removed, {pages} remain\n\
                 tuples: {} removed, {} remain, {} are dead but not yet removable",
                full_name(work, &table),
                report.index_passes,
                report.pages.saturating_sub(pages),
                report.removed_rows,
                report.live_rows + report.recently_dead_rows,
                report.recently_dead_rows,
            )
        });
        Ok(())
    }
}

fn full_name(work: &Work<'_>, table: &Relation) -> String {
    format!(
        "{}.{}.{}",
        work.database_name, table.schema_name, table.name
    )
}

/// `log_autovacuum_min_duration`
fn say(settings: &AutovacuumSettings, began: Instant, message: impl FnOnce() -> String) {
    let took: Duration = began.elapsed();
    if settings.log_min_duration.is_some_and(|least| took >= least) {
        tracing::info!("{}, elapsed: {:.2} s", message(), took.as_secs_f64());
    }
}

fn complain(what: &str, error: &SqlError) {
    tracing::warn!(error = %error.message, "automatic vacuum of {what} failed");
}
