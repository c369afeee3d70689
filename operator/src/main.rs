//! The program `understudy-operator`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
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
            Ok(runtime.block_on(instance::run(&dir.canonicalize()?))?)
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
