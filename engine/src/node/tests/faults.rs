//! A disk that fails (a sync that fails ends the server, a full disk does not), and files that change while a
//! checkpoint runs or a crash comes.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use super::engine::{Engine, bad_pages, initialised};
use super::script::{self, Script};
use crate::ids::{Fork, Oid, PAGE_SIZE, RelFile, Xid};
use crate::io::durable;
use crate::io::sim::{Fault, Operation};
use crate::storage::{ClusterState, ControlFile, StorageError};
use crate::table::files;

/// After a failed sync the system may have forgotten what it could not write, and a second one would succeed.
#[test]
fn a_failed_sync_of_anything_durable_ends_the_server_and_loses_nothing() {
    for path in ["base/", "pg_xact", "pg_wal"] {
        let disk = initialised();
        let engine = Engine::start(&disk).expect("starts");
        let mut client = engine.session();
        let mut script = Script::new(3);
        script.begin(&mut client);
        for _ in 0..20 {
            script.step(&mut client);
        }
        disk.inject(Fault {
            operation: Operation::Sync,
            path_contains: path.to_owned(),
            after: 0,
            error: io::ErrorKind::Other,
            stays: false,
        });
        let _ = engine.checkpoint();
        assert!(
            engine.failed.load(Ordering::SeqCst),
            "{path}: the server goes on"
        );
        client.forget();
        engine.kill(&disk);
        let left = disk.crash();
        let engine = Engine::start(&left).expect("recovers");
        script::check(&engine, &script.ledger.lock().clone(), path);
        engine.stop();
    }
}

#[test]
fn a_full_disk_is_an_error_and_later_work_goes_on() {
    let disk = initialised();
    let engine = Engine::start(&disk).expect("starts");
    let mut client = engine.session();
    let mut script = Script::new(4);
    script.begin(&mut client);
    for _ in 0..10 {
        script.step(&mut client);
    }
    client.sql("CREATE TABLE big (id bigint, t text)");
    disk.set_capacity(Some(disk.used() + (1 << 20)));
    let mut refused = 0;
    for _ in 0..200 {
        let row = "INSERT INTO big SELECT g, repeat('x', 500) FROM generate_series(1, 200) g";
        if let Err(error) = client.try_sql(row) {
            assert_eq!(error.state, "53100", "{}", error.message);
            refused += 1;
        }
        if engine.failed.load(Ordering::SeqCst) || refused > 3 {
            break;
        }
    }
    let crashed = engine.failed.load(Ordering::SeqCst);
    assert!(refused > 0 || crashed, "the disk was never full");
    let disk = if crashed {
        client.forget();
        let left = engine.kill(&disk);
        left.set_capacity(None);
        left
    } else {
        disk.set_capacity(None);
        client.sql("INSERT INTO big VALUES (1, 'there is room again')");
        script.step(&mut client);
        client.close();
        engine.stop();
        disk
    };
    let engine = Engine::start(&disk).expect("starts");
    script::check(&engine, &script.ledger.lock().clone(), "after a full disk");
    engine.stop();
    assert_eq!(bad_pages(&disk), Vec::<String>::new());
}

/// Only a checkpoint frees log, and the last one saves the next start from replay: neither may need room.
#[test]
fn a_checkpoint_and_a_shutdown_need_no_room() {
    let disk = initialised();
    let engine = Engine::start(&disk).expect("starts");
    let mut client = engine.session();
    let mut script = Script::new(9);
    script.begin(&mut client);
    for _ in 0..10 {
        script.step(&mut client);
    }
    client.close();
    let wal = &engine.core.store.wal;
    wal.ensure_space().expect("the next segment is there");
    disk.set_capacity(Some(disk.used()));
    let before = engine.core.store.control.get().checkpoint;
    engine.checkpoint().expect("it needs no room");
    let made = engine.core.store.control.get().checkpoint;
    assert!(made > before, "{made} is no newer than {before}");
    engine.stop();
    let control = ControlFile::open(Arc::new(disk.crash())).expect("readable");
    assert_eq!(control.get().state, ClusterState::ShutDown);
    disk.set_capacity(None);
    let engine = Engine::start(&disk).expect("starts");
    script::check(&engine, &script.ledger.lock().clone(), "on a full disk");
    engine.stop();
}

