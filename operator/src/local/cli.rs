//! The commands of `understudy-operator local`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};

use super::folder::LocalSettings;
use super::operator::{knock, operate};
use super::{
    ClusterFolder, EventLog, ObjectError, ObjectStore, Process, is_free, manifest, serve_forever,
    spawn_detached, status, supervisor_of,
};
use crate::crd::{FORCE_PROMOTE, Phase, ReplicatedCluster, SWITCHOVER_TO};
use crate::durable::FileLock;
use crate::validate::validate_change;

const DEFAULT_PORT: u16 = 5432;
/// Tried in turn where the default's three ports are taken.
const OTHER_PORTS: std::ops::Range<u16> = 15_432..16_432;
const READY_LIMIT: Duration = Duration::from_secs(120);
const SWITCHOVER_LIMIT: Duration = Duration::from_secs(30);

#[derive(Args, Debug)]
pub struct Folder {
    /// The cluster's folder.
    #[arg(long, default_value = ".understudy")]
    dir: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Output {
    Json,
}

#[derive(Subcommand, Debug)]
pub enum LocalCommand {
    /// Bring up a manifest as local processes, or give a running cluster a changed one.
    Up {
        /// The ReplicatedCluster manifest; `-` is standard input.
        #[arg(short, long)]
        file: PathBuf,
        #[command(flatten)]
        folder: Folder,
        /// The primary's port; the next two lead to the standbys and to any instance. Default 5432, or others if taken.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=65_533))]
        port: Option<u16>,
        /// Return when the cluster is ready; the operator goes on in the background.
        #[arg(long)]
        detach: bool,
        /// Do not end a lost primary's processes before a takeover (for tests: safety does not rest on it).
        #[arg(long)]
        no_fence: bool,
        /// The engine's program; default: `understudy` beside this program.
        #[arg(long, hide = true)]
        engine: Option<PathBuf>,
    },
    /// Show the cluster.
    Status {
        #[command(flatten)]
        folder: Folder,
        #[arg(short, long)]
        output: Option<Output>,
    },
    /// Show what has happened.
    Events {
        #[command(flatten)]
        folder: Folder,
        #[arg(short, long)]
        output: Option<Output>,
        /// Go on with new ones as they come.
        #[arg(long)]
        follow: bool,
    },
    /// Hand the primary's role to a standby.
    Switchover {
        #[command(flatten)]
        folder: Folder,
        /// The standby; default: the nearest one.
        #[arg(long, default_value = "any")]
        to: String,
    },
    /// Let a blocked failover go on, accepting that commits may be lost.
    ForcePromote {
        /// The instance and the blocked term, as the condition names them: NAME@TERM.
        target: String,
        #[command(flatten)]
        folder: Folder,
    },
    /// Stop the cluster.
    Down {
        #[command(flatten)]
        folder: Folder,
        /// Remove the data as well.
        #[arg(long)]
        purge: bool,
    },
    /// The operator alone, in the foreground.
    #[command(hide = true)]
    Operate {
        #[command(flatten)]
        folder: Folder,
    },
    /// The Services' process.
    #[command(hide = true)]
    Services {
        #[command(flatten)]
        folder: Folder,
        #[arg(long)]
        port: u16,
    },
}

/// Runs a command.
///
/// # Errors
/// What went wrong, for the terminal.
pub async fn run(command: LocalCommand) -> anyhow::Result<()> {
    match command {
        LocalCommand::Up {
            file,
            folder,
            port,
            detach,
            no_fence,
            engine,
        } => {
            up(&Up {
                file,
                dir: folder.dir,
                port,
                detach,
                fencing: !no_fence,
                engine,
            })
            .await
        }
        LocalCommand::Status { folder, output } => show_status(&open(&folder)?, output).await,
        LocalCommand::Events {
            folder,
            output,
            follow,
        } => show_events(&open(&folder)?, output, follow).await,
        LocalCommand::Switchover { folder, to } => switchover(&open(&folder)?, &to).await,
        LocalCommand::ForcePromote { folder, target } => {
            force_promote(&open(&folder)?, &target).await
        }
        LocalCommand::Down { folder, purge } => down(&open(&folder)?, purge).await,
        LocalCommand::Operate { folder } => operate(&open(&folder)?).await,
        LocalCommand::Services { folder, port } => {
            // Its parent may be a terminal's job that is interrupted.
            let _ = rustix::process::setsid();
            Ok(serve_forever(&open(&folder)?, port).await?)
        }
    }
}

fn open(folder: &Folder) -> anyhow::Result<ClusterFolder> {
    let dir = folder.dir.canonicalize().with_context(|| {
        format!(
            "{}: there is no cluster here; start one with `local up -f FILE`",
            folder.dir.display()
        )
    })?;
    Ok(ClusterFolder::new(&dir))
}

struct Up {
    file: PathBuf,
    dir: PathBuf,
    port: Option<u16>,
    detach: bool,
    fencing: bool,
    engine: Option<PathBuf>,
}

async fn up(options: &Up) -> anyhow::Result<()> {
    let (manifest, _) = manifest::read(&options.file)?;
    let ignored = manifest::not_applied(&manifest.spec);
    if !ignored.is_empty() {
        println!("not applied to local processes: {}", ignored.join(", "));
    }
    std::fs::create_dir_all(options.dir.join("instances"))
        .with_context(|| format!("create {}", options.dir.display()))?;
    let folder = ClusterFolder::new(&options.dir.canonicalize()?);
    let running = FileLock::try_acquire(&folder.file("operator.lock"))?.is_none();
    let settings = settings(&folder, options, running)?;
    let generation = put_manifest(&folder, &manifest)?;
    if running && knock(&folder).await {
        println!(
            "the manifest (generation {generation}) was handed to the operator that runs on {}",
            folder.dir().display()
        );
        return Ok(());
    }
    folder.write_settings(&settings)?;
    println!(
        "services: primary 127.0.0.1:{}, standbys 127.0.0.1:{}, any 127.0.0.1:{}",
        settings.port,
        settings.port + 1,
        settings.port + 2
    );
    if options.detach {
        let dir = folder.dir().to_string_lossy().into_owned();
        let operator = spawn_detached(
            &["local", "operate", "--dir", &dir],
            &folder.file("operator.log"),
        )?;
        return wait_until_ready(&folder, generation, operator).await;
    }
    operate(&folder).await?;
    println!(
        "the operator has ended; the databases go on. `local up` operates them again, `local down` stops them"
    );
    Ok(())
}

fn settings(folder: &ClusterFolder, options: &Up, running: bool) -> anyhow::Result<LocalSettings> {
    let old = folder.settings()?;
    // The forwarders of an operator that was killed go on, on the ports that they have.
    let served = running || FileLock::try_acquire(&folder.file("services.lock"))?.is_none();
    let engine = match (&options.engine, &old) {
        (Some(engine), _) => engine
            .canonicalize()
            .with_context(|| engine.display().to_string())?,
        (None, Some(old)) if old.engine.exists() => old.engine.clone(),
        (None, _) => engine_program()?,
    };
    let port = match (options.port, &old) {
        (Some(port), Some(old)) if served && port != old.port => {
            bail!(
                "--port {port}: the cluster in {} runs on port {}; stop it first",
                folder.dir().display(),
                old.port
            )
        }
        (Some(port), Some(old)) if port == old.port => port,
        (Some(port), _) => {
            if let Some(taken) = [port, port + 1, port + 2]
                .into_iter()
                .find(|p| !is_free(*p))
            {
                bail!(
                    "--port {port}: port {taken} is taken; choose three ports in a row that are free"
                );
            }
            port
        }
        (None, Some(old)) => old.port,
        (None, None) => choose_port()?,
    };
    let mut three = [port, port + 1, port + 2].into_iter();
    if !served && let Some(taken) = three.find(|p| !is_free(*p)) {
        bail!(
            "port {taken} of the cluster in {} is taken; free it or give others with --port",
            folder.dir().display()
        );
    }
    Ok(LocalSettings {
        port,
        engine,
        fencing: options.fencing,
    })
}

fn choose_port() -> anyhow::Result<u16> {
    let free = |port: &u16| [*port, port + 1, port + 2].into_iter().all(is_free);
    if free(&DEFAULT_PORT) {
        return Ok(DEFAULT_PORT);
    }
    let other = OTHER_PORTS
        .step_by(10)
        .find(free)
        .context("no three free ports in a row were found; give --port")?;
    println!(
        "port {DEFAULT_PORT} or one of the next two is taken; using {other} to {}",
        other + 2
    );
    Ok(other)
}

/// The engine's program: beside this one, or in the search path.
fn engine_program() -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("understudy");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("understudy"));
    std::iter::once(beside.clone())
        .chain(found)
        .find(|p| p.is_file())
        .with_context(|| {
            format!(
                "the engine's program is not at {} nor in the search path; build it first",
                beside.display()
            )
        })
}

