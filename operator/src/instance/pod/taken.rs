//! The last parameters that the engine's program has taken, kept on the volume beside the cluster object: a pod that
//! begins while the newest ones are refused goes by them, as one that runs does.
//!
//! They belong to one cluster object: under the next one of its name generations begin again, and nothing was taken yet.
//! A crash leaves these, or those before. What can't be kept now is kept later: it only counts at a start.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::checked::Refused;
use crate::durable;
use crate::instance::Volume;
use crate::instance::setup::Setup;

/// Between two attempts to keep them.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Taken {
    cluster_id: String,
    /// Of the newest spec that has them.
    pub generation: i64,
    pub parameters: BTreeMap<String, String>,
}

/// Those that the volume has for the cluster; none where there are none, or what is there is of no use.
///
/// # Errors
/// When the volume can't be read.
pub fn load(volume: &Volume, cluster_id: &str) -> io::Result<Option<Taken>> {
    let Some(bytes) = durable::read(&volume.parameters())? else {
        return Ok(None);
    };
    match serde_json::from_slice::<Taken>(&bytes) {
        Ok(taken) => Ok(Some(taken).filter(|taken| taken.cluster_id == cluster_id)),
        Err(error) => {
            tracing::warn!(%error, "the kept parameters are of no use");
            Ok(None)
        }
    }
}

/// What a supervisor knows of parameters when it begins.
#[derive(Debug, Default)]
pub struct Known {
    pub taken: Keeper,
    /// What the newest spec has instead.
    pub refused: Option<Refused>,
}

/// Sees to it that the volume has the newest ones that were taken.
#[derive(Debug, Default)]
pub struct Keeper {
    newest: Option<Taken>,
    on_volume: Option<Taken>,
    again_at: Option<Instant>,
}

impl Keeper {
    pub fn new(on_volume: Option<Taken>) -> Keeper {
        Keeper {
            newest: on_volume.clone(),
            on_volume,
            again_at: None,
        }
    }

    pub fn newest(&self) -> Option<&Taken> {
        self.newest.as_ref()
    }

    /// The engine's program has taken the parameters of `setup`.
    pub fn took(&mut self, setup: &Setup) {
        self.newest = Some(Taken {
            cluster_id: setup.cluster_id.clone(),
            generation: setup.generation,
            parameters: setup.parameters.clone(),
        });
    }

    /// `setup` is gone by. Where its parameters are those that were taken, so is its generation.
    pub fn goes_by(&mut self, setup: &Setup) {
        if let Some(newest) = &mut self.newest
            && newest.parameters == setup.parameters
        {
            newest.generation = setup.generation;
        }
    }

    /// Every so often, where the volume takes writes.
    pub fn see_to(&mut self, volume: &Volume) {
        let Some(newest) = &self.newest else { return };
        let is_due = self.again_at.is_none_or(|at| Instant::now() >= at);
        if self.on_volume.as_ref() == Some(newest) || !is_due {
            return;
        }
        let bytes = serde_json::to_vec(newest).map_err(io::Error::other);
        let kept = bytes.and_then(|bytes| durable::replace(&volume.parameters(), &bytes));
        match kept {
            Ok(()) => {
                self.on_volume = Some(newest.clone());
                self.again_at = None;
            }
            Err(error) => {
                tracing::warn!(%error, "the parameters could not be kept");
                self.again_at = Some(Instant::now() + AGAIN);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::ids::Term;
    use crate::instance::pod::Place;
    use crate::validate::ValidatedCluster;

    fn setup(dir: &Path, work_mem: &str, generation: i64) -> Setup {
        let cluster = ValidatedCluster {
            generation,
            parameters: [("work_mem".to_owned(), work_mem.to_owned())].into(),
            ..ValidatedCluster::default()
        };
        let setup = Place::for_tests(dir).setup(&cluster, "u", Term::FIRST);
        setup.expect("made")
    }

    #[test]
    fn what_was_taken_last_is_there_at_the_next_start() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let volume = Volume::new(dir.path());
        let of = |cluster_id: &str| load(&volume, cluster_id).expect("read");
        let mut keeper = Keeper::new(of("u"));
        keeper.goes_by(&setup(dir.path(), "lots", 1));
        keeper.see_to(&volume);
        assert_eq!(of("u"), None, "nobody has taken anything");
        keeper.took(&setup(dir.path(), "8MB", 3));
        // What changed since is something else.
        keeper.goes_by(&setup(dir.path(), "8MB", 5));
        keeper.goes_by(&setup(dir.path(), "lots", 6));
        keeper.see_to(&volume);
        let kept = of("u").expect("kept");
        let has = (kept.generation, kept.parameters["work_mem"].as_str());
        assert_eq!(has, (5, "8MB"));
        assert_eq!(Keeper::new(of("u")).newest(), Some(&kept));
        assert_eq!(of("another"), None);
        std::fs::write(volume.parameters(), "{").expect("written");
        assert_eq!(of("u"), None);
    }

    #[test]
    fn what_the_volume_does_not_take_now_it_has_later() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let volume = Volume::new(dir.path());
        let obstacle = dir.path().join("parameters.json.tmp");
        std::fs::create_dir(&obstacle).expect("made");
        let mut keeper = Keeper::default();
        keeper.took(&setup(dir.path(), "8MB", 1));
        keeper.see_to(&volume);
        assert_eq!(load(&volume, "u").expect("read"), None);
        std::fs::remove_dir(&obstacle).expect("removed");
        let begin = Instant::now();
        while load(&volume, "u").expect("read").is_none() {
            assert!(begin.elapsed() < Duration::from_secs(60));
            keeper.see_to(&volume);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
