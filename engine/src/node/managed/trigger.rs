//! What ends a standby's recovery: PostgreSQL's trigger files, or in a managed instance one that names cluster, term
//! and candidate.
//!
//! ```text
//! cluster_id=…
//! term=…
//! candidate=…          an instance id
//! ```
//! Any other file is refused in a managed instance: logged, and renamed to `*.refused`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Settings;
use crate::ids::{Term, TimelineId};
use crate::node::managed::Managed;
use crate::recovery::{FileTrigger, Promotion, Trigger};
use crate::server::cli::signals::PROMOTE_FILE;

pub fn triggers(settings: &Arc<Settings>, managed: Option<&Arc<Managed>>) -> Arc<dyn Trigger> {
    match managed {
        Some(managed) => Arc::new(OperatorTrigger {
            settings: Arc::clone(settings),
            managed: Arc::clone(managed),
        }),
        None => by_hand(settings),
    }
}

/// The trigger file by either of its names, and `pg_ctl promote`'s.
fn by_hand(settings: &Arc<Settings>) -> Arc<dyn Trigger> {
    let settings = Arc::clone(settings);
    Arc::new(FileTrigger::new(Arc::new(move || {
        let promote = promote_file(&settings);
        if promote.exists() {
            return Some(promote);
        }
        trigger_file(&settings)
    })))
}

fn promote_file(settings: &Settings) -> PathBuf {
    settings.current().data_directory.join(PROMOTE_FILE)
}

fn trigger_file(settings: &Settings) -> Option<PathBuf> {
    let current = settings.current();
    let file = current.promote_trigger_file.as_ref()?;
    Some(current.data_directory.join(file))
}

/// Obeys the operator's trigger file only.
struct OperatorTrigger {
    settings: Arc<Settings>,
    managed: Arc<Managed>,
}

impl Trigger for OperatorTrigger {
    fn poll(&self) -> Option<Promotion> {
        let promote = promote_file(&self.settings);
        if promote.exists() {
            refuse(&promote, "this instance is managed by an operator");
        }
        let path = trigger_file(&self.settings)?;
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
            Err(e) => {
                refuse(&path, &e.to_string());
                return None;
            }
        };
        let accepted = Order::parse(&text).and_then(|order| self.managed.accept(&order));
        match accepted {
            Ok(term) => {
                tracing::info!("promote trigger file found: {}", path.display());
                Some(Promotion {
                    timeline: Some(TimelineId::new(term.raw())),
                })
            }
            Err(why) => {
                refuse(&path, &why);
                None
            }
        }
    }

    fn done(&self) {
        if let Some(path) = trigger_file(&self.settings)
            && let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("could not remove file \"{}\": {error}", path.display());
        }
    }
}

fn refuse(path: &Path, why: &str) {
    tracing::error!("trigger file \"{}\" is refused: {why}", path.display());
    tracing::info!(
        "HINT:  A managed instance is promoted by its operator: understudy-operator local switchover."
    );
    let mut aside = path.as_os_str().to_owned();
    aside.push(".refused");
    if let Err(error) = std::fs::rename(path, &aside)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::error!("could not rename file \"{}\": {error}", path.display());
    }
}

/// A managed trigger file's text.
#[derive(Debug, PartialEq, Eq)]
pub struct Order {
    pub cluster_id: String,
    pub term: Term,
    pub candidate: String,
}

impl Order {
    fn parse(text: &str) -> Result<Order, String> {
        let (mut cluster_id, mut term, mut candidate) = (None, None, None);
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let (name, value) = line
                .split_once('=')
                .ok_or_else(|| format!("line \"{line}\" is not NAME=VALUE"))?;
            let value = value.trim().to_owned();
            match name.trim() {
                "cluster_id" => cluster_id = Some(value),
                "term" => {
                    let number: u32 = value
                        .parse()
                        .map_err(|_| format!("\"{value}\" is not a term"))?;
                    term = Some(Term::new(number));
                }
                "candidate" => candidate = Some(value),
                other => return Err(format!("\"{other}\" is not known")),
            }
        }
        Ok(Order {
            cluster_id: cluster_id.ok_or("it names no cluster_id")?,
            term: term.ok_or("it names no term")?,
            candidate: candidate.ok_or("it names no candidate")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_names_cluster_term_and_candidate() {
        let order = Order::parse("cluster_id=c\nterm=7\ncandidate=i\n");
        assert_eq!(
            order,
            Ok(Order {
                cluster_id: "c".to_owned(),
                term: Term::new(7),
                candidate: "i".to_owned()
            })
        );
        for bad in [
            "",
            "cluster_id=c\nterm=7\n",
            "cluster_id=c\ncandidate=i\n",
            "term=7\ncandidate=i\n",
            "cluster_id=c\nterm=x\ncandidate=i\n",
            "cluster_id=c\nterm=7\ncandidate=i\nforce=1\n",
            "promote",
        ] {
            assert!(Order::parse(bad).is_err(), "{bad:?}");
        }
    }
}
