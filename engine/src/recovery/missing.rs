//! Pages that the log speaks of and that are not there.
//!
//! While a backup is being made consistent, or after a crash, replay may meet records of files that later records
//! drop or cut. Such pages are remembered, and forgotten when the drop comes; those still remembered at
//! consistency are lost data.

use hashbrown::HashSet;
use parking_lot::Mutex;

use crate::ids::{Fork, Oid, PageId, RelFile};

use super::error::RecoveryError;

#[derive(Default)]
pub struct MissingPages {
    pages: Mutex<HashSet<PageId>>,
}

impl MissingPages {
    pub(super) fn remember(&self, page: PageId) {
        if self.pages.lock().insert(page) {
            tracing::debug!(
                block = %page.block,
                rel = %page.file.path(page.fork),
                "page does not exist, waiting for its file to be dropped"
            );
        }
    }
    /// The file has been dropped.
    pub fn forget_file(&self, file: RelFile) {
        self.forget(|page| page.file == file);
    }
    /// Those of which `gone` is true have been dropped.
    pub(super) fn forget_files(&self, gone: &dyn Fn(RelFile) -> bool) {
        self.forget(|page| gone(page.file));
    }
    /// The fork has been cut to `blocks`.
    pub fn forget_beyond(&self, file: RelFile, fork: Fork, blocks: u32) {
        self.forget(|page| page.file == file && page.fork == fork && page.block.raw() >= blocks);
    }
    /// The database has been dropped.
    pub fn forget_database(&self, database: Oid) {
        self.forget(|page| page.file.database == database);
    }
    fn forget(&self, which: impl Fn(&PageId) -> bool) {
        let mut pages = self.pages.lock();
        if !pages.is_empty() {
            pages.retain(|page| !which(page));
        }
    }
    pub(super) fn is_empty(&self) -> bool {
        self.pages.lock().is_empty()
    }
    /// An error if anything is still missing.
    pub(super) fn check(&self) -> Result<(), RecoveryError> {
        let pages = self.pages.lock();
        for page in pages.iter() {
            tracing::warn!(
                "page {} of relation {} does not exist",
                page.block,
                page.file.path(page.fork)
            );
        }
        match pages.iter().next() {
            None => Ok(()),
            Some(first) => Err(RecoveryError::InvalidPages {
                count: pages.len(),
                first: *first,
            }),
        }
    }
}
