//! Settings, files and strings against what PostgreSQL 15 says.

mod session;

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::auto_conf::{self, Change};
use super::checks::{self, CheckCx, SyncMethod, SyncStandbyNames};
use super::conf_file::{self, ConfFile};
use super::conninfo::ConnInfo;
use super::error::ConfigError;
use super::recovery_conf::RecoveryMode;
use super::registry::registry;
use super::session::{Asker, SessionStore};
use super::store::{LoadOptions, Settings};
use super::{ServerSettings, Value};

/// What SHOW gives after SET, or the error with its hint.
fn set(name: &str, text: &str) -> Result<String, String> {
    let d = registry().find(name).expect("a known name");
    checks::parse(d, text, &CheckCx::default())
        .map(|v| d.show(&v))
        .map_err(|e| match e.hint {
            Some(hint) => format!("{} | {hint}", e.message),
            None => e.message,
        })
}

/// Each line was tried on PostgreSQL 15.18.
#[test]
fn values_and_messages_are_postgresql_s() {
    let ok = |name, text, shown: &str| {
        assert_eq!(set(name, text), Ok(shown.to_owned()), "{name} = {text}")
    };
    ok("work_mem", "4096", "4MB");
    ok("work_mem", "1GB", "1GB");
    ok("work_mem", "1.5MB", "1536kB");
    ok("work_mem", " 64 kB ", "64kB");
    ok("work_mem", "0x40", "64kB");
    ok("shared_buffers", "128MB", "128MB");
    ok("shared_buffers", "17", "136kB");
    ok("checkpoint_timeout", "300", "5min");
    ok("checkpoint_timeout", "1h", "1h");
    ok("statement_timeout", "1500ms", "1500ms");
    ok("statement_timeout", "0.5s", "500ms");
    ok("statement_timeout", "0", "0");
    ok("deadlock_timeout", "60000", "1min");
    ok("max_wal_size", "1GB", "1GB");
    ok("max_wal_size", "1025", "1025MB");
    ok("wal_segment_size", "16777216", "16MB");
    ok("log_rotation_age", "1440", "1d");
    ok("max_connections", "0144", "100");
    ok("unix_socket_permissions", "0770", "0770");
    ok("seq_page_cost", "1e-2", "0.01");
    ok("cursor_tuple_fraction", "0.1", "0.1");
    ok("vacuum_cost_delay", "2ms", "2ms");
    ok("vacuum_cost_delay", "500us", "500us");
    ok("enable_seqscan", "f", "off");
    ok("enable_seqscan", "TR", "on");
    ok("synchronous_commit", "TRUE", "on");
    ok("synchronous_commit", "Remote_Apply", "remote_apply");
    ok("wal_level", "hot_standby", "replica");
    ok("client_min_messages", "debug", "debug2");
    ok("DateStyle", "german", "German, DMY");
    ok("DateStyle", "sql, dmy", "SQL, DMY");
    ok("DateStyle", "dmy", "ISO, DMY");
    ok("TimeZone", "europe/berlin", "Europe/Berlin");
    ok("TimeZone", "-8", "<-08>+08");
    ok("TimeZone", "UTC", "UTC");
    ok("client_encoding", "utf-8", "UTF8");
    ok("search_path", "\"$user\", public", "\"$user\", public");
    ok("max_slot_wal_keep_size", "-1", "-1");

    let bad = |name, text, error: &str| {
        assert_eq!(set(name, text), Err(error.to_owned()), "{name} = {text}")
    };
    bad(
        "work_mem",
        "1",
        "1 kB is outside the valid range for parameter \"work_mem\" (64 .. 2147483647)",
    );
    bad(
        "work_mem",
        "4XB",
        "invalid value for parameter \"work_mem\": \"4XB\" | Valid units for this parameter are \"B\", \"kB\", \"MB\", \"GB\", and \"TB\".",
    );
    bad(
        "statement_timeout",
        "5 lightyears",
        "invalid value for parameter \"statement_timeout\": \"5 lightyears\" | Valid units for this parameter are \"us\", \"ms\", \"s\", \"min\", \"h\", and \"d\".",
    );
    bad(
        "work_mem",
        "9999TB",
        "invalid value for parameter \"work_mem\": \"9999TB\" | Value exceeds integer range.",
    );
    bad(
        "port",
        "abc",
        "invalid value for parameter \"port\": \"abc\"",
    );
    bad(
        "port",
        "70000",
        "70000 is outside the valid range for parameter \"port\" (1 .. 65535)",
    );
    bad(
        "port",
        "5432kB",
        "invalid value for parameter \"port\": \"5432kB\"",
    );
    bad(
        "max_connections",
        "089",
        "invalid value for parameter \"max_connections\": \"089\"",
    );
    bad(
        "seq_page_cost",
        "-1",
        "-1 is outside the valid range for parameter \"seq_page_cost\" (0 .. 1.79769e+308)",
    );
    bad(
        "enable_seqscan",
        "o",
        "parameter \"enable_seqscan\" requires a Boolean value",
    );
    bad(
        "enable_seqscan",
        "",
        "parameter \"enable_seqscan\" requires a Boolean value",
    );
    bad(
        "synchronous_commit",
        "x",
        "invalid value for parameter \"synchronous_commit\": \"x\" | Available values: local, remote_write, remote_apply, on, off.",
    );
    bad(
        "DateStyle",
        "iso, sql",
        "invalid value for parameter \"DateStyle\": \"iso, sql\"",
    );
    bad(
        "TimeZone",
        "Nowhere/At_All",
        "invalid value for parameter \"TimeZone\": \"Nowhere/At_All\"",
    );
    bad(
        "search_path",
        "a,,b",
        "invalid value for parameter \"search_path\": \"a,,b\"",
    );
}

