//! The whole engine over the simulated disk: crashes at every sync, a killed process, a full disk, failing syncs.

mod crash_images;
mod engine;
mod faults;
mod script;
