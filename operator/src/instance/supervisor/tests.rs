//! A supervisor without a cluster around it: calls, starts and ends as they follow from the promise on its volume.

use super::*;

pub(in crate::instance) fn supervisor(dir: &std::path::Path) -> Supervisor {
    let config = super::super::InstanceConfig {
        cluster: "orders".to_owned(),
        cluster_id: "c".to_owned(),
        name: "orders-1".to_owned(),
        control_port: 1,
        // Whichever is free.
        port: 0,
        http_port: 0,
        service_port: 4,
        token_file: dir.join("token"),
        engine: dir.join("understudy"),
        seed: crate::decide::Seed::Initdb,
        term: Term::FIRST,
        storage_bytes: 1 << 30,
        parameters: std::collections::BTreeMap::new(),
    };
    let setup = super::super::setup::local(config, dir);
    Supervisor::open(
        Volume::new(dir),
        setup,
        crate::instance::report::nobody_yet(),
    )
    .expect("opened")
}

#[test]
fn what_could_not_be_made_durable_was_not_promised() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut supervisor = supervisor(dir.path());
    let obstacle = dir.path().join("promise.json.tmp");
    std::fs::create_dir(&obstacle).expect("created");
    let seal = |p: &mut Promise| p.sealed = true;
    let refused = supervisor
        .keep_promise(seal)
        .expect_err("it can't be written");
    assert!(refused.to_string().contains("promise.json"), "{refused}");
    assert!(!supervisor.promise.sealed);
    std::fs::remove_dir(&obstacle).expect("removed");
    supervisor.keep_promise(seal).expect("written");
    let kept = supervisor.volume.load_promise().expect("read");
    assert!(supervisor.promise.sealed && kept == Some(supervisor.promise));
}

/// A volume that holds a copy, as far as this process looks.
fn hold_data(supervisor: &Supervisor) {
    let seed = supervisor.volume.seed();
    std::fs::create_dir_all(seed.join("global")).expect("created");
    std::fs::write(seed.join("global/pg_control"), 7_u64.to_le_bytes()).expect("written");
    let id = &supervisor.promise.instance_id;
    supervisor.volume.adopt_seed(id).expect("adopted");
}

/// As it is for a full volume: the process stays and says why, and counts as down.
#[test]
fn what_can_not_be_done_is_told_and_tried_again() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut supervisor = supervisor(dir.path());
    hold_data(&supervisor);
    let obstacle = supervisor.volume.data().join("understudy.conf.tmp");
    std::fs::create_dir(&obstacle).expect("created");
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let error = supervisor.begin().expect_err("it can't be written");
        let now = Instant::now();
        supervisor.stumble(&error);
        let again_at = supervisor.restart_at.expect("it tries again");
        pauses.push(again_at.duration_since(now));
    }
    assert!(pauses[8] > pauses[0] && pauses[8] < Duration::from_secs(20));
    supervisor.publish();
    let status = supervisor.subscribe().borrow().status.clone();
    assert_eq!(status.state, SupervisorState::Restarting);
    assert!(status.down_ms > 0);
    let said = status.message.expect("said");
    assert!(said.contains("understudy.conf"), "{said}");
}

fn set(required: u32) -> crate::api::EngineSet {
    crate::api::EngineSet {
        term: Term::FIRST,
        counter: 1,
        members: vec![InstanceId::random()],
        required,
    }
}

#[test]
fn who_acknowledges_alone_waits_for_the_record_at_every_start() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut supervisor = supervisor(dir.path());
    hold_data(&supervisor);
    for (required, at_first) in [(0, true), (0, false), (1, true)] {
        supervisor.promise.set = Some(set(required));
        supervisor.state = SupervisorState::Restarting;
        supervisor.start_or_wait(at_first).expect("waits");
        assert_eq!(supervisor.state, SupervisorState::Waiting);
        assert!(supervisor.engine.is_none());
    }
}

