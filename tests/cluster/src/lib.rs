//! A real Kubernetes cluster of several nodes on one machine, for the end-to-end tests and for trying things.
//!
//! Nothing is mocked: API server, scheduler, controllers, kubelets, containerd and kube-proxy are the real programs,
//! built from pinned sources once on a machine or taken from Debian. A node is a network namespace on a bridge, a mount
//! namespace with folders of its own, and a control group. Needs root and control groups of version 1.
//!
//! ```no_run
//! use understudy_cluster::{Cluster, Options, Progress};
//!
//! # fn main() -> anyhow::Result<()> {
//! let progress = Progress::default();
//! let cluster = Cluster::up(&Options::new("/var/tmp/a-cluster"), &progress)?;
//! println!("{}", cluster.kubectl(&["get", "nodes"])?);
//! Cluster::down(cluster.dir(), &progress)?;
//! # Ok(())
//! # }
//! ```
//!
//! Modules in reading order.

pub mod layout;

pub mod progress;

pub mod command;

pub mod state;

pub mod cgroups;

pub mod process;

pub mod image;

pub mod programs;

pub mod certificates;

pub mod config;

mod network;

mod node;

mod control_plane;

pub mod takedown;

mod cluster;

mod volumes;

mod faults;

mod evidence;

pub use cluster::{Cluster, Options};
pub use faults::{Container, continue_process, stop_process};
pub use layout::Node;
pub use progress::{Phase, Progress};
