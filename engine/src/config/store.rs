//! The server's settings as they change: reads the files at start and on SIGHUP, and hands out snapshots.
//!
//! A value's rank is: computed, command line, `recovery.conf`, `postgresql.auto.conf`, `postgresql.conf`, default.
//! A start with any error is refused; a reload with errors takes what it can and says so, as PostgreSQL does.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};

use super::checks::{self, CheckCx};
use super::conf_file::{ConfFile, Entry, os_message};
use super::definition::{Context, Definition, SettingId, Standing};
use super::error::{Complaint, ConfigError, SettingError};
use super::recovery_conf::{self, RecoveryRequest};
use super::registry::{old_name, registry};
use super::server::{ServerSettings, Source, Values};
use super::value::Value;

/// How the server was told where its settings are.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Absolute.
    pub data_directory: PathBuf,
    /// `-c name=value` and the switches that stand for settings, in order.
    pub command_line: Vec<(String, String)>,
}

/// What a load or a reload has to say; the caller logs it, `errors` and `notes` as LOG.
#[derive(Debug, Default, Clone)]
pub struct Report {
    pub errors: Vec<Complaint>,
    pub notes: Vec<Complaint>,
    /// Settings that the files no longer have; told before anything else, as PostgreSQL does.
    pub removed: Vec<String>,
    /// `parameter "x" changed to "y"` and its kin.
    pub changes: Vec<String>,
    /// PostgreSQL's last line of a reload with errors.
    pub summary: Option<String>,
}

pub struct Settings {
    options: LoadOptions,
    current: ArcSwap<ServerSettings>,
    /// One reload at a time, and computed values with it.
    computed: Mutex<Vec<(SettingId, Value)>>,
    auto_conf: Mutex<()>,
    /// As asked for at start; a promotion does not change it.
    recovery: RecoveryRequest,
}

/// What became of one value in a file or on the command line.
struct Taken {
    id: SettingId,
    value: Value,
    source: Source,
}

impl Settings {
    /// Reads everything for a start. The report's notes are to be logged even if all is well.
    pub fn load(options: LoadOptions) -> Result<(Settings, Report), ConfigError> {
        let mut command_line = Values::defaults();
        for (name, value) in &options.command_line {
            apply_option(&mut command_line, name, value).map_err(|e| ConfigError::Refused {
                fatal: e.message.clone(),
                complaints: vec![Complaint {
                    context: None,
                    ..e.into()
                }],
            })?;
        }
        let path = config_path(&options, &command_line);
        let recovery = recovery_conf::read(&options.data_directory)?;
        let mut report = Report::default();
        let entries = match read_files(&options, &path, &mut report) {
            Ok(entries) => entries,
            Err(source) if path.exists() => {
                report.errors.push(unreadable(&path, &source));
                Vec::new()
            }
            Err(source) => return Err(ConfigError::NoConfigurationFile { path, source }),
        };
        let mut values = Values::defaults();
        let entries: Vec<Entry> = entries
            .into_iter()
            .chain(recovery.entries.clone())
            .collect();
        find_unknown(&entries, &mut report);
        if report.errors.is_empty() {
            apply_entries(&mut values, &entries, &mut report);
        }
        overlay(&mut values, &command_line);
        let elsewhere = other_directory(&values, &options);
        compute_paths(&mut values, &options, &path);
        if report.errors.is_empty() {
            let lacking = recovery_conf::lacking(&recovery, &values.text("restore_command"));
            let wrong = elsewhere.into_iter().chain(inconsistencies(&values));
            let wrong = wrong.chain(lacking);
            report.errors.extend(wrong.take(1));
            if let Some(e) = report.errors.first() {
                return Err(ConfigError::Refused {
                    fatal: e.message.clone(),
                    complaints: vec![e.clone()],
                });
            }
        } else {
            return Err(ConfigError::Refused {
                fatal: format!("configuration file \"{}\" contains errors", path.display()),
                complaints: report.errors,
            });
        }
        report.notes.extend(without_effect(&values));
        let snapshot = ServerSettings::new(values, options.data_directory.clone());
        let settings = Settings {
            options,
            current: ArcSwap::from_pointee(snapshot),
            computed: Mutex::new(Vec::new()),
            auto_conf: Mutex::new(()),
            recovery,
        };
        Ok((settings, report))
    }