/// Whoever starts this process again gives it others; in this one the engine never comes up.
#[tokio::test]
async fn a_port_that_was_taken_ends_the_supervisor_whatever_starts_the_engine() {
    use super::super::commands::{Call, Command};
    for is_told in [false, true] {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut supervisor = supervisor(dir.path());
        hold_data(&supervisor);
        let other = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("bound");
        let port = other.local_addr().expect("bound").port();
        supervisor.setup.chosen_ports.push(port);
        // One that acknowledges alone starts when it is told its set.
        supervisor.promise.set = is_told.then(|| set(0));
        let set = supervisor.promise.set.clone();
        let (term, id) = (Term::FIRST, supervisor.promise.instance_id.clone());
        let (commands, orders) = mpsc::channel(1);
        let (reply, answer) = tokio::sync::oneshot::channel();
        if let Some(set) = set {
            let call = Call::Set(crate::api::SetRequest { term, id, set });
            let command = Command { call, reply };
            commands.send(command).await.expect("there is room");
        }
        let ran = supervisor.run(orders, std::future::pending());
        let ended = tokio::time::timeout(Duration::from_secs(60), ran).await;
        let error = ended.expect("it ends").expect_err("it can't go on");
        assert!(is_port_taken(&error), "{error}");
        assert!(error.to_string().contains(&port.to_string()), "{error}");
        if is_told {
            let refusal = answer.await.expect("answered").expect_err("not obeyed");
            assert!(refusal.error.contains("took"), "{}", refusal.error);
        }
    }
}

/// What was to begin after an earlier failure must not begin beside what has begun since.
#[tokio::test]
async fn one_seed_is_at_work_at_a_time() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut supervisor = supervisor(dir.path());
    supervisor.state = SupervisorState::Seeding;
    supervisor.restart_at = Some(Instant::now());
    supervisor.begin_seed();
    assert!(supervisor.restart_at.is_none());
    supervisor.restart_at = Some(Instant::now());
    supervisor.tick().await.expect("nothing to do");
    supervisor.begin_seed();
    assert_eq!(supervisor.seeding.report().attempts, 1);
    supervisor.abort_seed();
    supervisor.begin_seed();
    assert_eq!(supervisor.seeding.report().attempts, 2);
    // There is no engine that could make it.
    let outcome = supervisor.seeding.ended().await;
    assert!(outcome.is_err());
    supervisor.seeded(outcome).expect("noted");
    assert!(supervisor.restart_at.is_some() && !supervisor.seeding.is_at_work());
    assert!(supervisor.seeding.report().error.is_some());
}

/// What it was told before is no reason to try again sooner: each attempt costs the primary a copy.
#[tokio::test]
async fn a_seed_that_rests_is_not_hurried_by_being_told_the_same() {
    use super::super::commands::{Call, Command};
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut supervisor = supervisor(dir.path());
    supervisor.state = SupervisorState::Seeding;
    supervisor.restart_at = Some(Instant::now() + Duration::from_secs(600));
    let id = supervisor.promise.instance_id.clone();
    for (term, attempts) in [(Term::FIRST, 0), (Term::FIRST.next(), 1)] {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let call = Call::Follow(crate::api::FollowRequest {
            term,
            id: id.clone(),
            upstream: None,
            source: None,
        });
        supervisor.obey(Command { call, reply }).await;
        answer.await.expect("answered").expect("obeyed");
        assert_eq!(supervisor.seeding.report().attempts, attempts);
    }
}

async fn told_to_copy(supervisor: &mut Supervisor, instance: &str) -> crate::api::SeedingReport {
    use super::super::commands::{Call, Command};
    let (reply, answer) = tokio::sync::oneshot::channel();
    let call = Call::Follow(crate::api::FollowRequest {
        term: Term::FIRST,
        id: supervisor.promise.instance_id.clone(),
        upstream: None,
        source: Some(crate::api::SeedSource {
            instance: instance.to_owned(),
            host: "127.0.0.1".to_owned(),
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            port: 1,
        }),
    });
    supervisor.obey(Command { call, reply }).await;
    answer.await.expect("answered").expect("obeyed");
    supervisor.seeding.report()
}

