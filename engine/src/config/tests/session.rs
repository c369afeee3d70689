//! What a session sets, for itself and for a transaction.

use super::*;

fn session() -> SessionStore {
    SessionStore::new(std::sync::Arc::new(ServerSettings::defaults(
        PathBuf::from("/d"),
    )))
}

const ME: Asker = Asker::Session { superuser: false };

fn shown(s: &SessionStore, name: &str) -> String {
    s.show(name, true).expect("known").1
}

#[test]
fn a_hash_table_may_have_more_than_a_sort() {
    let mut s = session();
    s.set("work_mem", "1MB", false, ME).expect("may");
    assert_eq!(s.settings().hash_mem(), 2 << 20);
    s.set("hash_mem_multiplier", "3.5", false, ME).expect("may");
    assert_eq!(s.settings().hash_mem(), 7 << 19);
}

#[test]
fn set_local_and_rollback() {
    let mut s = session();
    s.set("work_mem", "1MB", false, ME).expect("may");
    s.begin_level();
    s.set("work_mem", "2MB", true, ME).expect("may");
    s.set("lock_timeout", "5", false, ME).expect("may");
    assert_eq!(
        (shown(&s, "work_mem"), s.settings().work_mem),
        ("2MB".to_owned(), 2 << 20)
    );
    s.begin_level();
    s.set("work_mem", "3MB", false, ME).expect("may");
    s.set("application_name", "sub", false, ME).expect("may");
    s.abort_level();
    assert_eq!(
        (shown(&s, "work_mem"), shown(&s, "application_name")),
        ("2MB".to_owned(), String::new())
    );
    s.commit_level();
    assert_eq!(
        (shown(&s, "work_mem"), shown(&s, "lock_timeout")),
        ("1MB".to_owned(), "5ms".to_owned())
    );
    s.begin_level();
    s.set("lock_timeout", "6", false, ME).expect("may");
    s.reset("work_mem", false, ME).expect("may");
    s.abort_level();
    assert_eq!(
        (
            shown(&s, "work_mem"),
            s.settings().lock_timeout.map(|d| d.as_millis())
        ),
        ("1MB".to_owned(), Some(5))
    );
    s.reset_all();
    assert_eq!(
        (shown(&s, "work_mem"), shown(&s, "lock_timeout")),
        ("4MB".to_owned(), "0".to_owned())
    );
}

#[test]
fn who_may_set_what() {
    let mut s = session();
    let mut error = |name: &str, asker| s.set(name, "1", false, asker).expect_err(name).message;
    assert_eq!(
        error("block_size", ME),
        "parameter \"block_size\" cannot be changed"
    );
    assert_eq!(
        error("port", ME),
        "parameter \"port\" cannot be changed without restarting the server"
    );
    assert_eq!(
        error("checkpoint_timeout", ME),
        "parameter \"checkpoint_timeout\" cannot be changed now"
    );
    assert_eq!(
        error("log_connections", ME),
        "parameter \"log_connections\" cannot be set after connection start"
    );
    assert_eq!(
        error("log_duration", ME),
        "permission denied to set parameter \"log_duration\""
    );
    assert_eq!(
        error("nonsense", ME),
        "unrecognized configuration parameter \"nonsense\""
    );
    assert_eq!(
        error("understudy.nonsense", ME),
        "invalid configuration parameter name \"understudy.nonsense\""
    );
    assert_eq!(
        error("a.1b", ME),
        "invalid configuration parameter name \"a.1b\""
    );
    s.set("my.setting", "x", false, ME).expect("custom");
    assert_eq!(shown(&s, "my.setting"), "x");
    s.set(
        "log_duration",
        "on",
        false,
        Asker::Session { superuser: true },
    )
    .expect("a superuser");
    assert!(s.show("config_file", false).is_err());
    s.set("datestyle", "dmy", false, ME).expect("may");
    s.set("datestyle", "sql", false, ME).expect("may");
    assert_eq!(
        shown(&s, "DateStyle"),
        "SQL, DMY",
        "the half that was not named stays"
    );
}

#[test]
fn start_up_options_are_what_reset_goes_back_to() {
    let mut s = session();
    s.set(
        "work_mem",
        "8MB",
        false,
        Asker::Startup { superuser: false },
    )
    .expect("may");
    s.set("work_mem", "9MB", false, ME).expect("may");
    s.reset("work_mem", false, ME).expect("may");
    assert_eq!(shown(&s, "work_mem"), "8MB");
}
