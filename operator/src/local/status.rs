//! What `local status` shows: the object, with what moves all the time read from the supervisors at this moment.

use std::fmt::Write as _;
use std::time::Duration;

use super::{ClusterFolder, Process};
use crate::api::SupervisorStatus;
use crate::crd::{InstanceReport, InstanceRole, LastRoleChange, ReplicatedCluster};
use crate::instance::read_config;
use crate::transport::{self, Address};

const LIMIT: Duration = Duration::from_millis(700);

/// Fills in positions and process numbers as they are now. Who does not answer keeps what was reported.
pub async fn freshen(folder: &ClusterFolder, cluster: &mut ReplicatedCluster) {
    let Some(status) = cluster.status.as_mut() else {
        return;
    };
    let asked = status.instances.iter().map(|i| ask(folder, &i.name));
    let answers = futures::future::join_all(asked).await;
    let primary_end = status.current_primary.as_ref().and_then(|primary| {
        answers
            .iter()
            .flatten()
            .find(|s| s.name == *primary)?
            .engine
            .as_ref()?
            .flush_lsn
    });
    for (instance, answer) in status.instances.iter_mut().zip(answers) {
        let Some(answer) = answer else {
            instance.supervisor_pid = None;
            instance.engine_pid = None;
            continue;
        };
        instance.supervisor_pid = Some(answer.supervisor_pid);
        instance.engine_pid = answer.engine_pid;
        instance.port = Some(answer.port);
        if let Some(engine) = answer.engine {
            instance.timeline = Some(engine.timeline);
            instance.flush_lsn = engine.flush_lsn;
            instance.replay_lsn = engine.replay_lsn;
            instance.lag_bytes = match (instance.role, primary_end, engine.flush_lsn) {
                (InstanceRole::Standby, Some(end), Some(flush)) => Some(end.bytes_since(flush)),
                _ => None,
            };
        }
    }
}

async fn ask(folder: &ClusterFolder, name: &str) -> Option<SupervisorStatus> {
    let volume = folder.volume(name);
    let port = read_config(&volume.config()).ok()?.control_port;
    let status: SupervisorStatus =
        transport::call(Address::Local(port), "/status", None, None, LIMIT)
            .await
            .ok()?;
    // Another cluster's supervisor may have taken the port.
    let ours = Process::find(status.supervisor_pid, &volume.dir().to_string_lossy()).is_some();
    (status.name == name && ours).then_some(status)
}

/// For people.
pub fn render(cluster: &ReplicatedCluster, port: Option<u16>, operator: bool) -> String {
    let mut text = String::new();
    let name = cluster.metadata.name.as_deref().unwrap_or("?");
    let status = cluster.status.clone().unwrap_or_default();
    let phase = status
        .phase
        .map_or_else(|| "New".to_owned(), |p| format!("{p:?}"));
    let term = status
        .term
        .map_or_else(|| "-".to_owned(), |t| t.to_string());
    let wanted = cluster.spec.replicas + 1;
    let mut line = |s: String| {
        writeln!(text, "{s}").expect("writing to a string can't fail");
    };
    line(format!(
        "{name}: {phase}, {}/{wanted} ready, primary {}, term {term}, durability {}",
        status.ready_instances,
        status.current_primary.as_deref().unwrap_or("none"),
        format!("{:?}", cluster.spec.durability).to_lowercase(),
    ));
    if let Some(port) = port {
        line(format!(
            "services: primary 127.0.0.1:{port}, standbys 127.0.0.1:{}, any 127.0.0.1:{}",
            port + 1,
            port + 2
        ));
    }
    if !operator {
        line("operator: not running; the databases go on, nothing is repaired. Start it with `local up -f FILE`".to_owned());
    }
    line(format!(
        "{:<16} {:<9} {:<6} {:<8} {:>6} {:>8} {:>8} {:>6} {:<14} {:<14} {}",
        "INSTANCE",
        "ROLE",
        "READY",
        "IN-SYNC",
        "TL",
        "PID",
        "ENGINE",
        "PORT",
        "FLUSHED",
        "REPLAYED",
        "LAG"
    ));
    for instance in &status.instances {
        line(instance_line(instance));
    }
    for set in &status.in_sync {
        let members: Vec<&str> = set.members.iter().map(|m| m.name.as_str()).collect();
        line(format!(
            "in-sync set {}.{}: {} of [{}]",
            set.term,
            set.counter,
            set.required,
            members.join(", ")
        ));
    }
    for condition in &status.conditions {
        line(format!(
            "{:<12} {:?} ({}) {}",
            condition.type_, condition.status, condition.reason, condition.message
        ));
    }
    for (what, change) in [
        ("failover", &status.last_failover),
        ("switchover", &status.last_switchover),
    ] {
        if let Some(change) = change {
            line(change_line(what, change));
        }
    }
    text
}

fn instance_line(instance: &InstanceReport) -> String {
    fn or_dash<T: ToString>(value: Option<T>) -> String {
        value.map_or_else(|| "-".to_owned(), |v| v.to_string())
    }
    let yes = |is: bool| if is { "yes" } else { "no" };
    let mut line = format!(
        "{:<16} {:<9} {:<6} {:<8} {:>6} {:>8} {:>8} {:>6} {:<14} {:<14} {}",
        instance.name,
        format!("{:?}", instance.role).to_lowercase(),
        yes(instance.ready),
        yes(instance.in_sync),
        or_dash(instance.timeline),
        or_dash(instance.supervisor_pid),
        or_dash(instance.engine_pid),
        or_dash(instance.port),
        or_dash(instance.flush_lsn),
        or_dash(instance.replay_lsn),
        or_dash(instance.lag_bytes),
    );
    if let Some(message) = &instance.message {
        line.push_str("  ");
        line.push_str(message);
    }
    line
}

fn change_line(what: &str, change: &LastRoleChange) -> String {
    let lost = change.lost_bytes.map_or_else(
        || "not known until the old primary is seen".to_owned(),
        |bytes| format!("{bytes} bytes of log"),
    );
    format!(
        "last {what}: {} -> {} in term {} at {}, {} s until writable; cause: {}; left behind: {lost}",
        change.old.as_deref().unwrap_or("nobody"),
        change.new,
        change.term,
        change.detected_at.rfc3339(),
        change.seconds,
        change.cause,
    )
}
