//! The configuration that the supervisor writes into the data directory.
//!
//! `understudy.conf` is included as the last line of `postgresql.conf`, so it wins there; `postgresql.auto.conf`,
//! which would win over it, loses every setting that the operator owns. All of it is looked at before each start, and
//! what is as it should be is not written: a start on a volume that is full needs no room for it.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use super::Volume;
use super::setup::Setup;
use crate::api::Promise;
use crate::durable;
use crate::validate;

const INCLUDE: &str = "include = 'understudy.conf'";

/// What the files say besides what the platform wants.
pub struct Content<'a> {
    pub setup: &'a Setup,
    pub promise: &'a Promise,
    /// How the primary is reached, as libpq writes it.
    pub conninfo: &'a str,
    /// The volume is so full that no transaction begins to write: the engine's own guard, which no session's settings undo.
    pub only_reads: bool,
}

/// Makes them as they should be, and says whether anything had to be written; the next start or reload of the engine
/// reads it.
pub fn write(volume: &Volume, content: &Content<'_>) -> io::Result<bool> {
    let data = volume.data();
    let is_new = [
        put(&data.join("understudy.conf"), &settings(volume, content))?,
        include_last(&data.join("postgresql.conf"))?,
        drop_owned(&data.join("postgresql.auto.conf"))?,
        put(&data.join("pg_hba.conf"), &content.setup.hba)?,
    ];
    Ok(is_new.contains(&true))
}

fn put(path: &Path, text: &str) -> io::Result<bool> {
    let is_new = durable::read(path)?.as_deref() != Some(text.as_bytes());
    if is_new {
        durable::replace(path, text.as_bytes())?;
    }
    Ok(is_new)
}

fn settings(volume: &Volume, content: &Content<'_>) -> String {
    let Content { setup, promise, .. } = content;
    let mut text = String::from("# Written by understudy-operator at each start.\n");
    for (name, value) in &setup.parameters {
        line(&mut text, name, value);
    }
    for (name, value) in &setup.settings {
        line(&mut text, name, value);
    }
    let port = setup.port.to_string();
    let there = rustix::fs::statvfs(volume.dir()).map_or(u64::MAX, |found| {
        found.f_blocks.saturating_mul(found.f_frsize)
    });
    let keep = kept_log(setup.storage_bytes, there);
    // Whatever the cluster may be scaled to: another number takes a restart.
    let senders = validate::least_wal_senders(validate::MAX_REPLICAS).to_string();
    let path = |p: &Path| p.to_string_lossy().into_owned();
    for (name, value) in [
        ("port", port.as_str()),
        ("wal_level", "replica"),
        ("cluster_name", &setup.name),
        ("hot_standby", "on"),
        ("recovery_target_timeline", "latest"),
        ("primary_conninfo", content.conninfo),
        ("promote_trigger_file", &path(&volume.trigger())),
        ("understudy.cluster_id", &setup.cluster_id),
        ("understudy.instance_id", promise.instance_id.as_str()),
        ("understudy.promise_file", &path(&volume.promise_file())),
        ("understudy.control_socket", &path(&setup.control_socket)),
    ] {
        line(&mut text, name, value);
    }
    for (name, value) in [
        ("wal_keep_size", keep.as_str()),
        // A client that stands still must not fill the volume.
        ("max_slot_wal_keep_size", keep.as_str()),
        ("max_wal_senders", senders.as_str()),
        ("wal_retrieve_retry_interval", "200ms"),
    ] {
        if !setup.parameters.contains_key(name) {
            line(&mut text, name, value);
        }
    }
    if content.only_reads {
        line(&mut text, "understudy.disk_full", "on");
    }
    text
}

fn line(text: &mut String, name: &str, value: &str) {
    // One value is one line, whatever it holds.
    let quoted = value
        .replace('\\', "\\\\")
        .replace('\'', "''")
        .replace('\n', "\\n")
        .replace('\r', "\\r");
    writeln!(text, "{name} = '{quoted}'").expect("writing to a string can't fail");
}

fn include_last(path: &Path) -> io::Result<bool> {
    let text = read_text(path)?;
    let mut kept: Vec<&str> = text.lines().filter(|l| l.trim() != INCLUDE).collect();
    kept.push(INCLUDE);
    put_over(path, &text, &(kept.join("\n") + "\n"))
}

/// What log a primary keeps for its standbys: a tenth of the volume. One that was made before the manifest asked for a
/// larger one has its size still.
fn kept_log(asked_bytes: u64, there_bytes: u64) -> String {
    let megabytes = asked_bytes.min(there_bytes) / 10 / (1 << 20);
    format!("{}MB", megabytes.clamp(64, 16_384))
}

fn drop_owned(path: &Path) -> io::Result<bool> {
    let text = read_text(path)?;
    let owned = |line: &&str| {
        let name = line
            .split(['=', ' ', '\t'])
            .find(|part| !part.is_empty())
            .unwrap_or("");
        validate::owned(name).is_none()
    };
    let kept: String = text.lines().filter(owned).flat_map(|l| [l, "\n"]).collect();
    put_over(path, &text, &kept)
}