#[test]
fn what_is_not_implemented_is_refused_and_says_what_is_there() {
    let d = registry().find("wal_level").expect("known");
    let e = d
        .parse("logical")
        .expect_err("logical decoding is not there");
    assert_eq!(e.state, "0A000");
    assert_eq!(
        e.hint.as_deref(),
        Some("Available values: minimal, replica.")
    );
    for (name, text) in [
        ("ssl_passphrase_command", "cat"),
        ("ssl_crl_dir", "crls"),
        ("ssl_ciphers", "RC4"),
        ("default_transaction_isolation", "serializable"),
        ("password_encryption", "md5"),
        ("client_encoding", "latin1"),
        ("shared_preload_libraries", "x"),
    ] {
        let d = registry().find(name).expect("known");
        let e = checks::parse(d, text, &CheckCx::default()).expect_err(name);
        assert_eq!(e.state, "0A000", "{name}");
    }
}

/// Every default is a value that the setting itself takes, and SHOW's text reads back.
#[test]
fn defaults_are_valid() {
    for d in registry().all() {
        let shown = d.show(&d.default);
        let read = checks::parse(d, &shown, &CheckCx::default())
            .unwrap_or_else(|e| panic!("{} = {shown}: {e}", d.name));
        assert_eq!(read, d.default, "{}", d.name);
        assert!(!d.description.is_empty(), "{}", d.name);
    }
}

fn pairs(text: &str) -> Vec<(String, String)> {
    let f = ConfFile::parse(text, Path::new("/d/postgresql.conf"));
    assert!(f.errors.is_empty(), "{:?}", f.errors);
    f.entries.into_iter().map(|e| (e.name, e.value)).collect()
}

#[test]
fn the_file_s_grammar() {
    let text = "# c\n a = 1\nb 'it''s' # c\nc=''\n\n x.y = on\r\nd = 16MB\ne = 0.9\nf = ../x/y\n";
    let text = &text.replace("../x", "x");
    let expected = [
        ("a", "1"),
        ("b", "it's"),
        ("c", ""),
        ("x.y", "on"),
        ("d", "16MB"),
        ("e", "0.9"),
        ("f", "x/y"),
    ];
    assert_eq!(
        pairs(text),
        expected.map(|(n, v)| (n.to_owned(), v.to_owned()))
    );
    assert_eq!(pairs("a = 'x\\ty\\101\\\\'")[0].1, "x\tyA\\");
    for (line, near) in [
        ("a =", "near end of line"),
        ("a = b c", "near token \"c\""),
        ("= b", "near token \"=\""),
        ("a = 'open", "near token \"'\""),
        ("1 = 2", "near token \"1\""),
        ("a == b", "near token \"=\""),
        ("a = *", "near token \"*\""),
    ] {
        let f = ConfFile::parse(line, Path::new("/d/p.conf"));
        assert_eq!(f.errors.len(), 1, "{line}");
        assert_eq!(
            f.errors[0].message,
            format!("syntax error in file \"/d/p.conf\" line 1, {near}")
        );
    }
}

