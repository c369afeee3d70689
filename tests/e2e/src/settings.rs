//! What the suite was started with.

use std::path::PathBuf;

/// How long any state may take to come on a busy machine, where nothing is measured.
pub const LIMIT: std::time::Duration = std::time::Duration::from_secs(240);

/// From the environment; `scripts/e2e.sh` sets it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The test cluster's folder.
    pub cluster: PathBuf,
    /// The image's name, as the nodes have it.
    pub image: String,
    /// The same image by another name, for updates.
    pub next_image: Option<String>,
    /// The operator's program with debug assertions, which has points at which it dies when it is told to.
    pub mortal_operator: Option<PathBuf>,
    /// The long form: more rounds, every variant.
    pub is_long: bool,
    rounds: Option<u32>,
    fault: Option<String>,
    pub results: PathBuf,
    /// Where the logs of what failed are kept.
    pub evidence: PathBuf,
    pub commit: String,
}

impl Settings {
    /// # Panics
    /// Where there is no cluster to test on.
    pub fn from_env() -> Settings {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let cluster = text("UNDERSTUDY_E2E_CLUSTER");
        let cluster = cluster.expect(
            "UNDERSTUDY_E2E_CLUSTER names no cluster: `make e2e` brings one up and runs these tests",
        );
        let target = std::env::temp_dir();
        let path = |name: &str, default: &str| {
            text(name).map_or_else(|| target.join(default), PathBuf::from)
        };
        let image = "understudy.local/understudy:0.1.0".to_owned();
        Settings {
            cluster: PathBuf::from(cluster),
            image: text("UNDERSTUDY_E2E_IMAGE").unwrap_or(image),
            next_image: text("UNDERSTUDY_E2E_NEXT_IMAGE"),
            mortal_operator: text("UNDERSTUDY_E2E_MORTAL_OPERATOR").map(PathBuf::from),
            is_long: text("UNDERSTUDY_E2E_FORM").as_deref() == Some("long"),
            rounds: text("ROUNDS").map(|rounds| rounds.parse().expect("ROUNDS is a number")),
            fault: text("FAULT"),
            results: path("UNDERSTUDY_E2E_RESULTS", "understudy-e2e.jsonl"),
            evidence: path("UNDERSTUDY_E2E_EVIDENCE", "understudy-e2e-evidence"),
            commit: text("UNDERSTUDY_E2E_COMMIT").unwrap_or_else(|| "unknown".to_owned()),
        }
    }

    /// How often something is to be done: `ROUNDS` if it was given.
    pub fn rounds(&self, short: u32, long: u32) -> u32 {
        let usual = if self.is_long { long } else { short };
        self.rounds.unwrap_or(usual)
    }

    /// Whether this fault is to be made: all are, unless `FAULT` names one.
    pub fn wants(&self, fault: &str) -> bool {
        self.fault.as_deref().is_none_or(|only| only == fault)
    }

    pub fn form(&self) -> &'static str {
        if self.is_long { "long" } else { "short" }
    }
}
