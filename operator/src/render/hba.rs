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

/// Whether one of the user's records asks where a client comes from, so that it must come from there itself. One that can
/// be read in two ways does.
pub fn tells_addresses_apart(records: &[String]) -> bool {
    records.iter().any(|record| {
        let words: Vec<&str> = record.split_whitespace().collect();
        // The address is the fourth word, unless a name holds blanks or a list goes on behind one.
        let is_plain =
            |word: &&str| !word.contains('"') && !word.starts_with(',') && !word.ends_with(',');
        let is_anywhere = words.get(3) == Some(&"all") && words.iter().all(is_plain);
        !is_anywhere
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_ask_for_an_address_are_known() {
        for (record, asks) in [
            ("host all app all md5", false),
            ("hostssl\tshop,stock\t+staff\tall\tscram-sha-256", false),
            ("host all all 10.0.0.0/8 trust", true),
            ("host all all 10.0.0.0 255.0.0.0 trust", true),
            ("hostssl all all samenet scram-sha-256", true),
            ("host all all .example.com reject", true),
            ("host all all 0.0.0.0/0 md5", true),
            // Two databases, and any role from there.
            ("host shop, all all 10.0.0.0/8 trust", true),
            ("host shop ,stock all 10.0.0.0/8 trust", true),
            ("host \"a all all\" all 10.0.0.0/8 trust", true),
            ("host all", true),
        ] {
            assert_eq!(
                tells_addresses_apart(&[record.to_owned()]),
                asks,
                "{record:?}"
            );
        }
        assert!(!tells_addresses_apart(&[]));
        let records = ["host all all all md5", "host all all ::1/128 trust"].map(str::to_owned);
        assert!(tells_addresses_apart(&records));
    }

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
