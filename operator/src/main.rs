//! The program `understudy-operator`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use operator::kubernetes::{self, ControllerOptions};
use operator::{crd, instance, local};
use tracing_subscriber::EnvFilter;

/// Brings up ReplicatedClusters, and moves the primary's role when it must.
#[derive(Parser, Debug)]
#[command(name = "understudy-operator", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// A cluster of local processes, for a laptop without Kubernetes and for tests.
    Local {
        #[command(subcommand)]
        command: local::LocalCommand,
    },
    /// The supervisor of one instance.
    Instance {
        /// The instance's volume.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Looks after the ReplicatedClusters of a Kubernetes cluster.
    Controller {
        /// A namespace to look after; may be given several times. All of them if it is left out.
        #[arg(long = "namespace", value_name = "NAMESPACE")]
        namespaces: Vec<String>,
        /// The image of instances whose manifest names none.
        #[arg(long, env = "UNDERSTUDY_DEFAULT_IMAGE")]
        default_image: String,
        /// Where /livez, /readyz and /metrics are served.
        #[arg(long, default_value = "[::]:8080")]
        http_address: SocketAddr,
        /// The Lease by which one of several operators leads.
        #[arg(long, default_value = "understudy-operator")]
        lease_name: String,
        /// The namespace of that Lease.
        #[arg(long, env = "UNDERSTUDY_NAMESPACE")]
        lease_namespace: String,
        /// This process's name in the Lease and in events.
        #[arg(long, env = "UNDERSTUDY_POD", default_value = "understudy-operator")]
        identity: String,
    },
    /// Print the CustomResourceDefinition.
    Crd,
    /// Print the field reference.
    #[command(hide = true)]
    Fields,
    /// Becomes the program given, tied to the life of its parent.
    #[command(hide = true, name = "instance-guard")]
    Guard {
        parent: u32,
        program: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter =
        EnvFilter::try_from_env("UNDERSTUDY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        // Its own complaint about a log that can not be written would end the process where the disk is full.
        .log_internal_errors(false)
        .init();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("understudy-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Crd => {
            print!("{}", crd::crd_yaml()?);
            Ok(())
        }
        Command::Fields => {
            print!("{}", crd::fields_markdown());
            Ok(())
        }
        Command::Guard {
            parent,
            program,
            arguments,
        } => Err(instance::guard(parent, &program, &arguments).into()),
        // One thread, the process's first: the engine is tied to the life of the thread that started it.
        Command::Instance { dir } => {
            // A session of its own, so that no terminal's signals reach it. It may lead one already.
            let _ = rustix::process::setsid();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let ended = runtime.block_on(instance::run(&dir));
            // What is removed or waits in the background must not hold up the end.
            runtime.shutdown_background();
            Ok(ended?)
        }
        Command::Controller {
            namespaces,
            default_image,
            http_address,
            lease_name,
            lease_namespace,
            identity,
        } => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?;
            runtime.block_on(kubernetes::run(ControllerOptions {
                namespaces,
                default_image,
                http_address,
                lease_name,
                lease_namespace,
                identity,
            }))
        }
        Command::Local { command } => {
            if matches!(command, local::LocalCommand::Operate { .. }) {
                let _ = rustix::process::setsid();
            }
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?;
            runtime.block_on(local::run(command))
        }
    }
}
