//! The operator with the real engine, one kind of fault after the other, with fencing and without: instances and engines
//! that are killed or frozen, a standby that is down already, an operator that dies in the middle, an old primary that
//! comes back while its failover is blocked.
//!
//! Clients write through the Service and on open sessions of each instance itself. After each round no acknowledged row
//! is missing, nobody has acknowledged in an older term after the new primary's first, the operator's figures agree with
//! what the clients saw, and three healthy instances are there. Short: three rounds of each kind, with fencing and without
//! (a fault that has variants meets each of them); `make soak`: 20.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use understudy_tests::local::{
    Acknowledged, Cluster, Writer, freeze, has_every_field, is_gone, manifest, now_ms, signal,
};
use understudy_tests::soak::rounds;
use understudy_tests::stalls::stalled;
use understudy_tests::standby::eventually;
use understudy_tests::wire::Client;

const FAILOVER_LIMIT: Duration = Duration::from_secs(60);
/// How far the operator's figures may be from a client's, milliseconds, in more than three rounds of four. A client and a
/// server that share two processors with everything else may be late themselves; so in each round it is this and the time
/// for which programs of this machine waited for it, where the kernel says that.
const AGREEMENT_MS: u64 = 300;
/// How many rounds more are tried where figures of the first ones were further apart.
const MORE_ROUNDS: usize = 4;

/// A round of a fault: the cluster, who is primary in which term, and who writes.
struct Round<'a> {
    cluster: &'a Cluster,
    writer: &'a Writer,
    number: usize,
    fencing: bool,
    old: String,
    term: u64,
}

impl Round<'_> {
    fn wait_failover(&self) -> Value {
        self.cluster.wait_failover(self.term, FAILOVER_LIMIT)
    }
}

