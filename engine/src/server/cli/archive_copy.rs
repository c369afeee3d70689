//! `understudy archive-copy` and `restore-copy`: what `archive_command` and `restore_command` need of a copying tool
//! (manual, 26.3.1 and 26.3.4), for images without a shell and for archives that must not be damaged.
//!
//! A file gets its name in the archive only when it is whole and durable, and what has a name there is never replaced:
//! a copy of the same bytes is success (the server may ask twice), other bytes are an error. A crash leaves at most a
//! file `.NAME.copy-*`, which the next copy of the same name removes.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};

use super::{Argument, Options, Usage, VERSION};
use crate::config::conf_file::os_message;

/// The archive does not have the file: recovery goes on without it.
const ABSENT: u8 = 1;
/// Anything else that went wrong: above 125, so that recovery stops instead of taking it for the archive's end.
const BROKEN: u8 = 126;
const FAILED: u8 = 1;

const ARCHIVE_HELP: &str = "\
archive-copy copies a file into an archive, for use in archive_command.

Usage:
  understudy archive-copy SOURCE TARGET

TARGET is a file or a folder. It gets its name when it is whole and on disk. If it
is there with the same contents, that is success; with others it is left alone, and
that is an error.

  archive_command = 'understudy archive-copy %p /mnt/archive/%f'

Options:
  -V, --version            output version information, then exit
  -?, --help               show this help, then exit

The exit code is 0 if the archive has the file, 1 if it has not.
";

const RESTORE_HELP: &str = "\
restore-copy copies a file out of an archive, for use in restore_command.

Usage:
  understudy restore-copy SOURCE TARGET

  restore_command = 'understudy restore-copy /mnt/archive/%f %p'

Options:
  -V, --version            output version information, then exit
  -?, --help               show this help, then exit

The exit code is 0 if the file was copied, 1 if the archive does not have it, and
126 if that could not be found out, so that recovery stops instead of ending early.
";

/// Which way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    Archive,
    Restore,
}

impl Direction {
    fn program(self) -> &'static str {
        match self {
            Direction::Archive => "archive-copy",
            Direction::Restore => "restore-copy",
        }
    }

    fn help(self) -> &'static str {
        match self {
            Direction::Archive => ARCHIVE_HELP,
            Direction::Restore => RESTORE_HELP,
        }
    }
}

pub fn main(direction: Direction, args: &[String]) -> u8 {
    let program = direction.program();
    match parse(direction, args) {
        Ok(Some((source, target))) => {
            let done = match direction {
                Direction::Archive => archive(&source, &target).map(|()| 0),
                Direction::Restore => restore(&source, &target),
            };
            done.unwrap_or_else(|error| {
                eprintln!("{program}: error: {error}");
                match direction {
                    Direction::Archive => FAILED,
                    Direction::Restore => BROKEN,
                }
            })
        }
        Ok(None) => 0,
        Err(Usage(text)) => {
            eprintln!("{text}");
            match direction {
                Direction::Archive => FAILED,
                Direction::Restore => BROKEN,
            }
        }
    }
}

fn parse(direction: Direction, args: &[String]) -> Result<Option<(PathBuf, PathBuf)>, Usage> {
    let program = direction.program();
    let mut options = Options::new(program, args);
    let mut paths = Vec::new();
    while let Some(argument) = options.take() {
        match argument {
            Argument::Short('?') | Argument::Long("help", None) => {
                print!("{}", direction.help());
                return Ok(None);
            }
            Argument::Short('V') | Argument::Long("version", None) => {
                println!("{program} (PostgreSQL) {VERSION}");
                return Ok(None);
            }
            Argument::Plain(path) => paths.push(PathBuf::from(path)),
            other => return Err(options.unknown(&other)),
        }
    }
    match <[PathBuf; 2]>::try_from(paths) {
        Ok([source, target]) => Ok(Some((source, target))),
        Err(paths) => Err(Usage(format!(
            "{program}: error: a source and a target are needed, {} given\nTry \"understudy {program} --help\" for more information.",
            paths.len()
        ))),
    }
}

/// What failed, and where.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error("could not {act} \"{}\": {}", path.display(), os_message(source))]
    Io {
        act: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "\"{}\" is in the archive with other contents; it is left as it is. Two servers that archive to one place do this: \
         give each a folder of its own, or move the file away if it is of no use",
        .0.display()
    )]
    Different(PathBuf),
    #[error("\"{}\" is not a file", .0.display())]
    NoFile(PathBuf),
}

