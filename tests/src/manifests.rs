//! The table of manifests in `manifests/cases.yaml`: what is taken, what is refused, and with which words.

use std::path::Path;

/// What is to become of a manifest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Taken,
    Refused,
    /// The API server refuses it, and `validate` does not: it only concerns what the pods are like.
    RefusedByApi,
    /// The first one is stored; its change is refused.
    ChangeRefused,
}

#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub verdict: Verdict,
    /// What is stored before.
    pub stored: Option<String>,
    pub manifest: String,
    /// The field that is at fault.
    pub at: String,
    pub says: String,
    /// The API server's words, where they are others.
    pub api_says: String,
}

impl Case {
    /// The name of the manifest's object.
    pub fn object(&self) -> &str {
        let line = self.manifest.lines().find(|l| l.starts_with("metadata: "));
        let named = line.and_then(|l| l.split("name: ").nth(1)?.split('}').next());
        named.expect("every manifest has a name")
    }
}

/// All cases, in order.
///
/// # Panics
/// When the file is not as its head says.
pub fn cases() -> Vec<Case> {
    let path = Path::new("manifests/cases.yaml");
    let text = std::fs::read_to_string(path).expect("the table is there");
    let cases: Vec<Case> = text.split("\n--- ").skip(1).map(case).collect();
    assert!(cases.len() > 50, "the table was not read");
    cases
}

fn case(text: &str) -> Case {
    let (head, body) = text.split_once('\n').expect("a head and a body");
    let (verdict, name) = head.split_once(": ").expect("a verdict and a name");
    let verdict = match verdict {
        "taken" => Verdict::Taken,
        "refused" => Verdict::Refused,
        "api" => Verdict::RefusedByApi,
        "stored" => Verdict::ChangeRefused,
        other => panic!("{name}: unknown verdict {other}"),
    };
    let remark = |key: &str| {
        let start = format!("# {key} ");
        body.lines()
            .find_map(|line| line.strip_prefix(&start))
            .map(str::to_owned)
    };
    let parts: Vec<&str> = body.split("# then\n").collect();
    let (stored, last) = match (verdict, parts.as_slice()) {
        (Verdict::ChangeRefused, [first, second]) => (Some(whole(first)), *second),
        (Verdict::Taken | Verdict::Refused | Verdict::RefusedByApi, [only]) => (None, *only),
        _ => panic!("{name}: a change has two parts, everything else one"),
    };
    let says = remark("says").unwrap_or_default();
    assert_eq!(says.is_empty(), verdict == Verdict::Taken, "{name}");
    Case {
        name: name.to_owned(),
        verdict,
        stored,
        manifest: whole(last),
        at: remark("at").unwrap_or_default(),
        api_says: remark("api").unwrap_or_else(|| says.clone()),
        says,
    }
}

fn whole(body: &str) -> String {
    let metadata = if body.contains("\nmetadata:") || body.starts_with("metadata:") {
        ""
    } else {
        "metadata: {name: case}\n"
    };
    format!("apiVersion: understudy.dev/v1alpha1\nkind: ReplicatedCluster\n{metadata}{body}")
}