/// The record of a cut lies below the redo point, and the cut itself comes late: the checkpoint must wait for it,
/// because nobody would ever make it again.
#[test]
fn a_checkpoint_waits_for_the_cut_of_a_file_that_it_covers() {
    let disk = initialised();
    let engine = Engine::start(&disk).expect("starts");
    let mut client = engine.session();
    client.sql("CREATE TABLE c (id bigint, t text)");
    client.sql("INSERT INTO c SELECT g, repeat('x', 500) FROM generate_series(1, 500) g");
    engine.checkpoint().expect("a checkpoint");
    let number = client.sql("SELECT relfilenode FROM pg_class WHERE relname = 'c'");
    let file = RelFile::of_database(Oid::new(5), Oid::new(number[0].parse().expect("a number")));
    let store = Arc::clone(&engine.core.store);
    let (growing, grows) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (checkpoint_done, is_done) = mpsc::channel();
    let early = std::thread::scope(|scope| {
        // Somebody is extending the file and keeps the cut waiting.
        let files = Arc::clone(&store.files);
        scope.spawn(move || {
            let _ = files.extend(file, Fork::Main, |_| {
                growing.send(()).expect("heard");
                may_go_on.recv().expect("said");
                Err::<(), _>(StorageError::NoBuffers)
            });
        });
        grows.recv().expect("it grows");
        let before = store.wal.end_lsn();
        let cutting = Arc::clone(&store);
        scope.spawn(move || files::truncate(&cutting, file, 1).expect("cut"));
        while store.wal.flush_lsn() <= before {
            std::thread::sleep(Duration::from_millis(1));
        }
        let engine = &engine;
        scope.spawn(move || {
            engine.checkpoint().expect("a checkpoint");
            checkpoint_done.send(()).expect("heard");
        });
        let early = is_done.recv_timeout(Duration::from_millis(500));
        go_on.send(()).expect("heard");
        early.is_ok()
    });
    assert!(!early, "the checkpoint did not wait");
    let left = disk.crash();
    let path = file.path(Fork::Main);
    let length = |disk| durable::read(disk, Path::new(&path)).expect("there").len();
    let again = Engine::start(&left).expect("starts");
    assert_eq!(length(&left), PAGE_SIZE, "cut pages came back");
    client.forget();
    engine.kill(&disk);
    again.stop();
}

/// Between the redo point and DROP DATABASE the log speaks of files whose directory is gone when replay begins.
#[test]
fn a_crash_behind_drop_database_is_replayed() {
    let disk = initialised();
    let engine = Engine::start(&disk).expect("starts");
    let mut client = engine.session();
    client.sql("CREATE DATABASE one");
    let oid = client.sql("SELECT oid FROM pg_database WHERE datname = 'one'");
    let database = Oid::new(oid[0].parse().expect("a number"));
    engine.checkpoint().expect("a checkpoint");
    let file = RelFile::of_database(database, Oid::new(90_000));
    files::create_untracked(&engine.core.store, Xid::INVALID, file).expect("made");
    client.sql("DROP DATABASE one");
    client.forget();
    engine.kill(&disk);
    let left = disk.crash();
    let engine = Engine::start(&left).expect("recovers");
    let directory = Path::new("base").join(database.to_string());
    let exists = crate::io::Disk::exists(&left, &directory).expect("asked");
    assert!(!exists, "{} is there again", directory.display());
    engine.stop();
}

