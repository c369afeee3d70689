//! The names of everything that belongs to a cluster. A role never follows from a name.
//!
//! A cluster's name has at most 40 characters ([`MAX_NAME`]): an instance's number may have ten digits, a
//! StatefulSet's pods carry a label of its name and eleven characters more, and a label holds 63.

/// The longest name of a cluster.
pub const MAX_NAME: usize = 40;

/// The n-th instance, counted from 1: `orders-1`.
pub fn instance(cluster: &str, number: u32) -> String {
    format!("{cluster}-{number}")
}

/// The number of an instance of this cluster, `None` for any other name.
pub fn instance_number(cluster: &str, name: &str) -> Option<u32> {
    let digits = name.strip_prefix(cluster)?.strip_prefix('-')?;
    let plain = !digits.is_empty() && !digits.starts_with('0');
    if plain && digits.bytes().all(|b| b.is_ascii_digit()) {
        digits.parse().ok()
    } else {
        None
    }
}

/// The pod of an instance: its StatefulSet's only one.
pub fn pod(instance: &str) -> String {
    format!("{instance}-0")
}

/// The instance whose pod has this name.
pub fn instance_of_pod(pod: &str) -> Option<&str> {
    pod.strip_suffix("-0")
}

/// The volume claim of an instance, which outlives its pod and its StatefulSet.
pub fn claim(instance: &str) -> String {
    format!("{CLAIM_TEMPLATE}-{}", pod(instance))
}

/// The claim's name in the StatefulSet, and the volume's in the pod.
pub const CLAIM_TEMPLATE: &str = "data";

/// The Service that leads to the primary.
pub fn primary_service(cluster: &str) -> String {
    format!("{cluster}-primary")
}

/// The Service that leads to the standbys.
pub fn standby_service(cluster: &str) -> String {
    format!("{cluster}-standby")
}

/// The Service that leads to any instance that answers.
pub fn any_service(cluster: &str) -> String {
    format!("{cluster}-any")
}

/// The headless Service that gives each pod its name, ready or not.
pub fn instances_service(cluster: &str) -> String {
    format!("{cluster}-instances")
}

/// What the names of a cluster's Secrets end with.
pub const SECRET_SUFFIXES: &[&str] = &[
    "app",
    "superuser",
    "replication",
    "ca",
    "server",
    "client",
    "operator",
];

/// What an application needs to connect.
pub fn app_secret(cluster: &str) -> String {
    format!("{cluster}-app")
}

pub fn superuser_secret(cluster: &str) -> String {
    format!("{cluster}-superuser")
}

/// What a standby presents to its primary.
pub fn replication_secret(cluster: &str) -> String {
    format!("{cluster}-replication")
}

/// The certificate authority with its key; no pod sees it.
pub fn ca_secret(cluster: &str) -> String {
    format!("{cluster}-ca")
}

/// The certificate that every instance shows.
pub fn server_secret(cluster: &str) -> String {
    format!("{cluster}-server")
}

/// The client certificate of the instances.
pub fn client_secret(cluster: &str) -> String {
    format!("{cluster}-client")
}

/// The client certificate by which instances know the operator.
pub fn operator_secret(cluster: &str) -> String {
    format!("{cluster}-operator")
}

/// Service account, Role and RoleBinding of the instances; also the budget and the network policy.
pub fn instances(cluster: &str) -> String {
    format!("{cluster}-instances")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_from_the_clusters_own_names_only() {
        assert_eq!(instance_number("orders", &instance("orders", 12)), Some(12));
        for other in [
            "orders",
            "orders-",
            "orders-0",
            "orders-01",
            "orders-x",
            "sales-1",
            "orders-1-0",
        ] {
            assert_eq!(instance_number("orders", other), None, "{other}");
        }
    }

    #[test]
    fn a_pod_leads_back_to_its_instance() {
        assert_eq!(instance_of_pod(&pod("orders-12")), Some("orders-12"));
        assert_eq!(instance_of_pod("orders-12"), None);
    }

    #[test]
    fn the_longest_cluster_leaves_room_for_every_derived_name() {
        let cluster = "c".repeat(MAX_NAME);
        let last = instance(&cluster, u32::MAX);
        // The label controller-revision-hash is the StatefulSet's name, a dash and ten characters.
        assert!(last.len() + 11 <= 63, "{last}");
        assert!(pod(&last).len() <= 63);
        for name in [
            primary_service(&cluster),
            standby_service(&cluster),
            any_service(&cluster),
            instances_service(&cluster),
        ] {
            assert!(name.len() <= 63, "{name}");
        }
        let secrets = [
            app_secret("c"),
            superuser_secret("c"),
            replication_secret("c"),
            ca_secret("c"),
            server_secret("c"),
            client_secret("c"),
            operator_secret("c"),
        ];
        let suffixes: Vec<String> = SECRET_SUFFIXES.iter().map(|s| format!("c-{s}")).collect();
        assert_eq!(secrets.to_vec(), suffixes);
    }
}