/// One that can't be copied costs one attempt, however often it is told.
#[tokio::test]
async fn the_standby_that_it_is_told_is_copied_first_and_then_the_primary() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut supervisor = supervisor(dir.path());
    // There is a database: this is not its very first instance.
    supervisor.promise.system_id = Some("7".to_owned());
    supervisor.begin().expect("begun");
    let report = supervisor.seeding.report();
    assert!(report.asks && report.source.is_none() && report.attempts == 1);
    let report = told_to_copy(&mut supervisor, "orders-3").await;
    assert_eq!(report.source.as_deref(), Some("orders-3"));
    assert!(!report.asks && report.attempts == 1, "to ask is no attempt");
    assert_eq!(told_to_copy(&mut supervisor, "orders-3").await, report);
    // The operator has given that one up.
    let report = told_to_copy(&mut supervisor, "orders-4").await;
    assert_eq!(report.source.as_deref(), Some("orders-4"));
    assert_eq!(report.attempts, 2);
    // There is no engine that could make it.
    let outcome = supervisor.seeding.ended().await;
    assert!(outcome.is_err());
    supervisor.seeded(outcome).expect("noted");
    let failed = supervisor.seeding.report();
    assert_eq!((failed.asks, failed.source.as_deref()), (false, None));
    let said = failed.error.clone().unwrap_or_default();
    assert!(said.starts_with("copying orders-4: "), "{said}");
    assert_eq!(told_to_copy(&mut supervisor, "orders-4").await, failed);
    supervisor.begin().expect("begun");
    let report = supervisor.seeding.report();
    assert_eq!((report.asks, report.source.as_deref()), (false, None));
    // So does the primary's go on, whoever is told late.
    assert_eq!(told_to_copy(&mut supervisor, "orders-3").await, report);
    // A new copy asks again.
    supervisor.abort_seed();
    supervisor.seed_anew().await.expect("begun");
    let report = supervisor.seeding.report();
    assert!(report.asks && report.attempts == 1 && report.error.is_none());
}

/// Whatever the engine was being restarted for, it must not come back as a primary that has to close its writes.
#[tokio::test]
async fn a_demotion_takes_the_place_of_a_restart_under_way() {
    use super::super::commands::{Call, Command};
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut supervisor = supervisor(dir.path());
    supervisor.promise.set = Some(set(1));
    let engine = Engine::start(&supervisor.volume, &supervisor.setup, true);
    supervisor.engine = Some(engine.expect("started"));
    supervisor.restart_by = Some(Instant::now());
    let (reply, answer) = tokio::sync::oneshot::channel();
    let call = Call::Demote(crate::api::DemoteRequest {
        term: Term::FIRST.next(),
        within_ms: 600_000,
    });
    supervisor.obey(Command { call, reply }).await;
    answer.await.expect("answered").expect("obeyed");
    assert!(supervisor.demotion.is_some() && supervisor.restart_by.is_none());
}

/// A program in the engine's place, which has answered before.
fn run_as_engine(supervisor: &mut Supervisor) {
    let mut program = tokio::process::Command::new("sleep");
    let child = program.arg("600").kill_on_drop(true).spawn();
    let socket = supervisor.volume.dir().join("its.sock");
    supervisor.engine = Some(Engine::of_child(child.expect("started"), socket));
    let status = serde_json::json!({"system_id": "7", "role": "standby", "timeline": 1});
    supervisor.heard(serde_json::from_value(status).expect("reads"));
}

