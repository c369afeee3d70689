//! The buffer pool: a fixed number of page frames between the relation files and everyone else.
//!
//! Owns which page is in which frame, pins, latches, what is dirty, and the order "log before data". Knows
//! nothing of what pages mean.
//!
//! Invariants:
//! - a page is in at most one frame; a frame that somebody holds a pin on keeps its page;
//! - a page is written only after the gate ([`WriteGate`]) let its LSN pass, from a copy with a fresh checksum,
//!   by one writer at a time, and never while a lookup shard is locked;
//! - eviction waits for no latch (its caller may hold one, so waiting could be a circle);
//! - what [`BufferPool::write_dirty`] leaves behind is durable.
//!
//! A crash loses all frames; redo makes them again from the log.

mod evict;
mod flush;
mod frame;
mod pool;
mod ring;

#[cfg(test)]
mod tests;

pub use flush::{Flow, Progress, WriteGate};
pub use frame::{PageRead, PageWrite, Pinned};
pub use pool::BufferPool;
pub use ring::Ring;