struct Directory(tempfile::TempDir);

impl Directory {
    fn new(conf: &str) -> Directory {
        let d = tempfile::tempdir().expect("a temporary directory");
        let d = Directory(d);
        d.write("postgresql.conf", conf);
        d
    }
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).expect("writable");
    }
    fn load(&self, command_line: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let command_line = command_line
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        let options = LoadOptions {
            data_directory: self.0.path().to_owned(),
            command_line,
        };
        Settings::load(options).map(|(s, _)| s)
    }
    fn refused(&self) -> (Vec<String>, String) {
        match self.load(&[]) {
            Err(ConfigError::Refused { complaints, fatal }) => {
                (complaints.into_iter().map(|c| c.message).collect(), fatal)
            }
            Err(other) => panic!("another error: {other}"),
            Ok(_) => panic!("it was accepted"),
        }
    }
}

#[test]
fn includes_auto_conf_and_the_command_line_rank_as_they_should() {
    let d = Directory::new(
        "port = 1001\nwork_mem = 1MB\ninclude 'more.conf'\ninclude_if_exists = 'no.conf'\ninclude_dir 'conf.d'\n",
    );
    d.write("more.conf", "work_mem = 2MB\nmy.own = 'x'\n");
    std::fs::create_dir(d.0.path().join("conf.d")).expect("writable");
    d.write("conf.d/b.conf", "lock_timeout = 2\n");
    d.write("conf.d/a.conf", "lock_timeout = 1\n");
    d.write("conf.d/.hidden.conf", "nonsense\n");
    d.write("postgresql.auto.conf", "deadlock_timeout = '2s'\n");
    let s = d.load(&[("port", "2002")]).expect("valid");
    let now = s.current();
    assert_eq!(now.port, 2002);
    assert_eq!(now.values.integer("work_mem"), 2048);
    assert_eq!(now.values.integer("lock_timeout"), 2);
    assert_eq!(now.deadlock_timeout.as_secs(), 2);
    assert_eq!(
        now.values.custom("MY.OWN").map(|v| v.to_string()),
        Some("x".to_owned())
    );
}

#[test]
fn a_start_with_wrong_settings_is_refused_with_file_and_line() {
    // Values are looked at only where every name is known.
    let d = Directory::new("foo = 1\nport = abc\nwork_mem = 4MB\n");
    let path = d.0.path().join("postgresql.conf").display().to_string();
    let contains = format!("configuration file \"{path}\" contains errors");
    assert_eq!(
        d.refused(),
        (
            vec![format!(
                "unrecognized configuration parameter \"foo\" in file \"{path}\" line 1"
            )],
            contains
        )
    );
    let d = Directory::new("port = abc\nwork_mem = 4MB\n");
    assert_eq!(
        d.refused().0,
        ["invalid value for parameter \"port\": \"abc\""]
    );
    let d = Directory::new("include 'missing.conf'\n");
    assert!(d.refused().0[0].starts_with("could not open configuration file \""));
    let d = Directory::new("include 'postgresql.conf'\n");
    assert!(d.refused().0[0].starts_with("configuration file recursion in"));
    let d = Directory::new("superuser_reserved_connections = 5\nmax_connections = 5\n");
    assert_eq!(
        d.refused().1,
        "superuser_reserved_connections (5) must be less than max_connections (5)"
    );
    let d = Directory::new("wal_level = minimal\n");
    assert_eq!(
        d.refused().1,
        "WAL streaming (max_wal_senders > 0) requires wal_level \"replica\" or \"logical\""
    );
    let d = Directory::new("understudy.promise_file = 'p'\nsynchronous_standby_names = '*'\n");
    assert_eq!(
        d.refused().1,
        "synchronous_standby_names cannot be set in a managed instance"
    );
    let d = Directory::new("");
    assert!(
        matches!(d.load(&[("nonsense", "1")]), Err(ConfigError::Refused { fatal, .. }) if fatal == "unrecognized configuration parameter \"nonsense\"")
    );
    std::fs::remove_file(d.0.path().join("postgresql.conf")).expect("it is there");
    assert!(matches!(
        d.load(&[]),
        Err(ConfigError::NoConfigurationFile { .. })
    ));
}

