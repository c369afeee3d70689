//! Parameters that an engine has not seen yet are shown to its program first: a wrong one is told at once, and is neither
//! written for a later start to fail on nor a reason to restart anything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::instance::setup::Setup;
use crate::validate::ValidatedCluster;

/// What the program gets to read them.
const LIMIT: Duration = Duration::from_secs(20);
/// The exit code of a start that was refused.
const REFUSED: i32 = 1;

/// What the engine's program says of parameters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    Taken,
    /// Why.
    Refused(String),
    /// It could not be asked: what is wrong shows when the engine reads them.
    Unknown,
}

/// A spec whose parameters are being looked at.
pub struct Checking {
    pub setup: Setup,
    pub cluster: ValidatedCluster,
    pub task: JoinHandle<Verdict>,
}

impl Checking {
    /// `folder` is one in which the engine finds no settings of its own.
    pub fn begin(setup: Setup, cluster: ValidatedCluster, folder: &Path) -> Checking {
        let work = look(&setup, folder);
        Checking {
            task: tokio::spawn(work),
            setup,
            cluster,
        }
    }
}

/// Parameters that the engine does not take.
#[derive(Debug)]
pub struct Refused {
    pub parameters: BTreeMap<String, String>,
    pub generation: i64,
    pub why: String,
}

impl Refused {
    pub fn complaint(&self) -> String {
        let Refused {
            generation, why, ..
        } = self;
        format!(
            "the engine does not take spec.parameters of generation {generation}: {why}; those before it are in effect. \
             Correct spec.parameters"
        )
    }
}

/// Shows the setup's parameters to its engine's program. `folder` is as in [`Checking::begin`].
pub fn look(setup: &Setup, folder: &Path) -> impl Future<Output = Verdict> + Send + use<> {
    verdict(
        setup.engine.clone(),
        folder.to_path_buf(),
        setup.parameters.clone(),
    )
}

async fn verdict(
    engine: PathBuf,
    folder: PathBuf,
    parameters: BTreeMap<String, String>,
) -> Verdict {
    let mut command = Command::new(engine);
    command
        .args(["postgres", "-D"])
        .arg(folder)
        .args(["-C", "port", "-c", "config_file=/dev/null"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    for (name, value) in &parameters {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    match tokio::time::timeout(LIMIT, command.output()).await {
        Ok(Ok(output)) if output.status.code() == Some(REFUSED) => {
            Verdict::Refused(reason(&String::from_utf8_lossy(&output.stderr)))
        }
        Ok(Ok(output)) if output.status.success() => Verdict::Taken,
        Ok(Ok(output)) => {
            tracing::warn!(status = %output.status, "the engine's program could not look at parameters");
            Verdict::Unknown
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "the engine's program could not be asked about parameters");
            Verdict::Unknown
        }
        Err(_) => {
            tracing::warn!("the engine's program did not end when it was asked about parameters");
            Verdict::Unknown
        }
    }
}

/// The server's own words, without what stands before each line.
fn reason(log: &str) -> String {
    let marks = ["FATAL:", "LOG:", "DETAIL:", "HINT:"];
    let said = log.lines().filter_map(|line| {
        let words = marks.iter().find_map(|mark| line.split_once(mark));
        words.map(|(_, words)| words.trim())
    });
    let all: Vec<&str> = said.collect();
    if all.is_empty() {
        "it says no reason".to_owned()
    } else {
        all.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_server_s_words() {
        let log = "2026-11-29 03:00:00.000 UTC [7] FATAL:  invalid value for parameter \"work_mem\": \"lots\"\n\
                   2026-11-29 03:00:00.000 UTC [7] HINT:  Valid units for this parameter are \"B\", \"kB\".\n";
        assert_eq!(
            reason(log),
            "invalid value for parameter \"work_mem\": \"lots\"; Valid units for this parameter are \"B\", \"kB\"."
        );
        assert_eq!(reason(""), "it says no reason");
    }

    #[tokio::test]
    async fn a_program_that_can_t_be_asked_refuses_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let missing = dir.path().join("understudy");
        let asked = verdict(missing, dir.path().to_path_buf(), BTreeMap::new());
        assert_eq!(asked.await, Verdict::Unknown);
    }
}
