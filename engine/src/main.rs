//! The program `understudy`: dispatches to a sub-command, or to the command whose name it was called by.

use std::process::ExitCode;

fn main() -> ExitCode {
    engine::server::cli::main(std::env::args_os().collect(), &engine::node::Node)
}