    /// Defaults only: for tests, and where there is no file.
    pub fn fixed(values: Values, data_directory: PathBuf) -> Settings {
        Settings {
            options: LoadOptions {
                data_directory: data_directory.clone(),
                command_line: Vec::new(),
            },
            current: ArcSwap::from_pointee(ServerSettings::new(values, data_directory)),
            computed: Mutex::new(Vec::new()),
            auto_conf: Mutex::new(()),
            recovery: RecoveryRequest::default(),
        }
    }

    pub fn current(&self) -> Arc<ServerSettings> {
        self.current.load_full()
    }

    /// True if `seen` is not the newest snapshot any more; one load.
    pub fn is_newer_than(&self, seen: &Arc<ServerSettings>) -> bool {
        !Arc::ptr_eq(&*self.current.load(), seen)
    }

    /// Held by whoever reads `postgresql.auto.conf` to replace it: of two at once, one's change would be lost.
    pub fn changing_auto_conf(&self) -> MutexGuard<'_, ()> {
        self.auto_conf.lock()
    }

    pub fn recovery_request(&self) -> &RecoveryRequest {
        &self.recovery
    }

    /// Puts a value that the server computed (`data_checksums`, `in_hot_standby`, `wal_segment_size`,
    /// `understudy.term`). It outranks everything and survives reloads.
    pub fn compute(&self, name: &'static str, value: Value) {
        let id = registry().id(name);
        let mut computed = self.computed.lock();
        computed.retain(|(i, _)| *i != id);
        computed.push((id, value.clone()));
        let mut values = self.current.load().values.clone();
        values.set(id, value, Source::Override);
        self.publish(values);
    }

    /// Reads the files again and takes what may change while the server runs.
    pub fn reload(&self) -> Report {
        let computed = self.computed.lock();
        let before = self.current();
        let mut report = Report::default();
        let mut command_line = Values::defaults();
        for (name, value) in &self.options.command_line {
            // They were taken at the start, so they are valid.
            let _ = apply_option(&mut command_line, name, value);
        }
        let path = config_path(&self.options, &command_line);
        let entries = match read_files(&self.options, &path, &mut report) {
            Ok(entries) => entries,
            Err(e) => {
                report.errors.push(unreadable(&path, &e));
                report.summary = Some(unaffected(&path, false));
                return report;
            }
        };
        let all: Vec<Entry> = entries
            .into_iter()
            .chain(self.recovery.entries.clone())
            .collect();
        find_unknown(&all, &mut report);
        if !report.errors.is_empty() {
            // A file that does not parse, or names what nobody knows, changes nothing.
            report.summary = Some(unaffected(&path, false));
            return report;
        }
        let mut values = Values::defaults();
        let unchanged = apply_entries(&mut values, &all, &mut report);
        for id in unchanged {
            let old = before.values.get(id).clone();
            values.set(id, old.value, old.source);
        }
        overlay(&mut values, &command_line);
        compute_paths(&mut values, &self.options, &path);
        for (id, value) in computed.iter() {
            values.set(*id, value.clone(), Source::Override);
        }
        compare(&before.values, &mut values, &all, &mut report);
        if !report.errors.is_empty() {
            report.summary = Some(unaffected(&path, true));
        }
        self.publish(values);
        report
    }

    fn publish(&self, values: Values) {
        let directory = self.options.data_directory.clone();
        self.current
            .store(Arc::new(ServerSettings::new(values, directory)));
    }
}

fn unreadable(path: &Path, e: &std::io::Error) -> Complaint {
    Complaint::new(format!(
        "could not open configuration file \"{}\": {}",
        path.display(),
        os_message(e)
    ))
}

fn unaffected(path: &Path, applied: bool) -> String {
    let what = if applied {
        "unaffected changes were applied"
    } else {
        "no changes were applied"
    };
    format!(
        "configuration file \"{}\" contains errors; {what}",
        path.display()
    )
}

fn config_path(options: &LoadOptions, command_line: &Values) -> PathBuf {
    let given = command_line.text("config_file");
    if given.is_empty() {
        options.data_directory.join("postgresql.conf")
    } else {
        std::path::absolute(given.as_ref()).unwrap_or_else(|_| PathBuf::from(given.as_ref()))
    }
}

/// `postgresql.conf` must be there, `postgresql.auto.conf` may.
fn read_files(
    options: &LoadOptions,
    path: &Path,
    report: &mut Report,
) -> std::io::Result<Vec<Entry>> {
    let main = ConfFile::read(path)?;
    let auto = match ConfFile::read(&options.data_directory.join(super::auto_conf::FILE_NAME)) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => ConfFile::default(),
        Err(e) => return Err(e),
    };
    let mut entries = main.entries;
    for file in [(main.errors, main.notes), (auto.errors, auto.notes)] {
        report.errors.extend(file.0);
        report.notes.extend(file.1);
    }
    entries.extend(auto.entries);
    Ok(entries)
}