#[test]
fn a_reload_takes_what_it_may() {
    let d = Directory::new("port = 1001\nwork_mem = 1MB\ncheckpoint_timeout = 10min\n");
    let s = d.load(&[]).expect("valid");
    s.compute("data_checksums", Value::Bool(false));
    d.write("postgresql.conf", "port = 1002\nwork_mem = 2MB\n");
    let r = s.reload();
    let path = d.0.path().join("postgresql.conf").display().to_string();
    assert_eq!(
        r.errors[0].message,
        "parameter \"port\" cannot be changed without restarting the server"
    );
    assert_eq!(
        r.removed,
        ["parameter \"checkpoint_timeout\" removed from configuration file, reset to default"]
    );
    assert_eq!(r.changes, ["parameter \"work_mem\" changed to \"2MB\""]);
    let waits = |s: &Settings, name| s.current().values.is_pending(registry().id(name));
    assert!(waits(&s, "port") && !waits(&s, "work_mem"));
    s.compute("data_checksums", Value::Bool(false));
    assert!(waits(&s, "port"), "a computed value changes nothing of it");
    assert_eq!(
        r.summary,
        Some(format!(
            "configuration file \"{path}\" contains errors; unaffected changes were applied"
        ))
    );
    let now = s.current();
    assert_eq!((now.port, now.values.integer("work_mem")), (1001, 2048));
    assert!(!now.values.bool("data_checksums"));
    d.write("postgresql.conf", "port = 1001\nwork_mem = x\n");
    let r = s.reload();
    assert_eq!(r.errors.len(), 1);
    assert_eq!(
        s.current().values.integer("work_mem"),
        2048,
        "the old value stays"
    );
    d.write("postgresql.conf", "port = 1001 x\n");
    let r = s.reload();
    assert!(
        r.summary
            .expect("refused")
            .ends_with("no changes were applied")
    );
}

#[test]
fn recovery_conf_and_signal_files() {
    let d = Directory::new("primary_conninfo = 'host=old'\n");
    assert_eq!(
        d.load(&[]).expect("valid").recovery_request().mode,
        RecoveryMode::None
    );
    d.write("recovery.conf", "standby_mode = 'on'\nprimary_conninfo = 'host=10.0.2.41 port=5432 user=snaga'\ntrigger_file = '/tmp/t'\nrestore_command = 'cp /a/%f \"%p\"'\n");
    let s = d.load(&[]).expect("valid");
    assert_eq!(s.recovery_request().mode, RecoveryMode::Standby);
    let now = s.current();
    assert_eq!(now.promote_trigger_file, Some(PathBuf::from("/tmp/t")));
    assert_eq!(now.restore_command.as_deref(), Some("cp /a/%f \"%p\""));
    assert_eq!(
        now.primary_conninfo.as_ref().and_then(ConnInfo::user),
        Some("snaga")
    );
    assert!(s.reload().errors.is_empty());
    d.write("standby.signal", "");
    assert!(d.refused().1.contains("cannot be used together"));
    std::fs::remove_file(d.0.path().join("recovery.conf")).expect("it is there");
    assert_eq!(
        d.load(&[]).expect("valid").recovery_request().mode,
        RecoveryMode::Standby
    );
    std::fs::remove_file(d.0.path().join("standby.signal")).expect("it is there");
    d.write("recovery.conf", "nonsense = 1\n");
    assert_eq!(
        d.refused().1,
        "unrecognized recovery parameter \"nonsense\""
    );
    let lacking = "must specify restore_command when standby mode is not enabled";
    d.write("recovery.conf", "standby_mode = off\n");
    assert!(d.refused().1.ends_with(lacking));
    d.write(
        "recovery.conf",
        "restore_command = 'cp /a/%f %p'\nrestore_command = ''\n",
    );
    assert!(d.refused().1.ends_with(lacking), "the last one counts");
    d.write(
        "recovery.conf",
        "restore_command = 'cp /a/%f %p'\nrecovery_target_action = 'promote'\n",
    );
    let s = d.load(&[]).expect("valid");
    assert_eq!(s.recovery_request().mode, RecoveryMode::Archive);
    std::fs::remove_file(d.0.path().join("recovery.conf")).expect("it is there");
    d.write("recovery.signal", "");
    assert_eq!(d.refused().1, lacking);
    let s = d.load(&[("restore_command", "cp /a/%f %p")]);
    let s = s.expect("valid");
    assert_eq!(s.recovery_request().mode, RecoveryMode::Archive);
}