/// Writes the manifest's spec into the object; gives the generation that it has then.
fn put_manifest(folder: &ClusterFolder, manifest: &ReplicatedCluster) -> anyhow::Result<i64> {
    let name = manifest.metadata.name.clone().unwrap_or_default();
    if let Some(stored) = ObjectStore::new(folder).read()? {
        let other = stored.metadata.name.clone().unwrap_or_default();
        if other != name {
            bail!(
                "{} holds the cluster {other}, not {name}; give another --dir",
                folder.dir().display()
            );
        }
        let findings = validate_change(&stored, manifest);
        if !findings.is_empty() {
            bail!("the change is refused:\n{}", manifest::lines(&findings));
        }
    }
    let known_uid = cluster_id_of_volumes(folder)?;
    let object = ObjectStore::new(folder).update(|current| {
        let mut object = current.unwrap_or_else(|| {
            let mut new = manifest.clone();
            new.metadata.generation = Some(0);
            let uid = known_uid.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
            new.metadata.uid = Some(uid);
            new
        });
        let generation = object.metadata.generation.unwrap_or(0);
        if object.spec != manifest.spec || generation == 0 {
            object.metadata.generation = Some(generation + 1);
            object.spec = manifest.spec.clone();
        }
        Ok(object)
    })?;
    Ok(object.metadata.generation.unwrap_or(0))
}

