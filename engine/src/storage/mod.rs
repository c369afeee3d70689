//! Pages, the buffer pool, relation files, the control file, the write sequence.

pub mod buffer_pool;
pub mod change;
pub mod control_file;
pub mod error;
pub mod files;
pub mod page;
pub mod store;

pub use buffer_pool::{BufferPool, Flow, PageRead, PageWrite, Pinned, Progress, Ring, WriteGate};
pub use change::{BlockMode, Change, Latched, PageFn};
pub use control_file::{ClusterState, ControlData, ControlError, ControlFile};
pub use error::{PageFault, StorageError};
pub use files::RelationFiles;
pub use page::PageBuf;
pub use store::Store;
