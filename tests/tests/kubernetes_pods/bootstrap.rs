//! `spec.bootstrap`: what fails is told and leaves nothing behind, may be corrected, and runs once, whatever dies meanwhile
//! and whatever the manifest's parameters say for applications.

use std::time::{Duration, Instant};

use operator::api::{BootstrapState, SetRequest, SupervisorState, SupervisorStatus};
use operator::ids::Term;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::pod::Pod;
use crate::world::World;
use crate::{LIMIT, id_of, set};

fn fails_with(parts: &'static [&str]) -> impl Fn(&SupervisorStatus) -> bool {
    move |status| {
        let Some(BootstrapState::Failed { error }) = &status.bootstrap else {
            return false;
        };
        let message = status.message.as_deref().unwrap_or_default();
        parts.iter().all(|part| error.contains(part)) && message.contains(error)
    }
}

pub(crate) fn is_done(status: &SupervisorStatus) -> bool {
    status.bootstrap == Some(BootstrapState::Done)
}

/// What the superuser is answered, or told.
fn superuser(world: &World, pod: &Pod, sql: &str) -> Result<String, String> {
    let password = &world.credentials.superuser_password;
    let output = pod.psql(world, "postgres", password, sql);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

/// As the operator tells it of the primary.
fn told_as_failed(world: &World, is_so: bool) {
    let condition = json!({
        "type": "Ready", "status": "False", "reason": "BootstrapFailed", "message": "",
        "observedGeneration": 1, "lastTransitionTime": "2026-12-01T00:00:00Z",
    });
    let conditions: Vec<Value> = is_so.then_some(condition).into_iter().collect();
    world.record(&json!({ "conditions": conditions }));
}

pub(crate) fn runs_once_what_is_corrected(world: &World, pod: &Pod) {
    // The second text of the manifest names a table that is not there.
    pod.until(
        world,
        "saying what fails",
        fails_with(&["spec.bootstrap.sql[1]", "nowhere"]),
    );
    let gone = superuser(world, pod, "SELECT count(*) FROM item").expect_err("nothing is left");
    assert!(gone.contains("does not exist"), "{gone}");
    told_as_failed(world, true);
    world.change_spec(&json!({"bootstrap": {"sql": ["SELECT 1", "SELECT 2; COMMIT"]}}));
    pod.until(
        world,
        "saying what may not be there",
        fails_with(&["sql[1]: it ends the transaction"]),
    );
    let slow = "SELECT pg_sleep(5)";
    let right = json!([
        "CREATE TABLE item (id integer PRIMARY KEY); INSERT INTO item VALUES (1);",
        slow,
        "INSERT INTO item VALUES (2)",
    ]);
    world.change_spec(&json!({ "bootstrap": { "sql": right } }));
    dies_in_the_middle(world, pod, slow);
    pod.until(world, "prepared after the engine died", is_done);
    told_as_failed(world, false);
    ran_once(world, pod);
    stays_as_it_is(world);
    // Applications are to write from here on.
    world.change_spec(&json!({"parameters": {
        "default_transaction_read_only": null, "statement_timeout": null, "lock_timeout": null,
        "idle_in_transaction_session_timeout": null,
    }}));
    let begin = Instant::now();
    while pod.asks(world, "SHOW default_transaction_read_only") != "off" {
        assert!(begin.elapsed() < LIMIT, "{}", pod.words());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// SIGKILL of the engine while a text of several runs.
fn dies_in_the_middle(world: &World, pod: &Pod, runs: &str) {
    let look = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE query = '{runs}' AND state = 'active'"
    );
    let begin = Instant::now();
    while superuser(world, pod, &look).as_deref() != Ok("1") {
        assert!(begin.elapsed() < LIMIT, "{}", pod.words());
        std::thread::sleep(Duration::from_millis(50));
    }
    let engine = pod.status(world).expect("answered").engine_pid;
    let engine = engine.expect("it runs");
    let pid = i32::try_from(engine).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a pid"), Signal::KILL).expect("killed");
    // It acknowledges alone, so it waits for the record's word.
    let waits = |s: &SupervisorStatus| s.state == SupervisorState::Waiting;
    let waits = pod.until(world, "waiting for a word", waits);
    assert_eq!(waits.bootstrap, None, "nobody is served");
    let word = SetRequest {
        term: Term::FIRST,
        id: id_of(&waits),
        set: set(1, Vec::new()),
    };
    pod.order(world, "/set", &word);
    pod.until(world, "beginning anew", |s| {
        s.engine_pid.is_some_and(|pid| pid != engine)
            && s.bootstrap == Some(BootstrapState::Pending)
    });
}

/// Also after whatever has made the supervisor look again: a second run would fail, or leave a second mark.
pub(crate) fn ran_once(world: &World, pod: &Pod) {
    pod.until(world, "prepared", is_done);
    for (sql, wanted) in [
        (
            "SELECT string_agg(id::text, ',' ORDER BY id) FROM item",
            "1,2",
        ),
        ("SELECT count(*) FROM understudy.bootstrap", "1"),
    ] {
        assert_eq!(superuser(world, pod, sql).as_deref(), Ok(wanted), "{sql}");
    }
}

/// What was run can't change any more, and the API server says why.
fn stays_as_it_is(world: &World) {
    for (change, says) in [
        (
            json!({"sql": ["SELECT 3"]}),
            "it runs once and can change only while",
        ),
        (json!({"sql": null}), "BootstrapFailed"),
        (
            json!({"owner": "another"}),
            "it was read when the cluster was created",
        ),
    ] {
        let output = world.try_change_spec(&json!({ "bootstrap": change }));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains(says),
            "{change}: {said}"
        );
    }
}
