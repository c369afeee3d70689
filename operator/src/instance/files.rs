//! The configuration that the supervisor writes into the data directory.
//!
//! `understudy.conf` is included as the last line of `postgresql.conf`, so it wins there; `postgresql.auto.conf`,
//! which would win over it, loses every setting that the operator owns. All of it is rewritten at each start.

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
    /// The volume is so full that new transactions only read.
    pub only_reads: bool,
}

/// Writes everything; the next start or reload of the engine reads it.
pub fn write(volume: &Volume, content: &Content<'_>) -> io::Result<()> {
    let data = volume.data();
    durable::replace(
        &data.join("understudy.conf"),
        settings(volume, content).as_bytes(),
    )?;
    include_last(&data.join("postgresql.conf"))?;
    drop_owned(&data.join("postgresql.auto.conf"))?;
    durable::replace(&data.join("pg_hba.conf"), content.setup.hba.as_bytes())
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
    let keep = format!(
        "{}MB",
        (setup.storage_bytes / 10 / (1 << 20)).clamp(64, 16_384)
    );
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
        ("max_wal_senders", "32"),
        ("wal_retrieve_retry_interval", "200ms"),
    ] {
        if !setup.parameters.contains_key(name) {
            line(&mut text, name, value);
        }
    }
    if content.only_reads {
        line(&mut text, "default_transaction_read_only", "on");
    }
    text
}

fn line(text: &mut String, name: &str, value: &str) {
    let quoted = value.replace('\\', "\\\\").replace('\'', "''");
    writeln!(text, "{name} = '{quoted}'").expect("writing to a string can't fail");
}

fn include_last(path: &Path) -> io::Result<()> {
    let text = read_text(path)?;
    let mut kept: Vec<&str> = text.lines().filter(|l| l.trim() != INCLUDE).collect();
    kept.push(INCLUDE);
    replace_if_changed(path, &text, kept.join("\n") + "\n")
}

fn drop_owned(path: &Path) -> io::Result<()> {
    let text = read_text(path)?;
    let owned = |line: &&str| {
        let name = line
            .split(['=', ' ', '\t'])
            .find(|part| !part.is_empty())
            .unwrap_or("");
        validate::owned(name).is_none()
    };
    let kept: String = text.lines().filter(owned).flat_map(|l| [l, "\n"]).collect();
    replace_if_changed(path, &text, kept)
}

fn read_text(path: &Path) -> io::Result<String> {
    let bytes = durable::read(path)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn replace_if_changed(path: &Path, old: &str, new: String) -> io::Result<()> {
    if old == new {
        Ok(())
    } else {
        durable::replace(path, new.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn values_are_quoted() {
        let mut text = String::new();
        line(&mut text, "log_line_prefix", "it's \\m");
        assert_eq!(text, "log_line_prefix = 'it''s \\\\m'\n");
    }
}