/// Volumes whose object is gone know which cluster they belong to.
fn cluster_id_of_volumes(folder: &ClusterFolder) -> anyhow::Result<Option<String>> {
    let Some(name) = folder.volumes()?.into_iter().next() else {
        return Ok(None);
    };
    let config = crate::instance::read_config(&folder.volume(&name).config())?;
    Ok(Some(config.cluster_id))
}

/// Shows events until every instance is ready. `operator` is the process that was started for it.
async fn wait_until_ready(
    folder: &ClusterFolder,
    generation: i64,
    operator: u32,
) -> anyhow::Result<()> {
    let log = EventLog::new(folder);
    let mut shown = log.read()?.len();
    let begin = Instant::now();
    let mut operates = false;
    loop {
        operates = operates || knock(folder).await;
        let events = log.read()?;
        for event in events.get(shown..).unwrap_or_default() {
            println!("{}", event.human());
        }
        shown = events.len();
        let object = read(folder)?;
        let status = object.status.clone().unwrap_or_default();
        let ready = operates
            && status.conditions.iter().any(|c| {
                c.type_ == "Ready"
                    && c.status == crate::crd::ConditionStatus::True
                    && c.observed_generation >= generation
            });
        if ready {
            println!(
                "{} is ready; connect with: psql -h 127.0.0.1 -p {} -U postgres postgres",
                object.metadata.name.unwrap_or_default(),
                folder.settings()?.map_or(0, |s| s.port)
            );
            return Ok(());
        }
        // Its lock is looked at when it has ended only: a look takes it, and it may be about to.
        if begin.elapsed() > Duration::from_secs(3)
            && !Path::new(&format!("/proc/{operator}")).exists()
            && FileLock::try_acquire(&folder.file("operator.lock"))?.is_some()
        {
            bail!(
                "the operator has ended; see {}",
                folder.file("operator.log").display()
            );
        }
        if begin.elapsed() > READY_LIMIT {
            let why: Vec<String> = status
                .conditions
                .iter()
                .map(|c| format!("  {}: {}", c.type_, c.message))
                .collect();
            bail!(
                "not ready after {} s; the operator goes on.\n{}",
                READY_LIMIT.as_secs(),
                why.join("\n")
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn read(folder: &ClusterFolder) -> anyhow::Result<ReplicatedCluster> {
    Ok(ObjectStore::new(folder)
        .read()?
        .ok_or(ObjectError::Missing)?)
}

async fn show_status(folder: &ClusterFolder, output: Option<Output>) -> anyhow::Result<()> {
    let mut cluster = read(folder)?;
    status::freshen(folder, &mut cluster).await;
    if output == Some(Output::Json) {
        println!("{}", serde_json::to_string_pretty(&cluster)?);
    } else {
        let operator = FileLock::try_acquire(&folder.file("operator.lock"))?.is_none();
        print!(
            "{}",
            status::render(&cluster, folder.settings()?.map(|s| s.port), operator)
        );
    }
    Ok(())
}

async fn show_events(
    folder: &ClusterFolder,
    output: Option<Output>,
    follow: bool,
) -> anyhow::Result<()> {
    let log = EventLog::new(folder);
    let mut shown = 0;
    loop {
        let events = log.read()?;
        for event in events.get(shown..).unwrap_or_default() {
            match output {
                Some(Output::Json) => println!("{}", serde_json::to_string(event)?),
                None => println!("{}", event.human()),
            }
        }
        shown = events.len();
        if !follow {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn annotate(folder: &ClusterFolder, key: &str, value: &str) -> anyhow::Result<()> {
    ObjectStore::new(folder).update(|current| {
        let mut object = current.ok_or(ObjectError::Missing)?;
        let annotations = object.metadata.annotations.get_or_insert_default();
        annotations.insert(key.to_owned(), value.to_owned());
        Ok(object)
    })?;
    Ok(())
}

/// Writes the request, wakes the operator, and shows the events from here on until `done`.
async fn request(
    folder: &ClusterFolder,
    key: &str,
    value: &str,
    done: impl Fn(&ReplicatedCluster) -> bool,
) -> anyhow::Result<()> {
    let log = EventLog::new(folder);
    let mut shown = log.read()?.len();
    annotate(folder, key, value)?;
    if !knock(folder).await {
        println!(
            "no operator runs on {}; the request is kept for the next one",
            folder.dir().display()
        );
        return Ok(());
    }
    let begin = Instant::now();
    let mut answered = false;
    loop {
        let events = log.read()?;
        for event in events.get(shown..).unwrap_or_default() {
            println!("{}", event.human());
            answered |= ["Switchover", "ForcePromote"]
                .iter()
                .any(|r| event.reason.starts_with(r));
            if event.reason.ends_with("Refused") {
                bail!("{}", event.message);
            }
        }
        shown = events.len();
        let object = read(folder)?;
        let asked = object
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|a| a.contains_key(key));
        // The answer is told after the request was taken off the object.
        if answered && !asked && done(&object) {
            return Ok(());
        }
        if begin.elapsed() > SWITCHOVER_LIMIT {
            bail!(
                "not done after {} s; the request stands, see `local status`",
                SWITCHOVER_LIMIT.as_secs()
            );
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_settled(object: &ReplicatedCluster) -> bool {
    let record = object
        .status
        .as_ref()
        .and_then(crate::crd::ReplicatedClusterStatus::record);
    record.is_some_and(|r| r.phase == Phase::Running && r.change.is_none())
}

async fn switchover(folder: &ClusterFolder, to: &str) -> anyhow::Result<()> {
    request(folder, SWITCHOVER_TO, to, is_settled).await?;
    let primary = read(folder)?
        .status
        .and_then(|s| s.current_primary)
        .unwrap_or_default();
    if to != "any" && primary != to {
        bail!("{to} could not take over; {primary} is the primary");
    }
    Ok(())
}

async fn force_promote(folder: &ClusterFolder, target: &str) -> anyhow::Result<()> {
    request(folder, FORCE_PROMOTE, target, |object| {
        object.status.as_ref().and_then(|s| s.phase) == Some(Phase::Running)
    })
    .await
}

/// Stops the operator, the instances (the primary first, so that its standbys get everything), the Services.
async fn down(folder: &ClusterFolder, purge: bool) -> anyhow::Result<()> {
    let mut marks = ["local.json", "cluster.json"].into_iter();
    if purge && !marks.any(|name| folder.file(name).exists()) {
        let dir = folder.dir().display();
        bail!("{dir} is no cluster's folder; nothing was stopped or removed");
    }
    let proof = folder.dir().to_string_lossy().into_owned();
    if FileLock::try_acquire(&folder.file("operator.lock"))?.is_none() {
        end(
            read_pid(&folder.file("operator.pid")),
            "local",
            Duration::from_secs(5),
        )
        .await;
    }
    let object = ObjectStore::new(folder).read().ok().flatten();
    let primary = object
        .and_then(|o| o.status)
        .and_then(|s| s.current_primary);
    let mut names = folder.volumes()?;
    names.sort_by_key(|name| Some(name) != primary.as_ref());
    for name in &names {
        let volume = folder.volume(name);
        let lock = volume.lock();
        let Ok(config) = crate::instance::read_config(&volume.config()) else {
            continue;
        };
        let status: Option<crate::api::SupervisorStatus> = crate::transport::call(
            crate::transport::Address::Local(config.control_port),
            "/status",
            None,
            None,
            Duration::from_secs(2),
        )
        .await
        .ok();
        let dir = volume.dir().to_string_lossy().into_owned();
        let pid = status
            .filter(|s| s.name == *name && Process::find(s.supervisor_pid, &dir).is_some())
            .map(|s| s.supervisor_pid)
            .or_else(|| supervisor_of(&dir));
        end(pid, &dir, Duration::from_secs(40)).await;
        if FileLock::try_acquire(&lock)?.is_none() {
            bail!("{name} could not be stopped");
        }
        println!("stopped {name}");
    }
    end_late_ones(folder, &names).await;
    end(
        read_pid(&folder.file("services.pid")),
        &proof,
        Duration::from_secs(5),
    )
    .await;
    if purge {
        remove(folder.dir())
            .await
            .with_context(|| format!("remove {}", folder.dir().display()))?;
        println!("removed {}", folder.dir().display());
    }
    Ok(())
}

/// One that the operator had only just begun to start holds no lock and is not known by its command line yet; nor is
/// one asked whose configuration can't be read.
async fn end_late_ones(folder: &ClusterFolder, names: &[String]) {
    tokio::time::sleep(Duration::from_millis(200)).await;
    for name in names {
        let dir = folder.volume(name).dir().to_string_lossy().into_owned();
        if let Some(pid) = supervisor_of(&dir) {
            end(Some(pid), &dir, Duration::from_secs(40)).await;
        }
    }
}

/// A supervisor that the operator had only just begun to start may write one more file before it finds that there is
/// nothing to look after.
async fn remove(dir: &Path) -> std::io::Result<()> {
    let mut tries = 0;
    loop {
        match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty && tries < 20 => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            result => return result,
        }
    }
}

fn read_pid(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// SIGTERM, and SIGKILL for who does not end in time. A stopped process is ended at once.
async fn end(pid: Option<u32>, proof: &str, limit: Duration) {
    let Some(process) = pid.and_then(|pid| Process::find(pid, proof)) else {
        return;
    };
    process.terminate();
    let frozen =
        std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).is_ok_and(|stat| {
            stat.rsplit(") ")
                .next()
                .is_some_and(|rest| rest.starts_with('T'))
        });
    if frozen || !process.ends_within(limit).await {
        process.kill();
        process.ends_within(Duration::from_secs(5)).await;
    }
}
