//! Points at which a test has this process end as by SIGKILL: around every durable step, none of which may be one that
//! a crash must not follow.
//!
//! In builds with debug assertions only. `UNDERSTUDY_DIE_AT` names a folder; a file in it with the process's name (an
//! instance's, or `operator`) holds how many points are still passed. Each point counts down; the one that finds zero
//! removes the file and dies, so the process that is started instead lives. With `stop ` before the number it stands still
//! there instead, as by SIGSTOP, until somebody wakes it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Signal, getpid, kill_process};

/// The file of this process, if it is one that may have to die.
static FILE: OnceLock<PathBuf> = OnceLock::new();
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// What a file's text begins with where the process is to stand still.
const STOP: &str = "stop ";
/// The signal may take a moment to reach every thread; nothing more must happen meanwhile.
const REACHES_ALL: Duration = Duration::from_millis(200);

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
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let stops = text.starts_with(STOP);
    let number = text.strip_prefix(STOP).unwrap_or(&text);
    let Ok(left) = number.trim().parse::<u32>() else {
        return;
    };
    if left > 0 {
        let how = if stops { STOP } else { "" };
        put(file, &format!("{how}{}", left - 1));
        return;
    }
    // Whoever asked for it may have taken that back just now.
    if std::fs::remove_file(file).is_err() {
        return;
    }
    if stops {
        kill_process(getpid(), Signal::STOP).expect("this process");
        std::thread::sleep(REACHES_ALL);
        return;
    }
    kill_process(getpid(), Signal::KILL).expect("this process");
    // The signal may take a moment; nothing more must happen meanwhile.
    loop {
        std::thread::park();
    }
}

/// Into the file that is there: one that was taken back is not made again.
fn put(file: &Path, text: &str) {
    let opened = OpenOptions::new().write(true).truncate(true).open(file);
    if let Ok(mut opened) = opened {
        opened
            .write_all(text.as_bytes())
            .expect("a test's own folder");
    }
}
