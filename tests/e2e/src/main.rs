//! The command `e2e-results`: the results file of the end-to-end tests as a table.

use std::path::PathBuf;
use std::process::ExitCode;

use understudy_e2e::results;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(file) = arguments.next().map(PathBuf::from) else {
        eprintln!("usage: e2e-results FILE [COMMIT]");
        return ExitCode::from(2);
    };
    let lines = match results::read(&file) {
        Ok(lines) => lines,
        Err(error) => {
            eprintln!("e2e-results: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let asked = arguments
        .next()
        .map(|text| text.to_string_lossy().into_owned());
    let newest = lines.last().map(|line| line.commit.clone());
    match asked.or(newest) {
        Some(commit) => println!("{}", results::summary(&lines, &commit)),
        None => println!("nothing was measured yet"),
    }
    ExitCode::SUCCESS
}
