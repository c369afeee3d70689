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
    /// Another build's, whose operator renders another template.
    pub newer_image: Option<String>,
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
    /// Which run of the suite this is.
    pub run: String,
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
            newer_image: text("UNDERSTUDY_E2E_NEWER_IMAGE"),
            mortal_operator: text("UNDERSTUDY_E2E_MORTAL_OPERATOR").map(PathBuf::from),
            is_long: text("UNDERSTUDY_E2E_FORM").as_deref() == Some("long"),
            rounds: text("ROUNDS").map(|rounds| rounds.parse().expect("ROUNDS is a number")),
            fault: text("FAULT"),
            results: path("UNDERSTUDY_E2E_RESULTS", "understudy-e2e.jsonl"),
            evidence: path("UNDERSTUDY_E2E_EVIDENCE", "understudy-e2e-evidence"),
            commit: text("UNDERSTUDY_E2E_COMMIT").unwrap_or_else(|| "unknown".to_owned()),
            run: text("UNDERSTUDY_E2E_RUN").unwrap_or_else(|| "by-hand".to_owned()),
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

    /// The fault that `FAULT` names.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    pub fn form(&self) -> &'static str {
        if self.is_long { "long" } else { "short" }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// The entries of one of the lists of `scripts/e2e.sh`.
    fn list(script: &str, name: &str) -> Vec<String> {
        let (_, after) = script
            .split_once(&format!("\n{name}=("))
            .expect("the script has the list");
        let (list, _) = after.split_once(')').expect("the list ends");
        list.split_whitespace().map(str::to_owned).collect()
    }

    /// A name that no test has would run nothing.
    #[test]
    fn both_forms_name_tests_that_there_are() {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let script = package.join("../../scripts/e2e.sh");
        let script = std::fs::read_to_string(script).expect("the script");
        for entry in [list(&script, "short"), list(&script, "long")].concat() {
            let (file, test) = entry.split_once("::").unwrap_or((entry.as_str(), ""));
            let path = package.join(format!("tests/{file}.rs"));
            let text = std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let has = test.is_empty() || text.contains(&format!("\nfn {test}() {{"));
            assert!(has, "{entry}: there is no such test");
        }
        for entry in list(&script, "besides") {
            let tests = package.join("../tests");
            // Cargo finds a test in a file of its name, or in a folder with a `main.rs`.
            let places = [format!("{entry}.rs"), format!("{entry}/main.rs")];
            let is_there = places.iter().any(|place| tests.join(place).is_file());
            assert!(is_there, "{entry}: there is no such test");
        }
    }

    /// What makes the other build another one.
    #[test]
    fn the_line_that_another_build_changes_is_there() {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let script = std::fs::read_to_string(package.join("../../scripts/e2e.sh"));
        let script = script.expect("the script");
        let value = |name: &str| {
            let (_, after) = script.split_once(&format!("\n{name}='")).expect(name);
            after.split_once('\'').expect(name).0.to_owned()
        };
        let (file, line) = (value("changed_file"), value("changed_line"));
        let text = std::fs::read_to_string(package.join("../..").join(&file)).expect(&file);
        assert_eq!(text.lines().filter(|it| *it == line).count(), 1, "{line}");
        assert_ne!(line, value("changed_to"));
    }

    #[test]
    fn the_long_form_has_every_file_but_the_short_form_s_own() {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let script = package.join("../../scripts/e2e.sh");
        let script = std::fs::read_to_string(script).expect("the script");
        let mut named = list(&script, "long");
        named.push("faults_in_turn".to_owned());
        named.sort();
        let folder = std::fs::read_dir(package.join("tests")).expect("the tests");
        let mut there: Vec<String> = folder
            .map(|entry| {
                let path = entry.expect("an entry").path();
                let stem = path.file_stem().expect("a name");
                stem.to_string_lossy().into_owned()
            })
            .collect();
        there.sort();
        assert_eq!(named, there);
    }
}
