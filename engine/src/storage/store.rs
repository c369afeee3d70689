//! The parts below rows and keys that nearly everyone needs, in one struct.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::ids::{Lsn, RelFile};
use crate::io::DiskRef;
use crate::storage::StorageError;
use crate::storage::buffer_pool::{BufferPool, WriteGate};
use crate::storage::control_file::ControlFile;
use crate::storage::files::RelationFiles;
use crate::wal::Wal;

pub struct Store {
    pub disk: DiskRef,
    pub wal: Arc<Wal>,
    pub pool: Arc<BufferPool>,
    pub files: Arc<RelationFiles>,
    pub control: Arc<ControlFile>,
    /// Held shared from before a cut of a file is logged until it is made. A checkpoint waits for it after its redo
    /// point is set: a cut whose record lies below the redo point would never be made again, and its pages, which
    /// were dropped from memory unwritten, would come back as they once were.
    pub cuts: RwLock<()>,
}

impl Store {
    /// `frames`: `shared_buffers` in pages. The pool's gate is the log; recovery replaces it while it runs.
    pub fn new(
        disk: DiskRef,
        wal: Arc<Wal>,
        control: Arc<ControlFile>,
        frames: usize,
        checksums: bool,
    ) -> Store {
        let files = Arc::new(RelationFiles::new(Arc::clone(&disk)));
        let gate: Arc<dyn WriteGate> = Arc::clone(&wal) as Arc<dyn WriteGate>;
        let pool = Arc::new(BufferPool::new(Arc::clone(&files), frames, checksums, gate));
        Store {
            disk,
            wal,
            pool,
            files,
            control,
            cuts: RwLock::new(()),
        }
    }

    /// Removes a relation's files, without writing what is in memory: after the commit that dropped the relation,
    /// after the abort of the transaction that made it, and in redo of both. Files that are gone are no error.
    pub fn drop_relation_file(&self, file: RelFile) -> Result<(), StorageError> {
        self.pool.forget(file);
        self.files.unlink(file)
    }
}

/// The forward path: the log is flushed up to the page's LSN.
impl WriteGate for Wal {
    fn before_write(&self, page_lsn: Lsn) -> Result<(), StorageError> {
        if page_lsn > self.flush_lsn() {
            self.flush_blocking(page_lsn);
        }
        assert!(
            page_lsn <= self.flush_lsn(),
            "page LSN {page_lsn} is not flushed: the log ends at {}",
            self.flush_lsn()
        );
        Ok(())
    }
    fn fatal(&self, reason: &str) {
        self.fail(reason);
    }
}
