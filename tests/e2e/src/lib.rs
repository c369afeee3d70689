//! Understudy on a real Kubernetes: what the end-to-end tests stand on.
//!
//! The tests in `tests/` are all ignored: they need a cluster of `tests/cluster` with the image in it, which
//! `scripts/e2e.sh` brings up and takes down. Each works in a namespace of its own, in which the *restricted* Pod
//! Security level is enforced, prints what it measured, and appends it to a results file.
//!
//! A client's word is the measure: the [`ledger`] keeps every row that was acknowledged, in which term and when, by the
//! write Service and by each instance's own address; what the operator says of itself is compared with that.
//!
//! Modules in reading order.

pub mod settings;

pub mod results;

pub mod space;

mod evidence;

pub mod heal;

pub mod controller;

pub mod history;

pub mod session;

pub mod calls;

pub mod database;

pub mod ledger;

pub mod writers;

pub mod load;

pub mod faults;

pub mod agreement;

pub mod goals;

pub mod round;

pub mod client_pod;
