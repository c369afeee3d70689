//! Who may connect to an instance on Kubernetes: the records of its `pg_hba.conf`.

use super::credentials::REPLICATION_ROLE;
use crate::validate::ValidatedCluster;

/// The whole file. The first record that fits decides, so nothing that the user writes opens or closes what the
/// operator's own records are for: the supervisor's socket, which only its own pod can reach, and the standbys'
/// streams, which need the cluster's client certificate.
pub fn pg_hba(cluster: &ValidatedCluster) -> String {
    let mut records = vec![
        "local all all trust".to_owned(),
        format!("hostssl replication {REPLICATION_ROLE} all cert"),
        format!("hostssl all {REPLICATION_ROLE} all cert"),
        format!("host all {REPLICATION_ROLE} all reject"),
    ];
    records.extend(cluster.hba.iter().cloned());
    records.push("hostssl all all all scram-sha-256".to_owned());
    format!(
        "# Written by understudy-operator at each start.\n{}\n",
        records.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_s_records_stand_in_the_middle() {
        let cluster = ValidatedCluster {
            hba: vec!["host all all 10.0.0.0/8 trust".to_owned()],
            ..ValidatedCluster::default()
        };
        assert_eq!(
            pg_hba(&cluster),
            "# Written by understudy-operator at each start.\n\
             local all all trust\n\
             hostssl replication understudy_replication all cert\n\
             hostssl all understudy_replication all cert\n\
             host all understudy_replication all reject\n\
             host all all 10.0.0.0/8 trust\n\
             hostssl all all all scram-sha-256\n"
        );
    }
}