/// PostgreSQL looks for names that nobody knows before it looks at any value.
fn find_unknown(entries: &[Entry], report: &mut Report) {
    for e in entries {
        let reserved = e.name.to_ascii_lowercase().starts_with("understudy.");
        if registry().find(&e.name).is_none() && (reserved || !e.name.contains('.')) {
            report.errors.push(Complaint::new(format!(
                "unrecognized configuration parameter \"{}\" in file \"{}\" line {}",
                e.name, e.file, e.line
            )));
        }
    }
}

/// The last entry of each name is taken; all names are known or belong to somebody else. Gives the settings whose value
/// was wrong.
fn apply_entries(values: &mut Values, entries: &[Entry], report: &mut Report) -> Vec<SettingId> {
    let mut wrong = Vec::new();
    for (i, e) in entries.iter().enumerate() {
        let known = registry().find(&e.name);
        let overridden = entries[i + 1..].iter().any(|later| match known {
            Some(d) => registry().find_id(&later.name) == Some(d.id),
            None => later.name.eq_ignore_ascii_case(&e.name),
        });
        if overridden {
            continue;
        }
        let Some(d) = known else {
            values.set_custom(&e.name, &e.value);
            continue;
        };
        match take(d, e) {
            Ok(t) => values.set(t.id, t.value, t.source),
            Err(error) => {
                wrong.push(d.id);
                report.errors.push(error.into());
            }
        }
    }
    wrong
}

fn take(d: &Definition, e: &Entry) -> Result<Taken, SettingError> {
    if d.context == Context::Internal {
        return Err(SettingError::new(
            super::error::CANT_CHANGE_RUNTIME_PARAM,
            format!("parameter \"{}\" cannot be changed", d.name),
        ));
    }
    let converted = old_name(&e.name).map(|o| (o.convert)(&e.value));
    let text = converted.as_deref().unwrap_or(&e.value);
    let value = checks::parse(d, text, &CheckCx::default())?;
    let source = Source::ConfigurationFile {
        file: e.file.clone(),
        line: e.line,
    };
    Ok(Taken {
        id: d.id,
        value,
        source,
    })
}

fn apply_option(values: &mut Values, name: &str, text: &str) -> Result<(), SettingError> {
    let Some(d) = registry().find(name) else {
        if name.contains('.') && !name.to_ascii_lowercase().starts_with("understudy.") {
            values.set_custom(name, text);
            return Ok(());
        }
        return Err(SettingError::unrecognized(name));
    };
    if d.context == Context::Internal {
        return Err(SettingError::new(
            super::error::CANT_CHANGE_RUNTIME_PARAM,
            format!("parameter \"{}\" cannot be changed", d.name),
        ));
    }
    let converted = old_name(name).map(|o| (o.convert)(text));
    let value = checks::parse(d, converted.as_deref().unwrap_or(text), &CheckCx::default())?;
    values.set(d.id, value, Source::CommandLine);
    Ok(())
}

/// Lays what the command line set over what the files set.
fn overlay(values: &mut Values, command_line: &Values) {
    for d in registry().all() {
        let over = command_line.get(d.id);
        if over.source == Source::CommandLine {
            values.set(d.id, over.value.clone(), Source::CommandLine);
        }
    }
    for (name, value) in command_line.customs() {
        values.set_custom(name, value);
    }
}

fn compute_paths(values: &mut Values, options: &LoadOptions, config: &Path) {
    let shown = |p: &Path| Value::text(&p.display().to_string());
    let r = registry();
    values.set(
        r.id("data_directory"),
        shown(&options.data_directory),
        Source::Override,
    );
    values.set(r.id("config_file"), shown(config), Source::Override);
    for (name, usual) in [("hba_file", "pg_hba.conf"), ("ident_file", "pg_ident.conf")] {
        let given = values.text(name);
        // A relative path starts where the server was started, as in PostgreSQL.
        let path = if given.is_empty() {
            options.data_directory.join(usual)
        } else {
            std::path::absolute(given.as_ref()).unwrap_or_else(|_| PathBuf::from(given.as_ref()))
        };
        let source = match values.get(r.id(name)).source.clone() {
            Source::Default => Source::Override,
            given => given,
        };
        values.set(r.id(name), shown(&path), source);
    }
}

