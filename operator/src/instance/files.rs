//! The configuration that the supervisor writes into the data directory.
//!
//! `understudy.conf` is included as the last line of `postgresql.conf`, so it wins there; `postgresql.auto.conf`,
//! which would win over it, loses every setting that the operator owns. All of it is rewritten at each start.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use super::{InstanceConfig, Volume};
use crate::api::Promise;
use crate::durable;
use crate::validate;

const INCLUDE: &str = "include = 'understudy.conf'";

/// Writes everything; the next start or reload of the engine reads it.
pub fn write(volume: &Volume, config: &InstanceConfig, promise: &Promise) -> io::Result<()> {
    let data = volume.data();
    durable::replace(
        &data.join("understudy.conf"),
        settings(volume, config, promise).as_bytes(),
    )?;
    include_last(&data.join("postgresql.conf"))?;
    drop_owned(&data.join("postgresql.auto.conf"))?;
    durable::replace(&data.join("pg_hba.conf"), HBA.as_bytes())
}

/// Local mode listens on loopback only, and trusts who can reach that.
const HBA: &str = "\
# Written by understudy-operator at each start.
local   all          all                trust
host    all          all  127.0.0.1/32  trust
host    all          all  ::1/128       trust
host    replication  all  127.0.0.1/32  trust
host    replication  all  ::1/128       trust
";

fn settings(volume: &Volume, config: &InstanceConfig, promise: &Promise) -> String {
    let mut text = String::from("# Written by understudy-operator at each start.\n");
    for (name, value) in &config.parameters {
        line(&mut text, name, value);
    }
    let socket = super::control_socket(volume.dir());
    let conninfo = conninfo(config);
    let port = config.port.to_string();
    let http = format!("127.0.0.1:{}", config.http_port);
    let keep = format!(
        "{}MB",
        (config.storage_bytes / 10 / (1 << 20)).clamp(64, 16_384)
    );
    let path = |p: &Path| p.to_string_lossy().into_owned();
    for (name, value) in [
        ("listen_addresses", "127.0.0.1"),
        ("port", &port),
        ("unix_socket_directories", ""),
        ("http_listen", &http),
        ("wal_level", "replica"),
        ("cluster_name", &config.name),
        ("hot_standby", "on"),
        ("recovery_target_timeline", "latest"),
        ("primary_conninfo", &conninfo),
        ("promote_trigger_file", &path(&volume.trigger())),
        ("understudy.cluster_id", &config.cluster_id),
        ("understudy.instance_id", promise.instance_id.as_str()),
        ("understudy.promise_file", &path(&volume.promise_file())),
        ("understudy.control_socket", &path(&socket)),
    ] {
        line(&mut text, name, value);
    }
    for (name, value) in [
        ("wal_keep_size", keep.as_str()),
        ("max_wal_senders", "32"),
        ("wal_retrieve_retry_interval", "200ms"),
    ] {
        if !config.parameters.contains_key(name) {
            line(&mut text, name, value);
        }
    }
    text
}

/// How this instance reaches the primary, as libpq writes it.
pub fn conninfo(config: &InstanceConfig) -> String {
    format!(
        "host=127.0.0.1 port={} user=postgres application_name={}",
        config.service_port, config.name
    )
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
