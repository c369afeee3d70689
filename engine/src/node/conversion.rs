//! From settings to what the rooms take: pure.

use crate::config::ServerSettings;
use crate::config::server::{ArchiveMode, RecoveryTargetTimeline};
use crate::ids::{SystemId, TimelineId};
use crate::recovery::{ArchiverSettings, CheckpointSettings, RecoverySettings, TargetTimeline};
use crate::replication::receiver::UpstreamSettings;
use crate::txn::ReleasePolicy;
use crate::txn::release::SyncNames;
use crate::wal::WalConfig;
use crate::wal::xlog_records::ParameterChange;

pub fn wal(current: &ServerSettings, system_id: SystemId, segment_size: u32) -> WalConfig {
    WalConfig {
        segment_size,
        buffers: current.wal_buffers.next_power_of_two(),
        full_page_writes: current.full_page_writes,
        writer_delay: current.wal_writer_delay,
        archiving: current.archive_mode != ArchiveMode::Off,
        archive_always: current.archive_mode == ArchiveMode::Always,
        ..WalConfig::new(system_id)
    }
}

pub fn checkpoints(current: &ServerSettings) -> CheckpointSettings {
    CheckpointSettings {
        timeout: current.checkpoint_timeout,
        completion_target: current.checkpoint_completion_target,
        max_wal_bytes: current.max_wal_size,
        min_wal_bytes: current.min_wal_size,
        wal_keep_bytes: current.wal_keep_size,
        warning: current.checkpoint_warning.unwrap_or_default(),
        log: current.log_checkpoints,
    }
}

pub fn archiver(current: &ServerSettings) -> ArchiverSettings {
    ArchiverSettings {
        command: current.archive_command.clone(),
        timeout: current.archive_timeout.unwrap_or_default(),
        always: current.archive_mode == ArchiveMode::Always,
    }
}

/// Who has to have a commit before it is released: `synchronous_standby_names`.
pub fn release_policy(current: &ServerSettings) -> ReleasePolicy {
    let names = current.values.text("synchronous_standby_names");
    match SyncNames::parse(&names) {
        Ok(Some(names)) => ReleasePolicy::Names(names),
        // The setting was checked when it was read.
        Ok(None) | Err(_) => ReleasePolicy::Local,
    }
}

pub fn upstream(current: &ServerSettings) -> UpstreamSettings {
    let name = if current.cluster_name.is_empty() {
        "walreceiver"
    } else {
        &current.cluster_name
    };
    UpstreamSettings {
        conninfo: current.primary_conninfo.clone(),
        slot: current.primary_slot_name.clone(),
        name: name.to_owned(),
        status_interval: current.wal_receiver_status_interval.unwrap_or_default(),
        timeout: current.wal_receiver_timeout.unwrap_or_default(),
        retry_interval: current.wal_retrieve_retry_interval,
        feedback: current.hot_standby_feedback,
        instance_id: current.instance_id.clone(),
    }
}

/// Whether a receiver has to begin anew to do what the settings say now: it takes them up when it connects.
pub fn receives_otherwise(before: &ServerSettings, now: &ServerSettings) -> bool {
    let of = |s: &ServerSettings| {
        (
            s.values.text("primary_conninfo"),
            s.primary_slot_name.clone(),
            s.wal_receiver_status_interval,
            s.wal_receiver_timeout,
            s.hot_standby_feedback,
        )
    };
    of(before) != of(now)
}

/// `last`: the parameters that the log has.
pub fn recovery(current: &ServerSettings, last: ParameterChange) -> RecoverySettings {
    RecoverySettings {
        target: match current.recovery_target_timeline {
            RecoveryTargetTimeline::Latest => TargetTimeline::Latest,
            RecoveryTargetTimeline::Current => TargetTimeline::Current,
            RecoveryTargetTimeline::Number(number) => {
                TargetTimeline::Number(TimelineId::new(number))
            }
        },
        retry_interval: current.wal_retrieve_retry_interval,
        hot_standby: current.hot_standby,
        archiving: current.archive_mode != ArchiveMode::Off,
        parameters: Some(logged_parameters(current, last)),
    }
}

/// What is not a setting of ours stays what `initdb` wrote.
fn logged_parameters(current: &ServerSettings, last: ParameterChange) -> ParameterChange {
    let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    ParameterChange {
        max_connections: number(current.max_connections),
        max_wal_senders: number(current.max_wal_senders),
        wal_level: current.wal_level as i32,
        ..last
    }
}

/// Threads that run statements.
pub fn workers(current: &ServerSettings) -> usize {
    match current.worker_threads {
        0 => std::thread::available_parallelism()
            .map_or(4, usize::from)
            .max(2),
        n => n,
    }
}