/// The same fault again and again. `strike` gives when a client could first have noticed, if that is to be compared
/// with what the operator says of the whole takeover.
fn rounds_of(fencing: bool, strike: impl Fn(&Round<'_>) -> Option<u64>) {
    let cluster = Cluster::up(2, fencing);
    let rounds = usize::try_from(rounds(3, 20)).expect("few rounds");
    let mut apart = Vec::new();
    let mut compared = 0;
    let mut number = 0;
    // What the operator says wrongly is wrong in each round; who was late once is in time in most.
    while number < rounds || (apart.len() * 4 >= compared.max(1) && number < rounds + MORE_ROUNDS) {
        let writer = Writer::start(&cluster);
        let round = Round {
            cluster: &cluster,
            writer: &writer,
            number,
            fencing,
            old: cluster.primary(),
            term: cluster.term(),
        };
        let stalled_before = stalled();
        let struck_ms = strike(&round);
        let late = stalled().zip(stalled_before);
        let late = late.map(|(after, before)| after.saturating_sub(before));
        let term = round.term;
        let status = cluster.wait_ready(3);
        // On a busy machine a supervisor may answer too late for one look.
        cluster.wait("the status is whole", FAILOVER_LIMIT, has_every_field);
        let ledger = writer.finish(&cluster);
        if status["term"].as_u64() > Some(term) {
            compared += 1;
            if let Some((by, shown)) = figures_apart(&cluster, &status, &ledger, struck_ms) {
                let shown = format!(
                    "round {number}: figures {by} ms apart, machine {late:?} late\n{shown}"
                );
                eprintln!("{shown}");
                if let Some(late) = late {
                    let most = u128::from(AGREEMENT_MS) + late.as_millis();
                    assert!(u128::from(by) < most, "{shown}");
                }
                apart.push(shown);
            }
        }
        number += 1;
    }
    assert!(
        compared == 0 || apart.len() * 4 < compared,
        "{} of {compared} rounds: the operator's figures are not the clients'\n{}",
        apart.len(),
        apart.join("\n")
    );
}

/// The operator's figures against what clients saw of the same takeover: by how many milliseconds they are too far apart,
/// and both. Figures that contradict each other are wrong however late anybody was.
fn figures_apart(
    cluster: &Cluster,
    status: &Value,
    ledger: &[Acknowledged],
    struck_ms: Option<u64>,
) -> Option<(u64, String)> {
    let report = &status["lastFailover"];
    let at = |key: &str| report[key].as_u64().expect("milliseconds");
    let (detected, promoted, writable) = (at("detectedAt"), at("promotedAt"), at("writableAt"));
    let term = report["term"].as_u64();
    let of_term = || ledger.iter().filter(|a| Some(u64::from(a.term)) == term);
    let first = of_term().next().expect("writes go on").at_ms;
    let by_service = of_term()
        .find(|a| a.by_service)
        .expect("writes go on")
        .at_ms;
    let shown = || {
        format!(
            "first rows at {first} and, by the Service, {by_service}; struck at {struck_ms:?}\n{report:#}\n{}",
            cluster.events()
        )
    };
    assert!(detected <= promoted && promoted <= writable, "{}", shown());
    let seconds = report["seconds"].as_f64().expect("a number");
    let between = Duration::from_millis(writable - detected).as_secs_f64();
    assert!((seconds - between).abs() < 0.002, "{}", shown());
    let whole = |struck: u64| (by_service - struck).abs_diff(writable - detected);
    let by = first.abs_diff(writable).max(struck_ms.map_or(0, whole));
    (by >= AGREEMENT_MS).then(|| (by, shown()))
}

/// SIGKILL of supervisor and engine; or of the supervisor alone, with which its engine dies and the instance is lost.
fn kill_instance(round: &Round<'_>) -> Option<u64> {
    let pids = round.cluster.pids(&round.old);
    let alone = round.number % 3 == 1;
    let struck = now_ms();
    signal(&pids[..if alone { 1 } else { 2 }], Signal::KILL);
    eventually("both have ended", || pids.iter().all(is_gone));
    let status = round.wait_failover();
    assert_ne!(status["currentPrimary"], round.old.as_str());
    assert_eq!(status["lastFailover"]["old"], round.old.as_str());
    assert_eq!(status["lastFailover"]["new"], status["currentPrimary"]);
    Some(struck)
}

#[test]
fn killed_instances_are_taken_over_from_and_come_back() {
    rounds_of(true, kill_instance);
}

#[test]
fn killed_instances_without_fencing() {
    rounds_of(false, kill_instance);
}

/// SIGKILL of the engine alone, twice: the first time it is restarted in place, the second time it counts as lost.
fn kill_engine(round: &Round<'_>) -> Option<u64> {
    let Round {
        cluster, writer, ..
    } = round;
    let restarts = || cluster.events().matches(" RestartedInPlace ").count();
    let before = restarts();
    signal(&cluster.pids(&round.old)[1..], Signal::KILL);
    writer.wait_for(20);
    let status = cluster.wait_ready(3);
    if status["currentPrimary"] != round.old.as_str() {
        // It had crashed before, or was not back within its second.
        return None;
    }
    // What is ready may be what was so before the operator has seen the crash.
    eventually("it was restarted in place, or another took over", || {
        restarts() > before || cluster.term() > round.term
    });
    let term = cluster.term();
    let pids = cluster.pids(&round.old);
    let struck = now_ms();
    signal(&pids[1..], Signal::KILL);
    let status = cluster.wait_failover(term, FAILOVER_LIMIT);
    assert_eq!(status["lastFailover"]["old"], round.old.as_str());
    Some(struck)
}

#[test]
fn a_killed_engine_is_restarted_in_place_once() {
    rounds_of(true, kill_engine);
}

#[test]
fn a_killed_engine_without_fencing() {
    rounds_of(false, kill_engine);
}

/// SIGSTOP of supervisor and engine. What is not fenced wakes up when somebody else is primary.
fn freeze_instance(round: &Round<'_>) -> Option<u64> {
    let Round {
        cluster, writer, ..
    } = round;
    let pids = cluster.pids(&round.old);
    let mut session = Client::connect(cluster.own_port(&round.old)).expect("it serves");
    session.set_read_timeout(Duration::from_secs(20));
    freeze(&pids);
    // Into the socket's buffer: it runs when the old primary wakes.
    let id = -i64::try_from(round.number).expect("few rounds") - 1;
    session
        .send(&format!("INSERT INTO ledger VALUES ({id})"))
        .expect("sent");
    let status = round.wait_failover();
    if round.fencing {
        cluster.wait_event("Fenced", round.number + 1, FAILOVER_LIMIT);
    } else {
        // Nobody has seen what it has beyond the fork.
        let lost = &status["lastFailover"]["lostBytes"];
        assert!(lost.is_null(), "{status:#}");
        writer.wait_for(5);
        signal(&pids, Signal::CONT);
    }
    let answers = session.answers();
    let acknowledged = answers
        .as_ref()
        .is_ok_and(|a| a.iter().all(|a| a.error.is_none()));
    assert!(!acknowledged, "an older term acknowledged: {answers:?}");
    let status = cluster.wait_ready(3);
    assert!(status["lastFailover"]["lostBytes"].is_u64(), "{status:#}");
    let rows = cluster
        .client()
        .rows(&format!("SELECT 1 FROM ledger WHERE id = {id}"));
    assert!(rows.is_empty(), "{rows:?}");
    None
}

#[test]
fn a_frozen_instance_is_fenced_and_taken_over_from() {
    rounds_of(true, freeze_instance);
}

#[test]
fn without_fencing_a_woken_primary_acknowledges_nothing_more() {
    rounds_of(false, freeze_instance);
}

/// Its supervisor says nothing any more, and its engine serves: a way that is broken between operator and primary alone looks
/// the same. Nobody takes over before its standbys do not hear it either.
#[test]
fn a_primary_that_only_the_operator_does_not_hear_stays() {
    let cluster = Cluster::up(2, true);
    // Longer than this machine may keep a program waiting.
    let times = "spec: {failover: {lostAfterMilliseconds: 8000}, ";
    let file = cluster.dir().with_extension("yaml");
    let patient = manifest(2, "quorum").replace("spec: {", times);
    std::fs::write(&file, patient).expect("written");
    cluster.run_ok(&["up", "-f", &file.display().to_string()]);
    let mut client = cluster.client();
    client.rows("CREATE TABLE t (a int)");
    let (primary, term) = (cluster.primary(), cluster.term());
    let pids = cluster.pids(&primary);
    freeze(&pids[..1]);
    let is_told = |status: &Value| {
        let mut conditions = status["conditions"].as_array().into_iter().flatten();
        conditions.any(|c| c["reason"] == "PrimaryUnheard")
    };
    let status = cluster.wait("it is told", FAILOVER_LIMIT, is_told);
    assert_eq!(status["term"].as_u64(), Some(term), "{status:#}");
    client.rows("INSERT INTO t VALUES (1)");
    let logs = || cluster.logs();
    assert_eq!(cluster.term(), term, "{}", logs());

    freeze(&pids[1..]);
    let status = cluster.wait_failover(term, FAILOVER_LIMIT);
    assert_eq!(status["lastFailover"]["old"], primary.as_str());
    cluster.wait_ready(3);
    let rows = cluster.client().value("SELECT count(*) FROM t");
    assert_eq!(rows, "1", "{}", logs());
}

/// The primary is killed while a standby does not answer: just frozen, out of the in-sync set, or killed as well.
fn lose_primary_and_standby(round: &Round<'_>) -> Option<u64> {
    let Round {
        cluster, writer, ..
    } = round;
    let down = cluster.standbys().remove(0);
    let (primary, standby) = (cluster.pids(&round.old), cluster.pids(&down));
    match (round.number + usize::from(!round.fencing)) % 3 {
        0 => {
            freeze(&standby);
            signal(&primary, Signal::KILL);
            // Its set needs both standbys' word, or the old primary's own, which is started again for it.
            round.wait_failover();
            writer.wait_for(5);
            signal(&standby, Signal::CONT);
        }
        1 => {
            freeze(&standby);
            cluster.wait("it leaves the set", FAILOVER_LIMIT, |s| {
                let sets = s["inSync"].as_array().map_or(0, Vec::len);
                sets == 1 && s["inSync"][0]["members"].as_array().map_or(0, Vec::len) == 1
            });
            signal(&primary, Signal::KILL);
            let status = round.wait_failover();
            assert_ne!(status["currentPrimary"], round.old.as_str());
            assert_ne!(status["currentPrimary"], down.as_str());
            writer.wait_for(5);
            signal(&standby, Signal::CONT);
        }
        _ => {
            signal(&standby, Signal::KILL);
            signal(&primary, Signal::KILL);
            round.wait_failover();
        }
    }
    None
}

#[test]
fn with_a_standby_down_already() {
    rounds_of(true, lose_primary_and_standby);
}

#[test]
fn with_a_standby_down_already_without_fencing() {
    rounds_of(false, lose_primary_and_standby);
}

/// The operator dies at some moment of the failover, each round at another; the next one goes on.
fn lose_primary_and_operator(round: &Round<'_>) -> Option<u64> {
    let cluster = round.cluster;
    let operator = cluster.operator_pid();
    signal(&cluster.pids(&round.old), Signal::KILL);
    let moment = u64::try_from(round.number).expect("few rounds") * 70 % 400;
    let moment = moment + if round.fencing { 0 } else { 35 };
    std::thread::sleep(Duration::from_millis(moment));
    signal(&[operator], Signal::KILL);
    std::thread::sleep(Duration::from_millis(300));
    cluster.apply(2);
    let status = round.wait_failover();
    assert_ne!(
        status["currentPrimary"],
        round.old.as_str(),
        "{}",
        cluster.events()
    );
    None
}

#[test]
fn an_operator_that_dies_in_the_middle_is_replaced() {
    rounds_of(true, lose_primary_and_operator);
}

#[test]
fn an_operator_that_dies_in_the_middle_without_fencing() {
    rounds_of(false, lose_primary_and_operator);
}

/// Primary and a standby freeze, so that the failover has not enough answers. It goes on with the old primary's own
/// answer (woken; or, fenced, started again for it) or with the standby's, each in turn.
fn block(round: &Round<'_>) -> Option<u64> {
    let Round {
        cluster, writer, ..
    } = round;
    let standby = cluster.standbys().remove(0);
    let (frozen, silent) = (cluster.pids(&round.old), cluster.pids(&standby));
    freeze(&silent);
    freeze(&frozen);
    cluster.wait_event("FailoverBlocked", round.number + 1, FAILOVER_LIMIT);
    let before = writer.acknowledged_anywhere();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(
        writer.acknowledged_anywhere(),
        before,
        "somebody acknowledges"
    );
    if round.fencing {
        round.wait_failover();
        signal(&silent, Signal::CONT);
    } else if round.number.is_multiple_of(2) {
        signal(&frozen, Signal::CONT);
        round.wait_failover();
        signal(&silent, Signal::CONT);
    } else {
        signal(&silent, Signal::CONT);
        round.wait_failover();
        writer.wait_for(5);
        signal(&frozen, Signal::CONT);
    }
    None
}

#[test]
fn a_blocked_failover_goes_on_when_the_fenced_primary_has_answered() {
    rounds_of(true, block);
}

#[test]
fn a_blocked_failover_goes_on_when_the_old_primary_comes_back() {
    rounds_of(false, block);
}
