//! A disk that fails: a sync that fails ends the server, a full disk does not.

use std::io;
use std::sync::atomic::Ordering;

use super::engine::{Engine, bad_pages, initialised};
use super::script::{self, Script};
use crate::io::sim::{Fault, Operation};

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