fn at<'a>(act: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> CopyError + use<'a> {
    move |source| CopyError::Io {
        act,
        path: path.to_owned(),
        source,
    }
}

fn archive(source: &Path, target: &Path) -> Result<(), CopyError> {
    let name = source
        .file_name()
        .ok_or_else(|| CopyError::NoFile(source.to_owned()))?;
    let target = if target.is_dir() {
        target.join(name)
    } else {
        target.to_owned()
    };
    let mut from = open_file(source)?;
    if !is_there(&target, &mut from, source)? {
        let aside = Aside::new(&target)?;
        let copied = copy(&mut from, source, &aside).and_then(|()| give_name(&aside.path, &target));
        match copied {
            // Somebody else was quicker.
            Err(CopyError::Io { source: error, .. })
                if error.kind() == io::ErrorKind::AlreadyExists =>
            {
                aside.remove();
                if !is_there(&target, &mut from, source)? {
                    return Err(at("create", &target)(error));
                }
            }
            Err(error) => {
                aside.remove();
                return Err(error);
            }
            Ok(()) => {}
        }
    }
    sync_folder(&target)
}

fn restore(source: &Path, target: &Path) -> Result<u8, CopyError> {
    let mut from = match open_file(source) {
        Err(CopyError::Io { source: error, .. })
            if error.kind() == io::ErrorKind::NotFound && folder_of(source).is_dir() =>
        {
            return Ok(ABSENT);
        }
        opened => opened?,
    };
    let aside = Aside::new(target)?;
    let copied = copy(&mut from, source, &aside)
        .and_then(|()| std::fs::rename(&aside.path, target).map_err(at("create", target)));
    if copied.is_err() {
        aside.remove();
    }
    copied?;
    sync_folder(target)?;
    Ok(0)
}

fn open_file(path: &Path) -> Result<File, CopyError> {
    let file = File::open(path).map_err(at("open", path))?;
    let metadata = file.metadata().map_err(at("stat", path))?;
    if metadata.is_file() {
        Ok(file)
    } else {
        Err(CopyError::NoFile(path.to_owned()))
    }
}

/// Whether the archive has the file already, durably. The source is read from its beginning and left there.
fn is_there(target: &Path, from: &mut File, source: &Path) -> Result<bool, CopyError> {
    let mut there = match open_file(target) {
        Err(CopyError::Io { source: error, .. }) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(false);
        }
        opened => opened?,
    };
    rewind(from, source)?;
    let is_same = same(from, source, &mut there, target)?;
    rewind(from, source)?;
    if !is_same {
        return Err(CopyError::Different(target.to_owned()));
    }
    // Whoever copied it may have been killed before it was durable.
    there.sync_all().map_err(at("fsync", target))?;
    Ok(true)
}

fn rewind(file: &mut File, path: &Path) -> Result<(), CopyError> {
    io::Seek::rewind(file).map_err(at("read", path))
}

fn same(a: &mut File, a_path: &Path, b: &mut File, b_path: &Path) -> Result<bool, CopyError> {
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let n = read_full(a, &mut left).map_err(at("read", a_path))?;
        let m = read_full(b, &mut right).map_err(at("read", b_path))?;
        if left[..n] != right[..m] {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}

fn read_full(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// A file under a name of its own beside its target. It is locked while it is written, which tells it from what a
/// killed copy left.
struct Aside {
    path: PathBuf,
    file: File,
}

impl Aside {
    fn new(target: &Path) -> Result<Aside, CopyError> {
        let name = target
            .file_name()
            .ok_or_else(|| CopyError::NoFile(target.to_owned()))?;
        let prefix = format!(".{}.copy-", name.to_string_lossy());
        remove_leftovers(folder_of(target), &prefix);
        let path = folder_of(target).join(format!("{prefix}{:08x}", rand::random::<u32>()));
        let file = File::options()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(at("create", &path))?;
        // Where a file system has no locks, leftovers stay: harmless, but for their size.
        let _ = file.try_lock();
        Ok(Aside { path, file })
    }

    fn remove(&self) {
        // The next copy tries again.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn remove_leftovers(folder: &Path, prefix: &str) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        let Ok(file) = File::options().write(true).open(entry.path()) else {
            continue;
        };
        match file.try_lock() {
            Ok(()) => {
                let _ = std::fs::remove_file(entry.path());
            }
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}

fn copy(from: &mut File, source: &Path, aside: &Aside) -> Result<(), CopyError> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = read_full(from, &mut buffer).map_err(at("read", source))?;
        if n == 0 {
            break;
        }
        io::Write::write_all(&mut &aside.file, &buffer[..n]).map_err(at("write", &aside.path))?;
    }
    aside.file.sync_all().map_err(at("fsync", &aside.path))
}

/// Gives a file its name unless somebody has it.
fn give_name(from: &Path, to: &Path) -> Result<(), CopyError> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Network file systems have links but not this.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            std::fs::hard_link(from, to).map_err(at("create", to))?;
            std::fs::remove_file(from).map_err(at("remove", from))
        }
        done => done.map_err(|e| at("create", to)(e.into())),
    }
}

