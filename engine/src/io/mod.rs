//! The only door to the operating system's files: everything durable is written through [`Disk`].
//!
//! Invariants: a path is relative to the disk's root (the data directory); what a call reports as synced
//! survives a power cut; `rename` and `create` are durable only after `sync_dir` of the parent. Two
//! implementations: [`real::RealDisk`] (the machine) and [`sim::SimDisk`] (keeps *live* and *durable* bytes
//! apart, makes crash images and injects errors). Nothing here knows of pages, records or settings.

pub mod disk;
pub mod durable;
pub mod real;
pub mod sim;

pub use disk::{Access, Disk, DiskFile, DiskRef, EntryKind, FileRef};
