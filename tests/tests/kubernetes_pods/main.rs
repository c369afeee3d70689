//! The supervisor as it runs in a pod, before a real API server: its pods are processes of the test on loopback
//! addresses of their own, and the test plays the operator, by its calls and with its certificate.

mod bootstrap;
mod handover;
mod pod;
mod world;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use operator::api::{
    EngineRole, EngineSet, FollowRequest, RestartRequest, SetRequest, SupervisorState,
    SupervisorStatus,
};
use operator::ids::{InstanceId, Term};
use operator::render::CONTROL_PORT;
use serde_json::{Value, json};

use bootstrap::{ran_once, runs_once_what_is_corrected};
use handover::{
    hands_over_before_it_ends, passes_clients_on_after_it_handed_over,
    stays_where_it_was_told_to_end_after_it_handed_over,
};
use pod::Pod;
use world::World;

const LIMIT: Duration = Duration::from_secs(180);

fn id_of(status: &SupervisorStatus) -> InstanceId {
    status.instance_id.clone().expect("every volume has one")
}

fn set(counter: u64, members: Vec<InstanceId>) -> EngineSet {
    EngineSet {
        term: Term::FIRST,
        counter,
        required: u32::try_from(members.len()).expect("few"),
        members,
    }
}

fn streams(status: &SupervisorStatus) -> bool {
    let receiver = status.engine.as_ref().and_then(|e| e.receiver.as_ref());
    receiver.is_some_and(|r| r.state == "streaming")
}

fn writes(status: &SupervisorStatus) -> bool {
    let engine = status.engine.as_ref();
    engine.is_some_and(|e| e.role == EngineRole::Primary && e.writable)
}

fn has_settled(status: &SupervisorStatus, generation: i64) -> bool {
    status.state == SupervisorState::Running && status.generation == generation
}

#[test]
#[ignore = "needs kube-apiserver, kubectl and etcd"]
fn pods_go_by_the_cluster_object_and_the_operator_s_calls() {
    let mut world = World::new();
    let mut first = Pod::new(&world, 1);
    begins_when_the_record_says_so(&world, &mut first);
    only_the_operator_is_obeyed(&world, &first);
    runs_once_what_is_corrected(&world, &first);
    serves_what_was_asked_for(&world, &first);
    let mut second = Pod::new(&world, 2);
    follows_where_it_is_told(&world, &first, &mut second);
    goes_by_the_spec_as_it_changes(&world, &first, &second);
    lets_in_whom_the_manifest_s_records_let_in(&world, &first);
    copies_the_standby_that_it_is_told(&world, &first, &second);
    comes_back_with_the_parameters_before_those_that_are_refused(&world, &mut second);
    says_why_it_does_not_start_until_that_is_mended(&world, &first, &second);
    passwords_follow_the_secrets(&world, &first);
    let mut third = Pod::new(&world, 3);
    refuses_a_volume_of_another_cluster(&world, &mut third);
    tells_what_its_volume_refuses_until_it_heals(&world, &mut third);
    drop(third);
    goes_on_without_the_api(&mut world, &mut second);
    hands_over_before_it_ends(&world, &mut first, &second);
    passes_clients_on_after_it_handed_over(&world, &mut second);
    stays_where_it_was_told_to_end_after_it_handed_over(&world, &mut second);
}

fn begins_when_the_record_says_so(world: &World, pod: &mut Pod) {
    pod.start();
    let waits = pod.until(world, "waiting for a record", |s| {
        let report = s
            .seeding
            .as_ref()
            .and_then(|seeding| seeding.error.as_deref());
        report.is_some_and(|error| error.contains("record"))
    });
    assert_eq!(waits.system_id, None, "nothing was made up");
    assert_eq!(waits.pod_uid.as_deref(), Some("pod-1"));
    world.record(&json!({
        "recordVersion": 1, "term": 1, "phase": "Creating", "inSync": [], "replicas": 0,
    }));
    let begun = pod.until(world, "initialised", |s| s.engine.is_some());
    assert_eq!(begun.cluster_id, world.uid);
    assert!(!writes(&begun), "it has no set to count by");
    let request = SetRequest {
        term: Term::FIRST,
        id: id_of(&begun),
        set: set(1, Vec::new()),
    };
    pod.order(world, "/set", &request);
    pod.until(world, "writing", writes);
    world.record(&json!({
        "recordVersion": 2, "phase": "Running", "systemId": begun.system_id,
        "primary": {"name": "orders-1", "id": id_of(&begun)},
    }));
}