#[test]
fn names_of_postgresql_9_0() {
    let d = Directory::new(
        "wal_level = hot_standby\nwal_keep_segments = 32\ncheckpoint_segments = 10\nunix_socket_directory = '/s'\n",
    );
    let now = d.load(&[]).expect("valid").current();
    assert_eq!(now.wal_keep_size, 512 << 20);
    assert_eq!(now.max_wal_size, 480 << 20);
    assert_eq!(now.unix_socket_directories, [PathBuf::from("/s")]);
}

#[test]
fn alter_system_keeps_what_it_does_not_touch() {
    let one = auto_conf::changed(
        "",
        &Change::Set {
            name: "work_mem",
            value: "it's",
        },
    )
    .expect("valid");
    let two = auto_conf::changed(
        &one,
        &Change::Set {
            name: "port",
            value: "1",
        },
    )
    .expect("valid");
    assert_eq!(
        two,
        "# Do not edit this file manually!\n# It will be overwritten by the ALTER SYSTEM command.\nwork_mem = 'it''s'\nport = '1'\n"
    );
    let three = auto_conf::changed(&two, &Change::Reset { name: "WORK_MEM" }).expect("valid");
    assert_eq!(pairs(&three), [("port".to_owned(), "1".to_owned())]);
    assert!(pairs(&auto_conf::changed(&two, &Change::ResetAll).expect("valid")).is_empty());
    assert!(auto_conf::changed("a b c", &Change::ResetAll).is_err());
}

/// What ALTER SYSTEM takes, the next start must read; PostgreSQL 15 gave these messages, but for what only we have.
#[test]
fn alter_system_takes_nothing_that_the_next_start_would_refuse() {
    let set = |name: &str, value: &str| -> Result<String, String> {
        let d = auto_conf::named(name).map_err(|e| e.message)?;
        auto_conf::checked(d, name, value).map_err(|e| e.message)
    };
    for (name, value, error) in [
        (
            "max_connections",
            "many",
            "invalid value for parameter \"max_connections\": \"many\"",
        ),
        (
            "port",
            "0",
            "0 is outside the valid range for parameter \"port\" (1 .. 65535)",
        ),
        (
            "cluster_name",
            "two\nlines",
            "parameter value for ALTER SYSTEM must not contain a newline",
        ),
        (
            "nonsense",
            "1",
            "unrecognized configuration parameter \"nonsense\"",
        ),
        (
            "understudy.nonsense",
            "1",
            "invalid configuration parameter name \"understudy.nonsense\"",
        ),
        (
            "my.name with spaces",
            "1",
            "invalid configuration parameter name \"my.name with spaces\"",
        ),
        // A session may have these; a file's grammar has not.
        (
            "my.own$",
            "1",
            "invalid configuration parameter name \"my.own$\"",
        ),
        (
            "my.own.one",
            "1",
            "invalid configuration parameter name \"my.own.one\"",
        ),
        (
            "transaction_isolation",
            "read committed",
            "parameter \"transaction_isolation\" cannot be changed",
        ),
        ("role", "x", "parameter \"role\" cannot be changed"),
        (
            "understudy.disk_full",
            "off",
            "parameter \"understudy.disk_full\" cannot be changed",
        ),
        (
            "block_size",
            "8192",
            "parameter \"block_size\" cannot be changed",
        ),
        (
            "config_file",
            "x",
            "parameter \"config_file\" cannot be changed",
        ),
        (
            "http_listen",
            "somewhere",
            "invalid value for parameter \"http_listen\": \"somewhere\"",
        ),
        (
            "http_listen",
            "[::]:99999",
            "invalid value for parameter \"http_listen\": \"[::]:99999\"",
        ),
    ] {
        assert_eq!(set(name, value), Err(error.to_owned()), "{name} = {value}");
    }
    assert_eq!(set("hba_file", "other.conf"), Ok("other.conf".to_owned()));
    // An old name's number counts segments of 16 MB.
    assert_eq!(set("wal_keep_segments", "32"), Ok("512MB".to_owned()));
    for place in ["", "8008", "*:8008", "[::1]:8008", "localhost:0"] {
        assert_eq!(set("http_listen", place), Ok(place.to_owned()));
    }
    let d = Directory::new("wal_keep_segments = 7\n");
    let mut text = String::new();
    for (name, value) in [
        ("cluster_name", "it's a \\ and a \"b\""),
        ("log_line_prefix", "%m\ttab\r "),
        ("my.own", "'"),
        ("wal_keep_segments", "32"),
    ] {
        let known = auto_conf::named(name).expect(name);
        let value = auto_conf::checked(known, name, value).expect(name);
        let name = known.map_or(name, |d| d.name);
        let change = Change::Set {
            name,
            value: &value,
        };
        text = auto_conf::changed(&text, &change).expect(name);
    }
    d.write(auto_conf::FILE_NAME, &text);
    let now = d.load(&[]).expect("it starts").current();
    assert_eq!(now.cluster_name.as_ref(), "it's a \\ and a \"b\"");
    assert_eq!(now.values.text("log_line_prefix").as_ref(), "%m\ttab\r ");
    assert_eq!(now.values.custom("my.own").map(|v| v.as_ref()), Some("'"));
    assert_eq!(now.wal_keep_size, 512 << 20);
    // A line under an old name is the same setting's.
    let old = "wal_keep_segments = '7'\n";
    let name = "wal_keep_size";
    let reset = auto_conf::changed(old, &Change::Reset { name }).expect("valid");
    assert!(pairs(&reset).is_empty(), "{reset}");
}

