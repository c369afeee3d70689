//! What a command is doing and how long it takes, for whoever waits in front of it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

/// Something that was waited for, and the time it took.
#[derive(Clone, Debug)]
pub struct Phase {
    pub name: String,
    pub took: Duration,
}

/// Lines on standard error, each with the seconds since the start.
#[derive(Debug)]
pub struct Progress {
    begin: Instant,
    phases: Mutex<Vec<Phase>>,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress {
            begin: Instant::now(),
            phases: Mutex::default(),
        }
    }
}

impl Progress {
    pub fn say(&self, text: &str) {
        eprintln!("[{:6.1} s] {text}", self.begin.elapsed().as_secs_f64());
    }

    /// Runs one phase and remembers its time; says so when it is over.
    ///
    /// # Errors
    /// The phase's own.
    pub fn phase<T>(&self, name: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
        let begin = Instant::now();
        let result = run()?;
        let took = begin.elapsed();
        self.say(&format!("{name}: {:.1} s", took.as_secs_f64()));
        let mut phases = self.phases.lock().unwrap_or_else(PoisonError::into_inner);
        phases.push(Phase {
            name: name.to_owned(),
            took,
        });
        Ok(result)
    }

    pub fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    /// In the order in which they ended.
    pub fn phases(&self) -> Vec<Phase> {
        let phases = self.phases.lock().unwrap_or_else(PoisonError::into_inner);
        phases.clone()
    }
}
