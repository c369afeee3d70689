//! Understudy's operator: brings up a `ReplicatedCluster`, and moves the primary's role when it must.
//!
//! In reading order: what a user writes (`crd`, `validate`), what supervisors and engines say (`api`), what is
//! decided (`decide`, pure), what is seen and done (`observe`, `act`, `reconcile`), the process beside each engine
//! (`instance`), a cluster of local processes (`local`).

pub mod ids;
pub mod crd;
pub mod names;
pub mod validate;
pub mod api;
pub mod decide;
pub mod durable;
pub mod transport;
pub mod observe;
pub mod act;
pub mod reconcile;
pub mod instance;
pub mod local;