/// `data_directory` may only say what `-D` says.
fn other_directory(values: &Values, options: &LoadOptions) -> Option<Complaint> {
    let given = values.text("data_directory");
    if given.is_empty() {
        return None;
    }
    match std::fs::canonicalize(given.as_ref()) {
        Ok(path) if path == options.data_directory => None,
        Ok(_) => Some(Complaint {
            hint: Some("The configuration files lie in the data directory here.".to_owned()),
            ..Complaint::new(format!(
                "data directory \"{given}\" is not the one that holds the configuration"
            ))
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Some(Complaint::new(format!(
            "data directory \"{given}\" does not exist"
        ))),
        Err(e) => Some(Complaint::new(format!(
            "could not read permissions of directory \"{given}\": {}",
            os_message(&e)
        ))),
    }
}

/// Settings that contradict each other, and lists that are none.
fn inconsistencies(v: &Values) -> Vec<Complaint> {
    let mut out = Vec::new();
    let (reserved, most) = (
        v.integer("superuser_reserved_connections"),
        v.integer("max_connections"),
    );
    if reserved >= most {
        out.push(Complaint::new(format!(
            "superuser_reserved_connections ({reserved}) must be less than max_connections ({most})"
        )));
    }
    if checks::split_identifiers(&v.text("listen_addresses")).is_none() {
        out.push(Complaint::new(
            "invalid list syntax in parameter \"listen_addresses\"",
        ));
    }
    if v.choice("wal_level") == "minimal" {
        if v.choice("archive_mode") != "off" {
            out.push(Complaint::new(
                "WAL archival cannot be enabled when wal_level is \"minimal\"",
            ));
        }
        if v.integer("max_wal_senders") > 0 {
            out.push(Complaint::new(
                "WAL streaming (max_wal_senders > 0) requires wal_level \"replica\" or \"logical\"",
            ));
        }
    }
    let managed = !v.text("understudy.promise_file").is_empty();
    if managed && !v.text("synchronous_standby_names").is_empty() {
        out.push(Complaint {
            hint: Some("The operator's in-sync set decides; remove the setting.".to_owned()),
            ..Complaint::new("synchronous_standby_names cannot be set in a managed instance")
        });
    }
    out
}

/// Settings that somebody set although they do nothing here.
fn without_effect(v: &Values) -> Vec<Complaint> {
    registry()
        .all()
        .iter()
        .filter(|d| d.standing == Standing::Ignored)
        .filter(|d| {
            let now = v.get(d.id);
            now.source != Source::Default && now.value != d.default
        })
        .map(|d| {
            Complaint::new(format!(
                "parameter \"{}\" is accepted but has no effect here",
                d.name
            ))
        })
        .collect()
}

/// Finds what changed, puts back what must not, and says both.
fn compare(before: &Values, values: &mut Values, entries: &[Entry], report: &mut Report) {
    let managed = !before.text("understudy.promise_file").is_empty();
    for d in registry().all() {
        let old = before.get(d.id).clone();
        let new = values.get(d.id);
        let is_removed =
            matches!(old.source, Source::ConfigurationFile { .. }) && new.source == Source::Default;
        let may_change = !matches!(d.context, Context::Postmaster | Context::Internal);
        if old.value == new.value && !(is_removed && may_change) {
            continue;
        }
        let refused = managed && d.name == "synchronous_standby_names";
        if d.context == Context::Postmaster || refused {
            report.errors.push(Complaint::new(if refused {
                "synchronous_standby_names cannot be set in a managed instance".to_owned()
            } else {
                format!(
                    "parameter \"{}\" cannot be changed without restarting the server",
                    d.name
                )
            }));
            values.set(d.id, old.value, old.source);
            if d.context == Context::Postmaster {
                values.note_pending(d.id);
            }
        } else if d.context != Context::Internal {
            let name = d.name;
            if is_removed || new.source == Source::Default {
                report.removed.push(format!(
                    "parameter \"{name}\" removed from configuration file, reset to default"
                ));
                continue;
            }
            // As it stands in the file.
            let written = entries
                .iter()
                .rfind(|e| registry().find_id(&e.name) == Some(d.id))
                .map_or_else(|| d.raw(&new.value), |e| e.value.clone());
            let change = format!("parameter \"{name}\" changed to \"{written}\"");
            report.changes.push(change);
        }
    }
}
