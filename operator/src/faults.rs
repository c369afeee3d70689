//! Points at which a test has this process end as by SIGKILL: around every durable step, none of which may be one that
//! a crash must not follow.
//!
//! In builds with debug assertions only. `UNDERSTUDY_DIE_AT` names a folder; a file in it with the process's name (an
//! instance's, or `operator`) holds how many points are still passed. Each point counts down; the one that finds zero
//! removes the file and dies, so the process that is started instead lives.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use parking_lot::Mutex;
use rustix::process::{Signal, getpid, kill_process};

/// The file of this process, if it is one that may have to die.
static FILE: OnceLock<PathBuf> = OnceLock::new();
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Says who this process is.
pub fn name_process(name: &str) {
    if cfg!(debug_assertions)
        && let Some(folder) = std::env::var_os("UNDERSTUDY_DIE_AT")
    {
        FILE.get_or_init(|| Path::new(&folder).join(name));
    }
}

pub fn point() {
    let Some(file) = FILE.get() else { return };
    let _one = ONE_AT_A_TIME.lock();
    let left = std::fs::read_to_string(file).ok();
    let Some(left) = left.and_then(|text| text.trim().parse::<u32>().ok()) else {
        return;
    };
    if left > 0 {
        std::fs::write(file, (left - 1).to_string()).expect("a test's own folder");
        return;
    }
    std::fs::remove_file(file).expect("a test's own folder");
    kill_process(getpid(), Signal::KILL).expect("this process");
    // The signal may take a moment; nothing more must happen meanwhile.
    loop {
        std::thread::park();
    }
}