fn sync_folder(of: &Path) -> Result<(), CopyError> {
    let folder = folder_of(of);
    let opened = File::open(folder).map_err(at("open", folder))?;
    opened.sync_all().map_err(at("fsync", folder))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        let mut names: Vec<String> = entries
            .map(|e| {
                let name = e.expect("an entry").file_name();
                name.to_string_lossy().into_owned()
            })
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_archived_once_and_never_replaced() {
        let dir = tempfile::tempdir().expect("a folder");
        let (wal, archive_dir) = (dir.path().join("0001"), dir.path().join("archive"));
        fs::create_dir(&archive_dir).expect("made");
        fs::write(&wal, vec![7; 3 << 20]).expect("written");
        let target = archive_dir.join("0001");
        for _ in 0..2 {
            archive(&wal, &target).expect("the same bytes");
            assert_eq!(fs::read(&target).expect("there"), vec![7; 3 << 20]);
        }
        archive(&wal, &archive_dir).expect("a folder takes the source's name");
        for other in [vec![8; 3 << 20], vec![7; 2 << 20], vec![7; 4 << 20]] {
            fs::write(&wal, other).expect("written");
            let error = archive(&wal, &target).expect_err("other bytes");
            assert!(matches!(error, CopyError::Different(_)), "{error}");
            assert_eq!(fs::read(&target).expect("there"), vec![7; 3 << 20]);
        }
        assert_eq!(names(&archive_dir), ["0001"]);
    }

    #[test]
    fn what_a_killed_copy_left_goes_and_what_another_writes_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let wal = dir.path().join("wal");
        fs::write(&wal, "bytes").expect("written");
        let archive_dir = dir.path().join("archive");
        fs::create_dir(&archive_dir).expect("made");
        let target = archive_dir.join("0001");
        let busy = Aside::new(&target).expect("made");
        fs::write(archive_dir.join(".0001.copy-0"), "half").expect("written");
        fs::write(archive_dir.join(".0002.copy-0"), "half").expect("written");
        archive(&wal, &target).expect("copied");
        let own = busy.path.file_name().expect("a name").to_string_lossy();
        let mut expected = vec![own.as_ref(), ".0002.copy-0", "0001"];
        expected.sort_unstable();
        assert_eq!(names(&archive_dir), expected);
    }

    #[test]
    fn a_name_that_was_taken_meanwhile_is_not_replaced() {
        let dir = tempfile::tempdir().expect("a folder");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "new").expect("written");
        fs::write(&to, "old").expect("written");
        let error = give_name(&from, &to).expect_err("taken");
        assert!(
            matches!(&error, CopyError::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists),
            "{error}"
        );
        assert_eq!(fs::read(&to).expect("there"), b"old");
    }

    #[test]
    fn what_is_not_in_the_archive_is_told_from_an_archive_that_is_not_there() {
        let dir = tempfile::tempdir().expect("a folder");
        let target = dir.path().join("RECOVERYXLOG");
        let absent = dir.path().join("0002");
        assert_eq!(restore(&absent, &target).expect("no error"), ABSENT);
        let away = dir.path().join("away/0002");
        restore(&away, &target).expect_err("its folder is missing");
        restore(dir.path(), &target).expect_err("a folder is no file");
        fs::write(&absent, "bytes").expect("written");
        fs::write(&target, "older and longer").expect("written");
        assert_eq!(restore(&absent, &target).expect("copied"), 0);
        assert_eq!(fs::read(&target).expect("there"), b"bytes");
        assert_eq!(names(dir.path()), ["0002", "RECOVERYXLOG"]);
    }
}
