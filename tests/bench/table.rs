//! Results as a table of ratios, in markdown.

use std::fmt::Write as _;

use super::Effort;
use super::pair::Rounds;

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Transactions a second: the ratio should be 1 or more.
    Higher,
    /// Time, memory: the ratio should be 1 or less.
    Lower,
}

struct Row {
    what: String,
    unit: &'static str,
    better: Better,
    postgres: Option<f64>,
    understudy: f64,
    ratio: Option<f64>,
    /// What the ratio has to reach; none where the figure is only shown.
    target: Option<f64>,
    /// A limit on Understudy's own figure where PostgreSQL has no counterpart.
    limit: Option<f64>,
}

impl Row {
    /// Whether PostgreSQL does it better, whatever is demanded.
    fn is_worse(&self) -> bool {
        self.ratio.is_some_and(|ratio| match self.better {
            Better::Higher => ratio < 1.0,
            Better::Lower => ratio > 1.0,
        })
    }

    /// `None` where nothing is demanded.
    fn holds(&self) -> Option<bool> {
        if let Some(limit) = self.limit {
            return Some(self.understudy <= limit);
        }
        let (ratio, target) = (self.ratio?, self.target?);
        Some(match self.better {
            Better::Higher => ratio >= target,
            Better::Lower => ratio <= target,
        })
    }
}

pub struct Report {
    effort: Effort,
    rows: Vec<Row>,
    /// Why a figure is what it is: what, and a profile.
    profiles: Vec<(String, String)>,
    failed: Vec<String>,
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

impl Report {
    pub fn new(effort: Effort) -> Report {
        Report {
            effort,
            rows: Vec::new(),
            profiles: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// A comparison. The ratio is the median of the ratios of neighbouring rounds. True if it was missed, or is worse
    /// than PostgreSQL's: a profile is to say why.
    pub fn compare(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        better: Better,
        rounds: &Rounds,
        target: Option<f64>,
    ) -> bool {
        let pairs = rounds.understudy.iter().zip(&rounds.postgres);
        let ratios: Vec<f64> = pairs.map(|(ours, theirs)| ours / theirs).collect();
        self.add(Row {
            what: what.into(),
            unit,
            better,
            postgres: Some(median(&rounds.postgres)),
            understudy: median(&rounds.understudy),
            ratio: Some(median(&ratios)),
            target,
            limit: None,
        })
    }

    /// What stands below the table for a figure that was missed, or is worse than PostgreSQL's.
    pub fn profile(&mut self, what: impl Into<String>, profile: String) {
        self.profiles.push((what.into(), profile));
    }

    /// A figure that PostgreSQL has no counterpart of.
    pub fn alone(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        values: &[f64],
        limit: Option<f64>,
    ) {
        self.add(Row {
            what: what.into(),
            unit,
            better: Better::Lower,
            postgres: None,
            understudy: median(values),
            ratio: None,
            target: None,
            limit,
        });
    }

    fn add(&mut self, row: Row) -> bool {
        eprintln!("   {}", line(&row));
        let missed = row.holds() == Some(false) || row.is_worse();
        self.rows.push(row);
        missed
    }

    pub fn failed(&mut self, part: &str) {
        self.failed.push(part.to_owned());
    }

    pub fn has_failures(&self) -> bool {
        !self.failed.is_empty()
    }

    pub fn markdown(&self) -> String {
        let mut out = String::from("# Understudy and PostgreSQL 15, side by side\n\n");
        let e = &self.effort;
        let _ = writeln!(
            out,
            "{} rounds of each, in turns; {} s a round under load; pgbench scale {}{}. Same settings on both sides \
             (fsync and synchronous_commit on, shared_buffers 256 MB, checksums on). The figures of one run on a machine \
             that does other work as well: **only the ratios and the server's own processor time mean anything.** A \
             ratio is Understudy divided by PostgreSQL, the median over neighbouring rounds.\n",
            e.rounds,
            e.round.as_secs(),
            e.scale,
            if e.short { " (short form)" } else { "" },
        );
        out.push_str("| measured | unit | PostgreSQL 15 | Understudy | ratio | wanted | |\n");
        out.push_str("| --- | --- | ---: | ---: | ---: | ---: | --- |\n");
        for row in &self.rows {
            let _ = writeln!(out, "{}", line(row));
        }
        for (what, profile) in &self.profiles {
            let _ = writeln!(out, "\n## Why: {what}\n\n{profile}");
        }
        for part in &self.failed {
            let _ = writeln!(out, "\nPart `{part}` **failed**; what it printed says why.");
        }
        out
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn line(row: &Row) -> String {
    let some = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
    let wanted = match (row.limit, row.target, row.better) {
        (Some(limit), ..) => format!("at most {}", number(limit)),
        (None, Some(target), Better::Higher) => format!("at least {target}"),
        (None, Some(target), Better::Lower) => format!("at most {target}"),
        (None, None, _) => "-".to_owned(),
    };
    let verdict = match row.holds() {
        Some(true) => "holds",
        Some(false) => "**missed**",
        None => "",
    };
    format!(
        "| {} | {} | {} | {} | {} | {wanted} | {verdict} |",
        row.what,
        row.unit,
        some(row.postgres),
        number(row.understudy),
        some(row.ratio),
    )
}
