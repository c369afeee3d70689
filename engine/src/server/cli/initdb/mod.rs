//! `initdb`: a new data directory, its configuration files, and (through [`Programs`]) its catalogs.
//!
//! A failure removes what was made, unless `--no-clean`. A crash leaves a directory without a usable `pg_control`,
//! which no server starts on; it has to be removed by hand, as PostgreSQL's has.

mod files;
mod options;

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

pub use options::NewCluster;
use options::{Outcome, Plan};

use super::{Programs, Usage};
use crate::config::conf_file::os_message;

/// Directories of a new cluster, those that PostgreSQL's tools look into included.
const DIRECTORIES: [&str; 18] = [
    "global",
    "pg_wal",
    "pg_wal/archive_status",
    "pg_commit_ts",
    "pg_dynshmem",
    "pg_notify",
    "pg_serial",
    "pg_snapshots",
    "pg_subtrans",
    "pg_twophase",
    "pg_multixact",
    "base",
    "pg_replslot",
    "pg_tblspc",
    "pg_stat",
    "pg_stat_tmp",
    "pg_xact",
    "pg_logical",
];

/// A failure with its hint; printed as `initdb: error: ...`.
struct Failure {
    message: String,
    hint: Option<String>,
}

fn failure(message: impl Into<String>) -> Failure {
    Failure {
        message: message.into(),
        hint: None,
    }
}

/// How the data directory was found, which says how to undo.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Missing,
    Empty,
}

pub fn main(args: &[String], programs: &dyn Programs) -> u8 {
    let plan = match options::parse(args) {
        Ok(Outcome::Make(plan)) => plan,
        Ok(Outcome::Done) => return 0,
        Err(Usage(text)) => {
            eprintln!("{text}");
            return 1;
        }
    };
    if super::os_user::is_root() {
        eprintln!("initdb: warning: running as root is not advised: use a user of its own");
    }
    greet(&plan);
    let directory = plan.cluster.data_directory.clone();
    let found = match inspect(&directory) {
        Ok(found) => found,
        Err(f) => return report(&f),
    };
    match make(&plan, found, programs) {
        Ok(()) => {
            farewell(&plan);
            0
        }
        Err(f) => {
            println!();
            let code = report(&f);
            if plan.clean {
                undo(&directory, found);
            } else {
                eprintln!(
                    "initdb: data directory \"{}\" not removed at user's request",
                    directory.display()
                );
            }
            code
        }
    }
}

fn report(f: &Failure) -> u8 {
    eprintln!("initdb: error: {}", f.message);
    if let Some(hint) = &f.hint {
        eprintln!("initdb: hint: {hint}");
    }
    1
}

fn greet(plan: &Plan) {
    println!(
        "The files belonging to this database system will be owned by user \"{}\".",
        super::os_user::current_name()
    );
    println!("This user must also own the server process.\n");
    println!(
        "The database cluster will be initialized with locale \"{}\".",
        plan.cluster.locale
    );
    println!("The default database encoding has been set to \"UTF8\".");
    println!("The default text search configuration will be set to \"english\".\n");
    println!(
        "Data page checksums are {}.\n",
        if plan.cluster.checksums {
            "enabled"
        } else {
            "disabled"
        }
    );
}

fn inspect(directory: &Path) -> Result<Found, Failure> {
    let shown = directory.display();
    match std::fs::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Found::Missing),
        Err(e) => Err(failure(format!(
            "could not access directory \"{shown}\": {}",
            os_message(&e)
        ))),
        Ok(mut entries) => match entries.next() {
            None => Ok(Found::Empty),
            Some(_) => Err(Failure {
                message: format!("directory \"{shown}\" exists but is not empty"),
                hint: Some(format!(
                    "If you want to create a new database system, either remove or empty the directory \"{shown}\" or run initdb with an argument other than \"{shown}\"."
                )),
            }),
        },
    }
}

/// Runs one step of which the user sees name and outcome.
fn step(name: &str, work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    use std::io::Write;
    print!("{name} ... ");
    // Progress that cannot be shown is no failure.
    let _ = io::stdout().flush();
    work()?;
    println!("ok");
    Ok(())
}

fn create(path: &Path) -> Result<(), Failure> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| {
            failure(format!(
                "could not create directory \"{}\": {}",
                path.display(),
                os_message(&e)
            ))
        })
}

fn write(directory: &Path, name: &str, text: &str) -> Result<(), Failure> {
    let path = directory.join(name);
    let fail = |e: io::Error| {
        failure(format!(
            "could not write file \"{}\": {}",
            path.display(),
            os_message(&e)
        ))
    };
    std::fs::write(&path, text).map_err(fail)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(fail)
}