/// Until the last question has been asked, and what follows from it done.
async fn decide_on_engine(supervisor: &mut Supervisor) {
    supervisor.unanswered = Unanswered::for_long(1_000);
    let begin = Instant::now();
    while supervisor.unanswered.questions() > 0 {
        assert!(begin.elapsed() < Duration::from_secs(60), "it is decided");
        supervisor.end_hung_engine().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A standby's, or that of a primary without an heir: nobody else would end it.
#[tokio::test]
async fn an_engine_that_has_answered_and_never_will_again_is_ended() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut supervisor = supervisor(dir.path());
    run_as_engine(&mut supervisor);
    let status = supervisor.status.take();
    supervisor.ask_engine().await;
    assert_eq!(supervisor.unanswered.questions(), 0, "much to recover");
    supervisor.status = status;
    supervisor.ask_engine().await;
    assert_eq!(supervisor.unanswered.questions(), 1);
    decide_on_engine(&mut supervisor).await;
    let engine = supervisor.engine.as_mut().expect("until its end is seen");
    let ended = tokio::time::timeout(Duration::from_secs(60), engine.exited()).await;
    let ended = ended.expect("in time").expect("waited for");
    let said = last_words(supervisor.engine.as_ref(), ended);
    assert!(said.contains("did not answer"), "{said}");
}

/// Whoever is slow, sealed or about to end may have been silent for long.
#[tokio::test]
async fn an_engine_that_is_silent_for_a_reason_is_left_alone() {
    use std::os::unix::process::ExitStatusExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut supervisor = supervisor(dir.path());
    run_as_engine(&mut supervisor);
    supervisor.restart_by = Some(Instant::now() + Duration::from_secs(600));
    decide_on_engine(&mut supervisor).await;
    supervisor.restart_by = None;
    supervisor.promise.sealed = true;
    decide_on_engine(&mut supervisor).await;
    supervisor.promise.sealed = false;
    let socket = tokio::net::UnixListener::bind(dir.path().join("its.sock")).expect("bound");
    let answers = tokio::spawn(async move {
        let (mut stream, _) = socket.accept().await.expect("accepted");
        let asked = stream.read(&mut [0; 1024]).await.expect("read");
        let body = r#"{"system_id": "7", "role": "standby", "timeline": 1}"#;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        let answer = format!("{head}{body}");
        stream.write_all(answer.as_bytes()).await.expect("written");
        asked
    });
    decide_on_engine(&mut supervisor).await;
    assert!(answers.await.expect("asked") > 0);
    let killed = ExitStatus::from_raw(9);
    let said = last_words(supervisor.engine.as_ref(), killed);
    assert!(!said.contains("did not answer"), "{said}");
}

/// Before it has answered once it may not know the signal yet, and would die of it.
#[tokio::test]
async fn an_engine_that_has_not_answered_is_told_to_reload_later() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut supervisor = supervisor(dir.path());
    let engine = Engine::start(&supervisor.volume, &supervisor.setup, true);
    supervisor.engine = Some(engine.expect("started"));
    supervisor.reload_engine();
    assert!(supervisor.reload_due);
    let status = serde_json::json!({"system_id": "7", "role": "standby", "timeline": 1});
    supervisor.heard(serde_json::from_value(status).expect("reads"));
    assert!(!supervisor.reload_due);
}

#[tokio::test]
async fn calls_that_are_over_are_not_obeyed() {
    use super::super::commands::{Call, Command};
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut supervisor = supervisor(dir.path());
    let seal = |term: u32| {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let term = Term::new(term);
        let call = Call::Seal(crate::api::SealRequest { term });
        (Command { call, reply }, answer)
    };
    // Whoever called has gone, perhaps long ago.
    let (command, answer) = seal(9);
    drop(answer);
    supervisor.obey(command).await;
    assert!(!supervisor.promise.sealed);
    for (term, is_obeyed) in [(9, true), (8, false), (9, true)] {
        let (command, answer) = seal(term);
        supervisor.obey(command).await;
        let answer = answer.await.expect("answered");
        assert_eq!(answer.is_ok(), is_obeyed, "term {term}");
        assert_eq!(supervisor.promise.promised_term, Term::new(9));
    }
}

/// Its answer was gathered before it was told whom to follow: a seal that comes now is an old one, and would make a copy that
/// follows look like one that went its own way.
#[tokio::test]
async fn who_follows_in_a_term_is_not_sealed_in_it_any_more() {
    use super::super::commands::{Call, Command};
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut supervisor = supervisor(dir.path());
    let follows = |p: &mut Promise| (p.promised_term, p.sealed) = (Term::new(9), false);
    supervisor.keep_promise(follows).expect("written");
    for (term, is_obeyed) in [(9, false), (10, true), (10, true)] {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let term = Term::new(term);
        let call = Call::Seal(crate::api::SealRequest { term });
        supervisor.obey(Command { call, reply }).await;
        let answer = answer.await.expect("answered");
        assert_eq!(answer.is_ok(), is_obeyed, "term {term}");
        assert_eq!(supervisor.promise.sealed, is_obeyed, "term {term}");
    }
}

/// The crash came between the seed's adoption and the note of what database it is.
#[test]
fn a_seed_that_was_adopted_before_a_crash_is_known_after_it() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let id = supervisor(dir.path()).promise.instance_id;
    let seed = Volume::new(dir.path()).seed();
    std::fs::create_dir_all(seed.join("global")).expect("created");
    std::fs::write(seed.join("global/pg_control"), 7_u64.to_le_bytes()).expect("written");
    Volume::new(dir.path()).adopt_seed(&id).expect("adopted");
    let mut supervisor = supervisor(dir.path());
    assert_eq!(supervisor.promise.system_id, None);
    supervisor.know_system_id().expect("noted");
    let kept = supervisor.volume.load_promise().expect("read");
    assert_eq!(kept.and_then(|p| p.system_id).as_deref(), Some("7"));
}
