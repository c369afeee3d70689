//! `/metrics` of the operator, in Prometheus' text format.
//!
//! What moves with every commit is in the engines' own metrics; here is what the operator alone knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::stores::ClusterKey;
use crate::crd::{ConditionStatus, InstanceRole, LastRoleChange, ReplicatedClusterStatus};

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfCluster {
    namespace: String,
    cluster: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfInstance {
    namespace: String,
    cluster: String,
    instance: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfChange {
    namespace: String,
    cluster: String,
    kind: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfCondition {
    namespace: String,
    cluster: String,
    r#type: &'static str,
}

/// Those that every report has.
const CONDITIONS: [&str; 4] = ["Ready", "Progressing", "Degraded", "Protected"];

const FAILOVER: &str = "failover";
const SWITCHOVER: &str = "switchover";

type Histograms<S> = Family<S, Histogram, fn() -> Histogram>;

#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    leads: Gauge<i64, AtomicI64>,
    reconcile: Histograms<OfCluster>,
    errors: Family<OfCluster, Counter<u64, AtomicU64>>,
    changes: Histograms<OfChange>,
    lost: Family<OfCluster, Counter<u64, AtomicU64>>,
    term: Family<OfCluster, Gauge<i64, AtomicI64>>,
    in_sync: Family<OfCluster, Gauge<i64, AtomicI64>>,
    ready: Family<OfCluster, Gauge<i64, AtomicI64>>,
    wanted: Family<OfCluster, Gauge<i64, AtomicI64>>,
    conditions: Family<OfCondition, Gauge<i64, AtomicI64>>,
    primary: Family<OfInstance, Gauge<i64, AtomicI64>>,
    lag: Family<OfInstance, Gauge<i64, AtomicI64>>,
    /// The clusters that are followed, and the instances that the two before show of each.
    shown: Mutex<BTreeMap<ClusterKey, BTreeSet<String>>>,
}

fn short() -> Histogram {
    // From a tenth of a millisecond to a good three seconds.
    Histogram::new(exponential_buckets(0.000_1, 2.0, 16))
}

fn takeovers() -> Histogram {
    Histogram::new([
        0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0,
    ])
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut metrics = Metrics {
            registry: Registry::default(),
            leads: Gauge::default(),
            reconcile: Family::new_with_constructor(short),
            errors: Family::default(),
            changes: Family::new_with_constructor(takeovers),
            lost: Family::default(),
            term: Family::default(),
            in_sync: Family::default(),
            ready: Family::default(),
            wanted: Family::default(),
            conditions: Family::default(),
            primary: Family::default(),
            lag: Family::default(),
            shown: Mutex::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = self.registry.sub_registry_with_prefix("understudy");
        let name = "operator_leader";
        registry.register(name, "Whether this process acts", self.leads.clone());
        let name = "reconcile_seconds";
        let help = "From observing to the end of writing";
        registry.register(name, help, self.reconcile.clone());
        let name = "reconcile_errors";
        let help = "Rounds that ended with an error of the API server's";
        registry.register(name, help, self.errors.clone());
        let name = "role_change_seconds";
        let help = "From the cause of a failover or switchover to the first possible commit";
        registry.register(name, help, self.changes.clone());
        let name = "failover_lost_bytes";
        let help = "Log that old primaries had and new ones never got, acknowledged or not";
        registry.register(name, help, self.lost.clone());
        registry.register("cluster_term", "The record's term", self.term.clone());
        let name = "cluster_in_sync_members";
        let help = "Standbys that commits wait for";
        registry.register(name, help, self.in_sync.clone());
        let name = "cluster_ready_instances";
        let help = "Instances that are ready";
        registry.register(name, help, self.ready.clone());
        let name = "cluster_wanted_instances";
        let help = "Instances that the manifest asks for: the primary and its standbys";
        registry.register(name, help, self.wanted.clone());
        let name = "cluster_condition";
        let help = "1 where the condition of this type is True";
        registry.register(name, help, self.conditions.clone());
        let name = "instance_primary";
        let help = "1 for the primary, 0 for every other instance";
        registry.register(name, help, self.primary.clone());
        let name = "instance_lag_bytes";
        let help = "Log that the primary had flushed and this standby had not, at the last look";
        registry.register(name, help, self.lag.clone());
    }

    pub fn leads(&self, leads: bool) {
        self.leads.set(i64::from(leads));
    }

    /// From now on the cluster is shown. A task that was told to end may be at its last round: what it says after
    /// [`Metrics::let_go`] counts no more.
    pub fn follow(&self, key: &ClusterKey) {
        self.shown.lock().entry(key.clone()).or_default();
    }

    /// A round of reconciling ended.
    pub fn reconciled(&self, key: &ClusterKey, took: Duration, well: bool) {
        let shown = self.shown.lock();
        if !shown.contains_key(key) {
            return;
        }
        let of = of_cluster(key);
        self.reconcile
            .get_or_create(&of)
            .observe(took.as_secs_f64());
        if !well {
            self.errors.get_or_create(&of).inc();
        }
    }

    /// So many instances are wanted of the cluster.
    pub fn wants(&self, key: &ClusterKey, instances: u32) {
        let shown = self.shown.lock();
        if shown.contains_key(key) {
            let wanted = self.wanted.get_or_create(&of_cluster(key));
            wanted.set(i64::from(instances));
        }
    }

    /// What a status says now, and what it newly says of changes of role.
    pub fn reported(
        &self,
        key: &ClusterKey,
        before: &ReplicatedClusterStatus,
        after: &ReplicatedClusterStatus,
    ) {
        let mut all = self.shown.lock();
        let Some(shown) = all.get_mut(key) else {
            return;
        };
        let of = of_cluster(key);
        let term = after.term.map_or(0, |term| i64::from(term.number()));
        self.term.get_or_create(&of).set(term);
        let members = after.in_sync.last().map_or(0, |set| set.members.len());
        self.in_sync
            .get_or_create(&of)
            .set(i64::try_from(members).unwrap_or(i64::MAX));
        self.ready
            .get_or_create(&of)
            .set(i64::from(after.ready_instances));
        for instance in &after.instances {
            let of = of_instance(key, &instance.name);
            let is_primary = instance.role == InstanceRole::Primary;
            self.primary.get_or_create(&of).set(i64::from(is_primary));
            let lag = instance.lag_bytes.unwrap_or(0);
            self.lag
                .get_or_create(&of)
                .set(i64::try_from(lag).unwrap_or(i64::MAX));
        }
        for type_ in CONDITIONS {
            let said = after.conditions.iter().find(|c| c.type_ == type_);
            if let Some(condition) = said {
                let is_true = condition.status == ConditionStatus::True;
                let of = of_condition(key, type_);
                self.conditions.get_or_create(&of).set(i64::from(is_true));
            }
        }
        let names = after.instances.iter().map(|i| i.name.clone());
        let names: BTreeSet<String> = names.collect();
        let before_that = std::mem::replace(shown, names);
        for gone in before_that.difference(shown) {
            self.hide(key, gone);
        }
        self.changed(key, FAILOVER, &before.last_failover, &after.last_failover);
        self.changed(
            key,
            SWITCHOVER,
            &before.last_switchover,
            &after.last_switchover,
        );
    }

    fn changed(
        &self,
        key: &ClusterKey,
        kind: &'static str,
        before: &Option<LastRoleChange>,
        after: &Option<LastRoleChange>,
    ) {
        let Some(change) = after else { return };
        let old = before.as_ref().filter(|old| old.term == change.term);
        if old.is_none() {
            let of = of_change(key, kind);
            self.changes.get_or_create(&of).observe(change.seconds);
        }
        // It is known later than the rest: when the old primary has been seen.
        let known = old.and_then(|old| old.lost_bytes);
        if let (None, Some(lost)) = (known, change.lost_bytes) {
            self.lost.get_or_create(&of_cluster(key)).inc_by(lost);
        }
    }

    fn hide(&self, key: &ClusterKey, instance: &str) {
        let of = of_instance(key, instance);
        self.primary.remove(&of);
        self.lag.remove(&of);
    }

    /// Another operator leads from now on: what the cluster is like is his to say. What was counted here stays.
    pub fn let_go(&self, key: &ClusterKey) {
        let mut all = self.shown.lock();
        let of = of_cluster(key);
        self.term.remove(&of);
        self.in_sync.remove(&of);
        self.ready.remove(&of);
        self.wanted.remove(&of);
        for type_ in CONDITIONS {
            self.conditions.remove(&of_condition(key, type_));
        }
        for instance in all.remove(key).unwrap_or_default() {
            self.hide(key, &instance);
        }
    }

    /// The cluster is gone.
    pub fn forget(&self, key: &ClusterKey) {
        self.let_go(key);
        let of = of_cluster(key);
        self.reconcile.remove(&of);
        self.errors.remove(&of);
        self.lost.remove(&of);
        for kind in [FAILOVER, SWITCHOVER] {
            self.changes.remove(&of_change(key, kind));
        }
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string can't fail");
        text
    }
}

fn of_cluster(key: &ClusterKey) -> OfCluster {
    OfCluster {
        namespace: key.namespace.clone(),
        cluster: key.name.clone(),
    }
}

fn of_instance(key: &ClusterKey, instance: &str) -> OfInstance {
    OfInstance {
        namespace: key.namespace.clone(),
        cluster: key.name.clone(),
        instance: instance.to_owned(),
    }
}

fn of_condition(key: &ClusterKey, type_: &'static str) -> OfCondition {
    OfCondition {
        namespace: key.namespace.clone(),
        cluster: key.name.clone(),
        r#type: type_,
    }
}

fn of_change(key: &ClusterKey, kind: &'static str) -> OfChange {
    OfChange {
        namespace: key.namespace.clone(),
        cluster: key.name.clone(),
        kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Millis, Term};

    fn orders() -> ClusterKey {
        ClusterKey {
            namespace: "shop".to_owned(),
            name: "orders".to_owned(),
        }
    }

    /// Two operators that both show a primary would contradict each other.
    #[test]
    fn who_leads_no_longer_shows_no_cluster_and_one_that_is_gone_leaves_nothing() {
        let status = |instances: serde_json::Value| -> ReplicatedClusterStatus {
            let change = serde_json::json!({"cause": "x", "new": "orders-2", "term": 2, "detectedAt": 1,
                "promotedAt": 2, "writableAt": 3, "seconds": 0.4, "lostBytes": 7});
            serde_json::from_value(
                serde_json::json!({"instances": instances, "lastFailover": change}),
            )
            .expect("a status")
        };
        let instance = |name: &str, role: &str| serde_json::json!({"name": name, "role": role, "ready": true, "inSync": true});
        let (key, metrics) = (orders(), Metrics::default());
        metrics.follow(&key);
        let none = ReplicatedClusterStatus::default();
        let both = [
            instance("orders-1", "Primary"),
            instance("orders-2", "Standby"),
        ];
        metrics.reported(&key, &none, &status(both.to_vec().into()));
        let one = vec![instance("orders-1", "Primary")];
        metrics.reported(&key, &none, &status(one.into()));
        metrics.reconciled(&key, Duration::from_millis(1), false);
        let text = metrics.text();
        let shows = |text: &str, instance: &str| text.contains(&format!("instance=\"{instance}\""));
        assert!(
            shows(&text, "orders-1") && !shows(&text, "orders-2"),
            "{text}"
        );

        metrics.let_go(&key);
        // The last words of its task.
        metrics.reported(&key, &none, &status(both.to_vec().into()));
        let text = metrics.text();
        assert!(
            !shows(&text, "orders-1") && !text.contains("cluster_term{"),
            "{text}"
        );
        assert!(text.contains("reconcile_errors_total{"), "{text}");

        metrics.forget(&key);
        metrics.reconciled(&key, Duration::from_millis(1), false);
        let text = metrics.text();
        assert!(!text.contains("cluster=\"orders\""), "{text}");
    }

    #[test]
    fn what_is_wanted_and_what_the_conditions_say_is_shown_while_this_process_leads() {
        let (key, metrics) = (orders(), Metrics::default());
        let none = ReplicatedClusterStatus::default();
        let status = |degraded: &str| -> ReplicatedClusterStatus {
            let condition = |type_: &str, status: &str| {
                serde_json::json!({"type": type_, "status": status, "reason": "R",
                "message": "m", "observedGeneration": 1, "lastTransitionTime": "t"})
            };
            let conditions = [condition("Ready", "True"), condition("Degraded", degraded)];
            serde_json::from_value(serde_json::json!({"conditions": conditions})).expect("a status")
        };
        let of = "namespace=\"shop\",cluster=\"orders\"";
        let shows = |line: String| metrics.text().contains(&line);
        let is_degraded = |number: u8| {
            shows(format!(
                "understudy_cluster_condition{{{of},type=\"Degraded\"}} {number}"
            ))
        };
        metrics.wants(&key, 3);
        assert!(!metrics.text().contains("wanted_instances{"), "not its own");
        metrics.follow(&key);
        metrics.wants(&key, 3);
        metrics.reported(&key, &none, &status("True"));
        assert!(shows(format!(
            "understudy_cluster_wanted_instances{{{of}}} 3"
        )));
        assert!(shows(format!(
            "understudy_cluster_condition{{{of},type=\"Ready\"}} 1"
        )));
        assert!(is_degraded(1) && !shows("Protected".to_owned()));
        metrics.reported(&key, &none, &status("False"));
        assert!(is_degraded(0));
        metrics.let_go(&key);
        assert!(!metrics.text().contains("cluster=\"orders\""));
    }

    #[test]
    fn a_failover_is_counted_once_and_its_loss_when_it_is_known() {
        let metrics = Metrics::default();
        let key = orders();
        metrics.follow(&key);
        let before = ReplicatedClusterStatus::default();
        let mut after = before.clone();
        let change = LastRoleChange {
            gap: None,
            cause: "x".to_owned(),
            old: None,
            old_id: None,
            new: "orders-2".to_owned(),
            term: Term::new(2),
            detected_at: Millis::new(1),
            promoted_at: Millis::new(2),
            writable_at: Millis::new(3),
            seconds: 0.4,
            lost_bytes: None,
            forced: false,
        };
        after.last_failover = Some(change.clone());
        metrics.reported(&key, &before, &after);
        let mut later = after.clone();
        later.last_failover = Some(LastRoleChange {
            lost_bytes: Some(70),
            ..change
        });
        metrics.reported(&key, &after, &later);
        metrics.reported(&key, &later, &later);
        let text = metrics.text();
        let of = "namespace=\"shop\",cluster=\"orders\"";
        for line in [
            format!("understudy_role_change_seconds_count{{{of},kind=\"failover\"}} 1"),
            format!("understudy_failover_lost_bytes_total{{{of}}} 70"),
        ] {
            assert!(text.contains(&line), "{line}\n{text}");
        }
    }
}
