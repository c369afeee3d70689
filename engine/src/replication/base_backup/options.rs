//! The options of `BASE_BACKUP`, as PostgreSQL 15 has them. Manual, 55.4.

use crate::replication::base_backup::manifest::ChecksumAlgorithm;
use crate::replication::reply::CommandError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkpoint {
    Fast,
    Spread,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestChoice {
    No,
    Yes(ChecksumAlgorithm),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupOptions {
    pub label: String,
    pub progress: bool,
    pub checkpoint: Checkpoint,
    /// The log from start to end of the backup goes into the archive.
    pub wal: bool,
    /// Wait until that log is archived.
    pub wait: bool,
    /// Bytes in a second; `None`: as fast as it goes.
    pub max_rate: Option<u64>,
    pub manifest: ManifestChoice,
    pub verify_checksums: bool,
    /// `TARGET 'blackhole'`: everything is read, nothing sent.
    pub discard: bool,
}

impl Default for BackupOptions {
    fn default() -> Self {
        BackupOptions {
            label: "base backup".to_owned(),
            progress: false,
            checkpoint: Checkpoint::Spread,
            wal: false,
            wait: true,
            max_rate: None,
            manifest: ManifestChoice::No,
            verify_checksums: true,
            discard: false,
        }
    }
}

impl BackupOptions {
    /// From names (lower case) and values; a value that is missing is `None`.
    pub fn parse(given: &[(String, Option<String>)]) -> Result<BackupOptions, CommandError> {
        let mut options = BackupOptions::default();
        let mut seen: Vec<&str> = Vec::new();
        let (mut manifest, mut algorithm) = (false, None);
        for (name, value) in given {
            if seen.contains(&name.as_str()) {
                return Err(syntax(format!("duplicate option \"{name}\"")));
            }
            seen.push(name);
            match name.as_str() {
                "label" => options.label = text(name, value)?.to_owned(),
                "progress" => options.progress = boolean(name, value)?,
                "checkpoint" => options.checkpoint = checkpoint(text(name, value)?)?,
                "wal" => options.wal = boolean(name, value)?,
                "wait" => options.wait = boolean(name, value)?,
                "verify_checksums" => options.verify_checksums = boolean(name, value)?,
                // There are no tablespaces but the default one, so the map is always empty.
                "tablespace_map" => {
                    boolean(name, value)?;
                }
                "max_rate" => options.max_rate = Some(max_rate(text(name, value)?)?),
                "manifest" => manifest = manifest_wanted(name, value)?,
                "manifest_checksums" => algorithm = Some(checksums(text(name, value)?)?),
                "target" => options.discard = target(text(name, value)?)?,
                "target_detail" => {
                    return Err(syntax(
                        "target \"client\" does not accept a target detail".to_owned(),
                    ));
                }
                "compression" if text(name, value)? == "none" => {}
                "compression" | "compression_detail" => {
                    return Err(CommandError::new(
                        "0A000",
                        "server-side compression of base backups is not implemented",
                    )
                    .hint("Let the client compress: pg_basebackup --compress=client-gzip."));
                }
                other => {
                    return Err(syntax(format!(
                        "unrecognized base backup option: \"{other}\""
                    )));
                }
            }
        }
        options.manifest = match (manifest, algorithm) {
            (true, algorithm) => {
                ManifestChoice::Yes(algorithm.unwrap_or(ChecksumAlgorithm::Crc32c))
            }
            (false, None) => ManifestChoice::No,
            (false, Some(_)) => {
                return Err(syntax(
                    "manifest checksums require a backup manifest".to_owned(),
                ));
            }
        };
        Ok(options)
    }
}

fn syntax(message: String) -> CommandError {
    CommandError::new("42601", message)
}

fn text<'a>(name: &str, value: &'a Option<String>) -> Result<&'a str, CommandError> {
    value
        .as_deref()
        .ok_or_else(|| syntax(format!("{name} requires a parameter")))
}

fn boolean(name: &str, value: &Option<String>) -> Result<bool, CommandError> {
    match value.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None | Some("true" | "on" | "1") => Ok(true),
        Some("false" | "off" | "0") => Ok(false),
        Some(_) => Err(syntax(format!("{name} requires a Boolean value"))),
    }
}

fn checkpoint(value: &str) -> Result<Checkpoint, CommandError> {
    match value.to_ascii_lowercase().as_str() {
        "fast" => Ok(Checkpoint::Fast),
        "spread" => Ok(Checkpoint::Spread),
        other => Err(syntax(format!("unrecognized checkpoint type: \"{other}\""))),
    }
}

/// Kilobytes in a second, 32 to 1048576.
fn max_rate(value: &str) -> Result<u64, CommandError> {
    let rate: u64 = value
        .parse()
        .map_err(|_| syntax("max_rate requires an integer value".to_owned()))?;
    if !(32..=1_048_576).contains(&rate) {
        let message =
            format!("{rate} is outside the valid range for parameter \"MAX_RATE\" (32 .. 1048576)");
        return Err(CommandError::new("22023", message));
    }
    Ok(rate * 1024)
}

fn manifest_wanted(name: &str, value: &Option<String>) -> Result<bool, CommandError> {
    match value.as_deref() {
        // Every name that we write is UTF-8, so nothing is left to encode by force.
        Some("force-encode") => Ok(true),
        Some("yes") => Ok(true),
        Some("no") => Ok(false),
        _ => boolean(name, value),
    }
}

fn checksums(value: &str) -> Result<ChecksumAlgorithm, CommandError> {
    ChecksumAlgorithm::named(value)
        .ok_or_else(|| syntax(format!("unrecognized checksum algorithm: \"{value}\"")))
}

fn target(value: &str) -> Result<bool, CommandError> {
    match value {
        "client" => Ok(false),
        "blackhole" => Ok(true),
        "server" => Err(CommandError::new(
            "0A000",
            "base backups to a server directory are not implemented",
        )
        .hint("Send the backup to the client: pg_basebackup -D.")),
        other => Err(syntax(format!("unrecognized target: \"{other}\""))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(given: &[(&str, Option<&str>)]) -> Result<BackupOptions, CommandError> {
        let owned: Vec<_> = given
            .iter()
            .map(|(n, v)| ((*n).to_owned(), v.map(str::to_owned)))
            .collect();
        BackupOptions::parse(&owned)
    }

    #[test]
    fn what_pg_basebackup_sends_is_understood() {
        let options = parse(&[
            ("label", Some("pg_basebackup base backup")),
            ("progress", None),
            ("checkpoint", Some("fast")),
            ("wait", Some("0")),
            ("manifest", Some("yes")),
            ("target", Some("client")),
        ])
        .expect("pg_basebackup's own options");
        assert_eq!(options.checkpoint, Checkpoint::Fast);
        assert!(options.progress && !options.wait && !options.wal);
        assert_eq!(
            options.manifest,
            ManifestChoice::Yes(ChecksumAlgorithm::Crc32c)
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for (given, state) in [
            (vec![("label", None)], "42601"),
            (vec![("label", Some("a")), ("label", Some("b"))], "42601"),
            (vec![("checkpoint", Some("slow"))], "42601"),
            (vec![("max_rate", Some("31"))], "22023"),
            (vec![("manifest_checksums", Some("sha256"))], "42601"),
            (vec![("compression", Some("gzip"))], "0A000"),
            (vec![("nonsense", None)], "42601"),
        ] {
            assert_eq!(
                parse(&given).expect_err("refused").state,
                state,
                "{given:?}"
            );
        }
    }
}