/// A server that made files and died before a record of them was durable leaves them behind; their numbers are
/// handed out again.
#[test]
fn files_that_no_record_speaks_of_are_in_nobodys_way() {
    let disk = initialised();
    let engine = Engine::start(&disk).expect("starts");
    let mut client = engine.session();
    client.sql("BEGIN");
    client.sql("CREATE TABLE lost (id bigint PRIMARY KEY, t text)");
    let names = |disk: &crate::io::sim::SimDisk| {
        let all = crate::io::Disk::list(disk, Path::new("base/5")).expect("listed");
        all.len()
    };
    let before = names(&disk);
    client.forget();
    // The files are there, in a machine that goes on, and the log knows nothing of them.
    let left = engine.kill(&disk);
    assert_eq!(names(&left), before);
    let engine = Engine::start(&left).expect("starts");
    let mut client = engine.session();
    for n in 0..5 {
        client.sql(&format!(
            "CREATE TABLE t{n} (id bigint PRIMARY KEY, t text)"
        ));
        client.sql(&format!(
            "INSERT INTO t{n} SELECT g, 'x' FROM generate_series(1, 100) g"
        ));
        assert_eq!(client.sql(&format!("SELECT count(*) FROM t{n}")), ["100"]);
    }
    assert_eq!(engine.damage(), Vec::<String>::new());
    client.close();
    engine.stop();
    assert_eq!(bad_pages(&left), Vec::<String>::new());
}

/// A commit that asked for no flush is in memory only; its outcome is not written before its record.
#[test]
fn no_outcome_is_durable_before_its_record() {
    let disk = initialised();
    let engine = Engine::start(&disk).expect("starts");
    let mut client = engine.session();
    client.sql("CREATE TABLE t (id bigint)");
    client.sql("SET synchronous_commit = off");
    for _ in 0..5 {
        client.sql("INSERT INTO t VALUES (1)");
        let wal = &engine.core.store.wal;
        let committed = wal.end_lsn();
        engine.core.txns.checkpoint().expect("outcomes are written");
        let flushed = wal.flush_lsn();
        assert!(flushed >= committed, "{flushed} is before {committed}");
    }
    client.close();
    engine.stop();
}

/// An abort does not wait for its record, but a checkpoint may write its outcome. If the record is lost, so is the xid,
/// and it is handed out again: nothing may be left of its first outcome.
#[test]
fn an_xid_whose_abort_was_lost_can_be_used_again() {
    let start = initialised();
    let disk = start.freeze().image(|_| true);
    let engine = Engine::start(&disk).expect("starts");
    let mut client = engine.session();
    client.sql("CREATE TABLE t (id bigint)");
    engine.checkpoint().expect("a checkpoint");
    let mut images = Vec::new();
    for _ in 0..5 {
        client.sql("BEGIN");
        client.sql("INSERT INTO t VALUES (1)");
        client.sql("ROLLBACK");
        engine.core.txns.checkpoint().expect("outcomes are written");
        images.push(disk.crash());
    }
    client.close();
    engine.stop();
    for image in images {
        let engine = Engine::start(&image).expect("recovers");
        let mut client = engine.session();
        for _ in 0..10 {
            client.sql("INSERT INTO t VALUES (2)");
        }
        client.forget();
        // And again with the new outcomes only in the log.
        engine.kill(&image);
        let left = image.crash();
        let engine = Engine::start(&left).expect("recovers again");
        let mut client = engine.session();
        assert_eq!(client.sql("SELECT count(*), min(id) FROM t"), ["10|2"]);
        client.close();
        engine.stop();
    }
}

/// Missing outcomes would read as if nothing had ever been committed.
#[test]
fn a_start_without_the_whole_commit_log_is_refused() {
    let disk = initialised();
    for cut in [None, Some(100)] {
        let damaged = disk.freeze().image(|_| true);
        let path = Path::new("pg_xact/0000");
        match cut {
            None => crate::io::Disk::remove_file(&damaged, path).expect("there"),
            Some(len) => {
                let file = crate::io::Disk::open(&damaged, path, crate::io::Access::ReadWrite);
                file.and_then(|f| f.set_len(len)).expect("cut");
            }
        }
        let refused = Engine::start(&damaged).err().expect("refused").to_string();
        assert!(refused.contains("pg_xact/0000"), "{refused}");
    }
}