#[test]
fn connection_strings() {
    let c = ConnInfo::parse(
        "host=a,b port=1,2 user = 'o\\'neill' password='p w' application_name=x sslmode=prefer",
    )
    .expect("valid");
    assert_eq!(
        (c.user(), c.password(), c.application_name()),
        (Some("o'neill"), Some("p w"), Some("x"))
    );
    let ends: Vec<_> = c
        .endpoints()
        .expect("valid")
        .into_iter()
        .map(|e| (e.host, e.port))
        .collect();
    assert_eq!(ends, [("a".to_owned(), 1), ("b".to_owned(), 2)]);
    assert!(!c.without_password().contains("p w"));
    use super::conninfo::{ChannelBinding, SslMode};
    assert_eq!(c.ssl_mode(), Ok(SslMode::Prefer));
    let verified =
        ConnInfo::parse("hostaddr=127.0.0.1 sslmode=verify-full channel_binding=require")
            .expect("valid");
    assert_eq!(verified.ssl_mode(), Ok(SslMode::VerifyFull));
    assert_eq!(verified.channel_binding(), Ok(ChannelBinding::Require));
    assert!(!verified.endpoints().expect("valid")[0].is_named);
    let wrong = ConnInfo::parse("sslmode=sometimes channel_binding=perhaps").expect("valid");
    assert_eq!(
        wrong.ssl_mode().expect_err("no such mode").to_string(),
        "invalid sslmode value: \"sometimes\""
    );
    assert_eq!(
        wrong.channel_binding().expect_err("no such").to_string(),
        "invalid channel_binding value: \"perhaps\""
    );
    let u = ConnInfo::parse(
        "postgresql://me:p%40@[::1]:5433,h/db?application_name=a%20b&connect_timeout=1",
    )
    .expect("valid");
    assert_eq!(
        (u.user(), u.password(), u.dbname()),
        (Some("me"), Some("p@"), Some("db"))
    );
    assert_eq!(u.get("host"), Some("::1,h"));
    assert_eq!(u.connect_timeout(), Ok(Some(2)));
    // What `pg_basebackup -R` of PostgreSQL 15 writes.
    let r = ConnInfo::parse("user=postgres passfile='/home/me/.pgpass' channel_binding=prefer host=127.0.0.1 port=5432 sslmode=prefer sslcompression=0 sslsni=1 ssl_min_protocol_version=TLSv1.2 gssencmode=prefer krbsrvname=postgres target_session_attrs=any").expect("valid");
    assert_eq!(r.get("channel_binding"), Some("prefer"));
    for (bad, message) in [
        (
            "host",
            "missing \"=\" after \"host\" in connection info string",
        ),
        (
            "host='a",
            "unterminated quoted string in connection info string",
        ),
        ("hots=a", "invalid connection option \"hots\""),
        (
            "port=x",
            "invalid integer value \"x\" for connection option \"port\"",
        ),
        (
            "postgresql://h?hots=a",
            "invalid URI query parameter: \"hots\"",
        ),
        (
            "postgresql://h/%zz",
            "invalid percent-encoded token: \"%zz\"",
        ),
    ] {
        assert_eq!(ConnInfo::parse(bad).expect_err(bad).to_string(), message);
    }
}

