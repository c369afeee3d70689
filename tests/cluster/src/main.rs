//! The command `cluster`: a Kubernetes cluster on this machine, up and down.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use understudy_cluster::programs::Programs;
use understudy_cluster::{Cluster, Node, Options, Progress};

/// A real Kubernetes cluster of several nodes on one machine.
#[derive(Parser, Debug)]
#[command(name = "cluster", version)]
struct Arguments {
    /// The cluster's folder; everything of it is there.
    #[arg(long, global = true, default_value = ".understudy-cluster")]
    dir: PathBuf,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Bring a cluster up. One that is up already stays; one that is not whole is made anew.
    Up {
        /// So many nodes; the control plane is on none of them.
        #[arg(long, default_value_t = 3)]
        nodes: u8,
        /// So many folders for volume claims on each node.
        #[arg(long, default_value_t = 6)]
        volumes: u8,
    },
    /// Take the cluster down, whatever state it is in, and leave nothing behind.
    Down,
    /// Show whether the cluster is whole; fails if it is not.
    Status,
    /// Build the cluster's programs into the cache, and no more.
    Build,
    /// Give all nodes the images of an OCI archive.
    Load { archive: PathBuf },
    /// Empty the volumes whose claims are gone and offer them again.
    Recycle,
    /// Cut a node off from everything.
    Cut { node: Node },
    /// Mend a node that was cut off.
    Mend { node: Node },
    /// Copy all logs, and what the API server says there is, into a folder.
    Logs {
        #[arg(long)]
        to: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments.dir, arguments.action) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(dir: &Path, action: Action) -> Result<ExitCode> {
    let progress = Progress::default();
    match action {
        Action::Up { nodes, volumes } => {
            let options = Options {
                dir: dir.to_owned(),
                nodes,
                volumes,
            };
            introduce(&Cluster::up(&options, &progress)?)?;
        }
        Action::Down => Cluster::down(dir, &progress)?,
        Action::Status => return status(&Cluster::attach(dir)?),
        Action::Build => println!("{}", Programs::built(&progress)?.folder().display()),
        Action::Load { archive } => Cluster::attach(dir)?.import_image(&archive)?,
        Action::Recycle => {
            for name in Cluster::attach(dir)?.recycle_volumes()? {
                println!("{name} is available again");
            }
        }
        Action::Cut { node } => Cluster::attach(dir)?.cut_off(node)?,
        Action::Mend { node } => Cluster::attach(dir)?.mend(node)?,
        Action::Logs { to } => {
            let folder = Cluster::attach(dir)?.keep_evidence(&to)?;
            println!("{}", folder.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn introduce(cluster: &Cluster) -> Result<()> {
    println!(
        "
  export KUBECONFIG={}
  export PATH={}:$PATH     # kubectl and helm
  alias cluster='\"{}\" --dir \"{}\"'

  volumes:  storage class \"local\" (the default); `cluster recycle` empties released ones
  images:   `cluster load ARCHIVE` (an OCI archive); there is no registry, so pods say imagePullPolicy: IfNotPresent
  a fault:  `cluster cut node2`, `cluster mend node2`
  end:      `cluster down` (of the one that `make cluster` has made: `make cluster-down`)
",
        cluster.kubeconfig().display(),
        cluster.programs().display(),
        std::env::current_exe()?.display(),
        cluster.dir().display(),
    );
    Ok(())
}

fn status(cluster: &Cluster) -> Result<ExitCode> {
    let damage = cluster.is_whole()?;
    if damage.is_empty() {
        print!("{}", cluster.kubectl(&["get", "nodes", "-o", "wide"])?);
        return Ok(ExitCode::SUCCESS);
    }
    for line in damage {
        println!("{line}");
    }
    Ok(ExitCode::FAILURE)
}