fn only_the_operator_is_obeyed(world: &World, pod: &Pod) {
    let nobody = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n");
        let mut client = Command::new("openssl")
            .args(["s_client", "-quiet", "-verify_return_error"])
            .args(["-verify_hostname", &pod.host(), "-servername", &pod.host()])
            .arg("-CAfile")
            .arg(pod.root.join("etc/understudy/tls/ca.crt"))
            .arg("-connect")
            .arg(format!("{}:{CONTROL_PORT}", pod.ip()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs");
        let mut input = client.stdin.take().expect("piped");
        input.write_all(request.as_bytes()).expect("openssl reads");
        let output = client.wait_with_output().expect("openssl ends");
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(nobody("/livez"), "200");
    for path in ["/status", "/watch", "/seal", "/anything"] {
        assert_eq!(nobody(path), "401", "{path}");
    }
    let seal = serde_json::to_vec(&json!({"term": 9})).expect("JSON");
    let standby = &world.credentials.client;
    for (path, body) in [("/status", None), ("/seal", Some(seal))] {
        let refused = pod.call::<Value>(world, standby, path, body);
        let said = refused.expect_err("a standby gives no orders").to_string();
        assert!(said.contains("401"), "{path}: {said}");
    }
    // Whoever begins a handshake and says no more keeps nobody waiting.
    let port = u16::try_from(CONTROL_PORT).expect("a port");
    let silent: Vec<_> = (0..300)
        .map(|_| std::net::TcpStream::connect((pod.ip(), port)).expect("connected"))
        .collect();
    let begin = Instant::now();
    pod.status(world).expect("answered");
    assert!(
        begin.elapsed() < Duration::from_secs(4),
        "{:?}",
        begin.elapsed()
    );
    drop(silent);
}

fn serves_what_was_asked_for(world: &World, pod: &Pod) {
    let count = "SELECT count(*), current_database(), current_user FROM item";
    // As the superuser: the SQL is the superuser's, and so are its tables.
    let superuser = &world.credentials.superuser_password;
    let output = pod.psql(world, "postgres", superuser, count);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words}\n{}", pod.words());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.trim(), "2|shop|postgres");
    assert_eq!(pod.asks(world, "SELECT current_user"), "keeper");
    let wrong = pod.psql(world, "keeper", "wrong", "SELECT 1");
    let words = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(words.contains("password authentication failed"), "{words}");
    // The standbys' role has the client certificate, and no password gets anybody in as it.
    let replication = &world.credentials.replication_password;
    let refused = pod.psql(world, "understudy_replication", replication, "SELECT 1");
    assert!(!refused.status.success());
}

fn follows_where_it_is_told(world: &World, primary: &Pod, pod: &mut Pod) {
    pod.start();
    // Nobody tells it whom to copy, and the Service has no name here.
    let tries = pod.until(world, "looking for the Service", |s| {
        s.seeding
            .as_ref()
            .is_some_and(|seeding| seeding.error.is_some())
    });
    let request = FollowRequest {
        term: Term::FIRST,
        id: id_of(&tries),
        upstream: Some(primary.upstream()),
        source: None,
    };
    pod.order(world, "/follow", &request);
    let streaming = pod.until(world, "streaming", streams);
    let known = primary.status(world).expect("answered");
    assert_eq!(streaming.system_id, known.system_id);
    let request = SetRequest {
        term: Term::FIRST,
        id: id_of(&known),
        set: set(2, vec![id_of(&streaming)]),
    };
    primary.order(world, "/set", &request);
    primary.until(world, "counting the standby", |s| {
        s.engine
            .as_ref()
            .is_some_and(|e| e.set_caught_up && e.writable)
    });
    // The password is the primary's: it came with the copy.
    let insert = "CREATE TABLE mine (id integer); INSERT INTO mine VALUES (7)";
    primary.asks(world, insert);
    let begin = Instant::now();
    loop {
        let password = &world.credentials.app_password;
        let seen = pod.psql(world, "keeper", password, "SELECT id FROM mine");
        if String::from_utf8_lossy(&seen.stdout).trim() == "7" {
            break;
        }
        assert!(begin.elapsed() < LIMIT, "{}", pod.words());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn goes_by_the_spec_as_it_changes(world: &World, primary: &Pod, standby: &Pod) {
    let before = primary.status(world).expect("answered");
    let generation = world.change_spec(&json!({"parameters": {"work_mem": "9MB"}}));
    for pod in [primary, standby] {
        let settled = pod.until(world, "reloaded", |s| has_settled(s, generation));
        assert!(!settled.pending_restart);
        let begin = Instant::now();
        while pod.asks(world, "SHOW work_mem") != "9MB" {
            assert!(begin.elapsed() < LIMIT, "{}", pod.words());
        }
    }
    // A wrong value is told at once, and what was there before stays in effect.
    let wrong = world.change_spec(&json!({"parameters": {"work_mem": "lots"}}));
    for pod in [primary, standby] {
        let told = pod.until(world, "told", |s| s.refused_settings.is_some());
        let said = told.refused_settings.clone().unwrap_or_default();
        assert!(said.contains("work_mem") && said.contains("lots"), "{said}");
        assert!(!told.pending_restart && told.generation < wrong);
        assert_eq!(pod.asks(world, "SHOW work_mem"), "9MB");
    }
    let parameters = json!({"parameters": {"work_mem": "9MB", "max_connections": "77"}});
    let generation = world.change_spec(&parameters);
    let settled = primary.until(world, "in need of a restart", |s| {
        has_settled(s, generation)
    });
    assert!(settled.pending_restart);
    assert_eq!(
        settled.engine_pid, before.engine_pid,
        "nothing restarts by itself"
    );
    let request = RestartRequest {
        term: Term::FIRST,
        id: id_of(&settled),
    };
    primary.order(world, "/restart", &request);
    let restarted = primary.until(world, "restarted", |s| writes(s) && !s.pending_restart);
    assert_ne!(restarted.engine_pid, before.engine_pid);
    let uncounted = (before.crashes, 0);
    assert_eq!((restarted.crashes, restarted.down_ms), uncounted);
    assert_eq!(primary.asks(world, "SHOW max_connections"), "77");
    standby.until(world, "streaming again", streams);
}

fn lets_in_whom_the_manifest_s_records_let_in(world: &World, pod: &Pod) {
    for (records, comes_in) in [
        (json!(["host all keeper all reject"]), false),
        (json!(null), true),
    ] {
        world.change_spec(&json!({ "pgHba": records }));
        let begin = Instant::now();
        loop {
            let password = &world.credentials.app_password;
            let seen = pod.psql(world, "keeper", password, "SELECT 1");
            let said = String::from_utf8_lossy(&seen.stderr).into_owned();
            let is_rejected = said.contains("pg_hba.conf rejects");
            if seen.status.success() == comes_in && is_rejected != comes_in {
                break;
            }
            assert!(begin.elapsed() < LIMIT, "{said}\n{}", pod.words());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The primary only has to stream to it then.
fn copies_the_standby_that_it_is_told(world: &World, primary: &Pod, standby: &Pod) {
    let mut pod = Pod::new(world, 4);
    let ready = |pod: &Pod, role: &str| json!({"name": pod.instance(), "role": role, "ready": true, "inSync": true});
    world.record(&json!({ "instances": [ready(primary, "Primary"), ready(standby, "Standby")] }));
    pod.start();
    // Where this test comes late it has begun to look for the Service.
    let asks = pod.until(world, "asking whom to copy", |s| {
        s.seeding
            .as_ref()
            .is_some_and(|seeding| seeding.asks || seeding.error.is_some())
    });
    let request = FollowRequest {
        term: Term::FIRST,
        id: id_of(&asks),
        upstream: Some(primary.upstream()),
        source: Some(standby.seed_source()),
    };
    pod.order(world, "/follow", &request);
    pod.until(world, "streaming", streams);
    let label = pod.volume().join("data/backup_label.old");
    let label = std::fs::read_to_string(label).expect("it was replayed from");
    assert!(label.contains("BACKUP FROM: standby"), "{label}");
    let id = id_of(&asks);
    primary.until(world, "streaming to it", |s| {
        let mut streams = s.engine.iter().flat_map(|engine| &engine.standbys);
        streams.any(|stream| stream.instance_id.as_ref() == Some(&id))
    });
    pod.terminate();
    assert!(pod.wait_for_end().success(), "{}", pod.words());
}

/// They are on its volume. The spec stays as it is.
fn comes_back_with_the_parameters_before_those_that_are_refused(world: &World, standby: &mut Pod) {
    let generation = world.generation();
    let before = standby.until(world, "settled", |s| has_settled(s, generation));
    world.change_spec(&json!({"parameters": {"work_mem": "lots"}}));
    standby.until(world, "told", |s| s.refused_settings.is_some());
    standby.kill();
    standby.start();
    let back = standby.until(world, "streaming again under what is refused", |s| {
        s.supervisor_pid != before.supervisor_pid && has_settled(s, generation) && streams(s)
    });
    assert_eq!(back.instance_id, before.instance_id);
    let said = back.refused_settings.clone().unwrap_or_default();
    assert!(said.contains("work_mem") && said.contains("lots"), "{said}");
    assert!(!back.pending_restart, "it has what it was told before");
    assert_eq!(standby.asks(world, "SHOW work_mem"), "9MB");
    assert_eq!(standby.asks(world, "SHOW max_connections"), "77");
}

/// A pod whose first start comes under parameters that no engine takes has none before them to go by.
fn says_why_it_does_not_start_until_that_is_mended(world: &World, primary: &Pod, standby: &Pod) {
    let mut pod = Pod::new(world, 5);
    pod.start();
    let asks = pod.until(world, "asking whom to copy", |s| {
        s.seeding
            .as_ref()
            .is_some_and(|seeding| seeding.asks || seeding.error.is_some())
    });
    let request = FollowRequest {
        term: Term::FIRST,
        id: id_of(&asks),
        upstream: Some(primary.upstream()),
        source: None,
    };
    pod.order(world, "/follow", &request);
    pod.until(world, "saying why it does not start", |s| {
        let said = s.message.as_deref().unwrap_or_default();
        s.down_ms > 0 && said.contains("work_mem") && said.contains("lots")
    });
    let generation = world.change_spec(&json!({"parameters": {"work_mem": "9MB"}}));
    for pod in [&pod, standby] {
        let mended = pod.until(world, "streaming once it is mended", |s| {
            has_settled(s, generation) && streams(s)
        });
        assert_eq!(mended.refused_settings, None);
    }
    pod.terminate();
    assert!(pod.wait_for_end().success(), "{}", pod.words());
}

fn passwords_follow_the_secrets(world: &World, primary: &Pod) {
    primary.mount("secrets/app/password", "another one");
    let begin = Instant::now();
    while !primary
        .psql(world, "keeper", "another one", "SELECT 1")
        .status
        .success()
    {
        assert!(begin.elapsed() < LIMIT, "{}", primary.words());
        std::thread::sleep(Duration::from_millis(100));
    }
    let old = &world.credentials.app_password;
    assert!(
        !primary
            .psql(world, "keeper", old, "SELECT 1")
            .status
            .success()
    );
    primary.mount("secrets/app/password", old);
    let begin = Instant::now();
    while !primary
        .psql(world, "keeper", old, "SELECT 1")
        .status
        .success()
    {
        assert!(begin.elapsed() < LIMIT, "{}", primary.words());
        std::thread::sleep(Duration::from_millis(100));
    }
    // Each of these was another look at all of it.
    ran_once(world, primary);
}

/// It stays and says so: a process that ends would be started again less and less often, and nobody told why.
fn refuses_a_volume_of_another_cluster(world: &World, pod: &mut Pod) {
    let promise = json!({
        "cluster_id": "00000000-0000-0000-0000-000000000000", "instance_id": "i",
        "system_id": "7", "promised_term": 3, "sealed": false, "set": null,
    });
    let file = pod.volume().join("promise.json");
    std::fs::write(&file, promise.to_string()).expect("written");
    pod.start();
    let told = pod.until(world, "refusing another cluster's volume", |s| {
        let said = s.message.as_deref().unwrap_or_default();
        said.contains("the volume belongs to the cluster 00000000-")
    });
    assert_eq!((told.instance_id, told.engine), (None, None));
    let kept: Value = serde_json::from_slice(&std::fs::read(&file).expect("read")).expect("JSON");
    assert_eq!(kept, promise);
    pod.terminate();
    assert!(pod.wait_for_end().success(), "{}", pod.words());
    std::fs::remove_file(&file).expect("removed");
}

fn tells_what_its_volume_refuses_until_it_heals(world: &World, pod: &mut Pod) {
    let lock = pod.volume().join("lock");
    std::fs::remove_file(&lock).expect("it was held before");
    std::fs::create_dir(&lock).expect("an obstacle");
    pod.start();
    let pid = pod.pid();
    pod.until(world, "saying what its volume refuses", |s| {
        let said = s.message.as_deref().unwrap_or_default();
        said.contains("data-orders-3-0") && said.contains("volume/lock")
    });
    std::fs::remove_dir(&lock).expect("removed");
    let healed = pod.until(world, "going on", |s| s.instance_id.is_some());
    assert_eq!(healed.supervisor_pid, pid, "it is the same process");
}

fn goes_on_without_the_api(world: &mut World, standby: &mut Pod) {
    let before = standby.status(world).expect("answered");
    world.server.stop();
    standby.kill();
    standby.start();
    let begin = Instant::now();
    let after = standby.until(world, "streaming without the API", streams);
    assert_ne!(after.supervisor_pid, before.supervisor_pid);
    assert_eq!(after.instance_id, before.instance_id);
    assert_eq!(after.generation, before.generation);
    println!("without the API: {} ms", begin.elapsed().as_millis());
    standby.until(world, "saying what is away", |s| {
        let said = s.message.as_deref().unwrap_or_default();
        said.contains("Kubernetes API") && said.contains("going on")
    });
}
