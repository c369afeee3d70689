//! Understudy's operator: brings up a `ReplicatedCluster`, and moves the primary's role when it must.
//!
//! In reading order: what a user writes (`crd`, `validate`), what supervisors and engines say (`api`), what is
//! decided (`decide`, pure), what a manifest is made of on Kubernetes (`render`, pure), what is seen and done (`observe`,
//! `act`, `reconcile`), the process beside each engine (`instance`), a cluster of local processes (`local`).

pub mod act;
pub mod api;
pub mod crd;
pub mod decide;
pub mod durable;
pub mod faults;
pub mod ids;
pub mod instance;
pub mod kubernetes;
pub mod local;
pub mod names;
pub mod observe;
pub mod reconcile;
pub mod render;
pub mod tls;
pub mod transport;
pub mod validate;