fn make(plan: &Plan, found: Found, programs: &dyn Programs) -> Result<(), Failure> {
    let directory = &plan.cluster.data_directory;
    let shown = directory.display();
    match found {
        Found::Missing => {
            step(&format!("creating directory {shown}"), || create(directory))?;
        }
        Found::Empty => step(
            &format!("fixing permissions on existing directory {shown}"),
            || {
                std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700)).map_err(
                    |e| {
                        failure(format!(
                            "could not change permissions of directory \"{shown}\": {}",
                            os_message(&e)
                        ))
                    },
                )
            },
        )?,
    }
    if let Some(wal) = &plan.wal_directory {
        step(&format!("creating directory {}", wal.display()), || {
            link_wal(directory, wal)
        })?;
    }
    step("creating subdirectories", || {
        DIRECTORIES
            .iter()
            .try_for_each(|d| create(&directory.join(d)))
    })?;
    step("creating configuration files", || {
        write(directory, "postgresql.conf", &files::postgresql_conf(plan))?;
        write(directory, "postgresql.auto.conf", files::AUTO_CONF)?;
        write(directory, "pg_hba.conf", &files::pg_hba_conf(plan))?;
        write(directory, "pg_ident.conf", files::PG_IDENT_CONF)
    })?;
    step("creating system catalogs", || {
        programs.bootstrap(&plan.cluster).map_err(failure)
    })?;
    // Last, so that a directory without it was never complete.
    write(directory, "PG_VERSION", "15\n")?;
    if plan.sync {
        step("syncing data to disk", || {
            sync_tree(directory)
                .map_err(|e| failure(format!("could not fsync \"{shown}\": {}", os_message(&e))))
        })?;
    } else {
        println!(
            "\nSync to disk skipped.\nThe data directory might become corrupt if the operating system crashes."
        );
    }
    Ok(())
}

fn link_wal(directory: &Path, wal: &Path) -> Result<(), Failure> {
    if inspect(wal)? == Found::Missing {
        create(wal)?;
    }
    std::os::unix::fs::symlink(wal, directory.join("pg_wal")).map_err(|e| {
        failure(format!(
            "could not create symbolic link \"{}/pg_wal\": {}",
            directory.display(),
            os_message(&e)
        ))
    })
}

/// Syncs that are under way at one time: the file system serves those that wait together with one write of its
/// journal.
const SYNCS_AT_ONCE: usize = 16;

/// All files, then the directories that name them.
fn sync_tree(root: &Path) -> io::Result<()> {
    let (mut files, mut directories) = (Vec::new(), Vec::new());
    list_tree(root, &mut files, &mut directories)?;
    sync_all(&files)?;
    sync_all(&directories)
}

fn list_tree(
    path: &Path,
    files: &mut Vec<PathBuf>,
    directories: &mut Vec<PathBuf>,
) -> io::Result<()> {
    if !std::fs::metadata(path)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(path)? {
        list_tree(&entry?.path(), files, directories)?;
    }
    directories.push(path.to_owned());
    Ok(())
}

fn sync_all(paths: &[PathBuf]) -> io::Result<()> {
    let next = AtomicUsize::new(0);
    let work = || -> io::Result<()> {
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            std::fs::File::open(path)?.sync_all()?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..SYNCS_AT_ONCE.min(paths.len()))
            .map(|_| scope.spawn(work))
            .collect();
        workers.into_iter().try_for_each(|worker| {
            let panicked = |_| Err(io::Error::other("a thread that syncs files has panicked"));
            worker.join().unwrap_or_else(panicked)
        })
    })
}

fn undo(directory: &Path, found: Found) {
    let shown = directory.display();
    let result = if found == Found::Missing {
        eprintln!("initdb: removing data directory \"{shown}\"");
        std::fs::remove_dir_all(directory)
    } else {
        eprintln!("initdb: removing contents of data directory \"{shown}\"");
        remove_contents(directory)
    };
    if result.is_err() {
        eprintln!("initdb: error: failed to remove data directory");
    }
}

fn remove_contents(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn farewell(plan: &Plan) {
    if plan.warn_about_trust {
        eprintln!("\ninitdb: warning: enabling \"trust\" authentication for local connections");
        eprintln!(
            "initdb: hint: You can change this by editing pg_hba.conf or using the option -A, or --auth-local and --auth-host, the next time you run initdb."
        );
    }
    if plan.instructions {
        println!(
            "\nSuccess. You can now start the database server using:\n\n    {} -D {} -l logfile start\n",
            pg_ctl_command(),
            plan.cluster.data_directory.display()
        );
    }
}

/// How this program is called as `pg_ctl`: by a link beside it, or by sub-command.
fn pg_ctl_command() -> String {
    let exe = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("understudy"));
    let link = exe.with_file_name("pg_ctl");
    if link.exists() {
        link.display().to_string()
    } else {
        format!("{} pg_ctl", exe.display())
    }
}