fn read_text(path: &Path) -> io::Result<String> {
    let bytes = durable::read(path)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A file that is missing is as good as an empty one.
fn put_over(path: &Path, old: &str, new: &str) -> io::Result<bool> {
    if old == new {
        return Ok(false);
    }
    durable::replace(path, new.as_bytes())?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the supervisor sets only where the manifest does not: it takes no instance from its operator.
    const LEFT_TO_THE_USER: [&str; 4] = [
        "wal_keep_size",
        "max_slot_wal_keep_size",
        "max_wal_senders",
        "wal_retrieve_retry_interval",
    ];

    fn promise() -> Promise {
        Promise {
            cluster_id: "c".to_owned(),
            instance_id: crate::ids::InstanceId::new("i"),
            system_id: None,
            promised_term: crate::ids::Term::FIRST,
            sealed: false,
            set: None,
        }
    }

    /// Of an instance of local mode whose manifest has no settings.
    fn setup(dir: &Path) -> Setup {
        let config = super::super::InstanceConfig {
            cluster: "orders".to_owned(),
            cluster_id: "c".to_owned(),
            name: "orders-1".to_owned(),
            control_port: 1,
            port: 2,
            http_port: 3,
            service_port: 4,
            token_file: dir.join("token"),
            engine: dir.join("understudy"),
            seed: crate::decide::Seed::Initdb,
            term: crate::ids::Term::FIRST,
            storage_bytes: 1 << 30,
            parameters: std::collections::BTreeMap::new(),
        };
        super::super::setup::local(config, dir)
    }

    #[test]
    fn the_include_is_the_last_line_however_often_it_is_written() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("postgresql.conf");
        std::fs::write(&path, "include = 'understudy.conf'\nwork_mem = 1MB\n").expect("written");
        for _ in 0..2 {
            include_last(&path).expect("rewritten");
        }
        let text = std::fs::read_to_string(&path).expect("read");
        assert_eq!(text, "work_mem = 1MB\ninclude = 'understudy.conf'\n");
    }

    #[test]
    fn alter_system_can_not_override_what_the_operator_owns() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("postgresql.auto.conf");
        std::fs::write(
            &path,
            "# note\nPort = '1'\nwork_mem='2MB'\nprimary_conninfo='x'\n",
        )
        .expect("written");
        drop_owned(&path).expect("rewritten");
        assert_eq!(
            std::fs::read_to_string(&path).expect("read"),
            "# note\nwork_mem='2MB'\n"
        );
    }

    #[test]
    fn no_more_log_is_kept_than_the_volume_has_room_for() {
        let gib = |n: u64| n << 30;
        assert_eq!(kept_log(gib(10), gib(500)), "1024MB");
        assert_eq!(kept_log(gib(100), gib(10)), "1024MB");
        assert_eq!(kept_log(gib(1000), gib(1000)), "16384MB");
        assert_eq!(kept_log(256 << 20, u64::MAX), "64MB");
    }

    #[test]
    fn values_are_quoted() {
        let mut text = String::new();
        line(&mut text, "log_line_prefix", "it's \\m");
        assert_eq!(text, "log_line_prefix = 'it''s \\\\m'\n");
        // Nothing gets a line of its own.
        let mut text = String::new();
        line(&mut text, "application_name", "a\nport = 1\r#");
        assert_eq!(text, "application_name = 'a\\nport = 1\\r#'\n");
    }

    #[test]
    fn only_what_is_new_is_written_and_what_is_gone_goes() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let volume = Volume::new(dir.path());
        std::fs::create_dir(volume.data()).expect("created");
        let promise = promise();
        let mut setup = setup(dir.path());
        let work_mem = ("work_mem".to_owned(), "8MB".to_owned());
        setup.parameters = [work_mem].into();
        let written_with = |setup: &Setup, only_reads: bool| {
            let content = Content {
                setup,
                promise: &promise,
                conninfo: "host=here",
                only_reads,
            };
            write(&volume, &content).expect("written")
        };
        let written = |setup: &Setup| written_with(setup, false);
        let text = || std::fs::read_to_string(volume.data().join("understudy.conf"));
        assert!(written(&setup) && text().expect("read").contains("work_mem = '8MB'"));
        assert!(!written(&setup), "it is as it was");
        setup.parameters.clear();
        assert!(written(&setup) && !text().expect("read").contains("work_mem"));
        // A session may set whatever it likes by default: this is the engine's own guard.
        let guard = "understudy.disk_full = 'on'";
        assert!(written_with(&setup, true) && text().expect("read").contains(guard));
        assert!(written(&setup) && !text().expect("read").contains("disk_full"));
    }

    /// What `understudy.conf` says, line by line.
    fn said(setup: &Setup) -> Vec<(String, String)> {
        let volume = Volume::new(Path::new("/nowhere"));
        let content = Content {
            setup,
            promise: &promise(),
            conninfo: "host=here",
            only_reads: true,
        };
        let text = settings(&volume, &content);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.map(|line| line.split_once(" = ").expect("a setting"));
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// A manifest could undo it otherwise, and so could `ALTER SYSTEM`, whose file is read last and loses what is owned.
    #[test]
    fn what_the_supervisor_sets_is_owned_or_left_to_the_user_on_purpose() {
        let mut setup = setup(Path::new("/v"));
        let written = said(&setup);
        assert!(written.len() > 10, "{written:?}");
        for (name, _) in &written {
            let is_left = LEFT_TO_THE_USER.contains(&name.as_str());
            assert_ne!(validate::owned(name).is_some(), is_left, "{name}");
        }
        for name in LEFT_TO_THE_USER {
            setup.parameters.insert(name.to_owned(), "7".to_owned());
            let written = said(&setup);
            let mut values = written.iter().filter(|(of, _)| of == name);
            let value = values.next().map(|(_, value)| value.as_str());
            assert_eq!((value, values.next()), (Some("'7'"), None), "{name}");
        }
    }
}