#[test]
fn synchronous_standby_names() {
    let parse = |s: &str| SyncStandbyNames::parse(s).map_err(|e| e.detail.unwrap_or_default());
    let names = |n: &[&str]| n.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    assert_eq!(parse("").expect("none").required, 0);
    assert_eq!(
        parse("a, \"B c\"").expect("a list"),
        SyncStandbyNames {
            method: SyncMethod::First,
            required: 1,
            names: names(&["a", "B c"])
        }
    );
    assert_eq!(
        parse("ANY 2 (s1,s2, *)").expect("quorum"),
        SyncStandbyNames {
            method: SyncMethod::Any,
            required: 2,
            names: names(&["s1", "s2", "*"])
        }
    );
    assert_eq!(parse("2 (x, y)").expect("first").required, 2);
    assert_eq!(parse("FIRST 1 (\"any\")").expect("first").names, ["any"]);
    assert_eq!(parse("2").expect("a name").names, ["2"]);
    for (bad, detail) in [
        ("ANY 2", "syntax error at end of input"),
        ("2 (a", "syntax error at end of input"),
        ("ANY 3 (", "syntax error at end of input"),
        ("a b", "syntax error at or near \"b\""),
        (",", "syntax error at or near \",\""),
        ("a,,b", "syntax error at or near \",\""),
        ("FIRST x (a)", "syntax error at or near \"x\""),
        ("any", "syntax error at end of input"),
        ("FIRST 1 (any)", "syntax error at or near \"any\""),
        ("1 (a) b", "syntax error at or near \"b\""),
        ("1 ()", "syntax error at or near \")\""),
        ("\"a", "unterminated quoted identifier"),
    ] {
        assert_eq!(parse(bad).expect_err(bad), detail, "{bad}");
    }
    assert!(parse("ANY 0 (a)").is_err());
}

proptest! {
    #[test]
    fn a_quoted_value_reads_back(value in "[^\\x00\r]{0,60}") {
        let text = format!("a = {}\n", conf_file::quote(&value));
        prop_assert_eq!(pairs(&text), vec![("a".to_owned(), value)]);
    }

    #[test]
    fn any_file_is_read_or_refused(text in "[a-z0-9 ='\"#.\\\\\n-]{0,200}") {
        let _ = ConfFile::parse(&text, Path::new("/d/p.conf"));
    }

    #[test]
    fn a_connection_string_reads_back(
        user in "[^\\x00]{1,20}",
        password in "[^\\x00]{0,20}",
    ) {
        let mut c = ConnInfo::default();
        c.set("user", &user).expect("known");
        c.set("password", &password).expect("known");
        let again = ConnInfo::parse(&c.to_string()).expect("own form");
        prop_assert_eq!(again, c);
    }

    #[test]
    fn any_connection_string_is_read_or_refused(text in "(postgresql://)?[a-z0-9 ='\\\\%@:/?&\\[\\],]{0,80}") {
        let _ = ConnInfo::parse(&text);
    }

    #[test]
    fn any_number_is_read_or_refused(text in "[-+]?[0-9a-fx.e]{0,12} ?[a-zA-Z]{0,3}") {
        for name in ["work_mem", "statement_timeout", "port", "seq_page_cost", "vacuum_cost_delay"] {
            if let Ok(shown) = set(name, &text) {
                prop_assert_eq!(set(name, &shown), Ok(shown.clone()), "{} = {}", name, text);
            }
        }
    }
}
