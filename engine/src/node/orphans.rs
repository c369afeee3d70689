//! Directories of databases that no catalog row names: what a crash leaves in the middle of CREATE DATABASE, or between
//! the commit of DROP DATABASE and its end.
//!
//! They are noted at the end of recovery, before anybody may write, and their numbers are kept from being given out
//! again. Once the log is open they are removed as DROP DATABASE removes them, with its record: replay and standbys
//! hear that the pages are gone. A crash in between leaves the rest to the next recovery. Databases that `initdb`
//! made are never touched, whatever the catalog says. Nothing is removed on the word of a damaged `pg_database`: a
//! file that lost pages names fewer databases than there are.

use std::io;
use std::path::Path;

use parking_lot::Mutex;

use crate::catalog::Catalog;
use crate::catalog::bootstrap::{TEMPLATE0, TEMPLATE1};
use crate::catalog::check::{Check, databases};
use crate::catalog::database::drop_files;
use crate::catalog::view::CatalogError;
use crate::ids::{Oid, ProcessId};
use crate::io::{Disk, EntryKind};
use crate::txn::Interrupts;

const PG_DATABASE: Oid = Oid::new(1262);

#[derive(Default)]
pub struct Orphans {
    /// Directories of databases at the end of recovery, named in the catalog or not.
    noted: Mutex<Vec<Oid>>,
}

impl Orphans {
    /// Remembers the directories that are there; gives a number above all of theirs.
    pub fn note(&self, disk: &dyn Disk) -> io::Result<Oid> {
        let entries = disk.list(Path::new("base"))?;
        let number = |(name, kind): (String, EntryKind)| {
            let number = name.parse().ok().map(Oid::new);
            number.filter(|n| kind == EntryKind::Directory && *n >= Oid::FIRST_NORMAL)
        };
        let found: Vec<Oid> = entries.into_iter().filter_map(number).collect();
        let highest = found.iter().max().map_or(0, |oid| oid.raw());
        *self.noted.lock() = found;
        Ok(Oid::new(highest.saturating_add(1)))
    }

    /// Removes those of them that the catalog does not know. The log is open.
    pub fn remove(&self, catalog: &Catalog) -> Result<usize, CatalogError> {
        let noted = std::mem::take(&mut *self.noted.lock());
        if noted.is_empty() {
            return Ok(0);
        }
        let known = databases(catalog, &Interrupts::new(ProcessId::MIN))?;
        let is_known = |database: Oid| known.iter().any(|(oid, _)| *oid == database);
        let orphans: Vec<Oid> = noted.into_iter().filter(|oid| !is_known(*oid)).collect();
        if orphans.is_empty() {
            return Ok(0);
        }
        // Either may have been dropped, and made anew under another number.
        let witness = [TEMPLATE1, TEMPLATE0]
            .into_iter()
            .find(|oid| is_known(*oid));
        let doubt = match witness {
            Some(database) => doubt_of(catalog, database)?,
            None => Some("it has neither template0 nor template1".to_owned()),
        };
        if let Some(doubt) = doubt {
            let count = orphans.len();
            tracing::warn!(
                "{count} directories in \"base\" that no row of pg_database names are kept, because pg_database may be damaged: {doubt}"
            );
            return Ok(0);
        }
        for database in &orphans {
            tracing::info!("removing directory \"base/{database}\": no database has it");
            drop_files(&catalog.store, *database)?;
        }
        Ok(orphans.len())
    }
}

/// The first thing that is wrong with `pg_database` or one of its indexes, which `database` describes.
fn doubt_of(catalog: &Catalog, database: Oid) -> Result<Option<String>, CatalogError> {
    let check = Check {
        catalog,
        database,
        reader: Interrupts::new(ProcessId::MIN),
        interrupted: &|| Ok::<(), CatalogError>(()),
    };
    let findings = check.one(PG_DATABASE)?;
    Ok(findings.first().map(ToString::to_string))
}
