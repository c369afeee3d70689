//! What a supervisor works by, wherever it runs: values that were made once of what its platform says.
//!
//! [`InstanceConfig`] (local mode) and the cluster object (`pod/`) each become a [`Setup`]; what writes files, seeds and
//! starts the engine knows nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::InstanceConfig;
use super::confirming::Witness;
use super::engine::{LogTo, control_socket};
use super::pod::Judge;
use crate::api::{SeedSource, Upstream};
use crate::decide::Seed;
use crate::ids::Term;

/// How a volume that never had data gets some.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    Told(Seed),
    /// The record says it, at the moment when it is needed.
    Asked(Judge),
}

/// How the primary is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Primary {
    /// By a port of this machine, whoever connects.
    Local { service_port: u16 },
    /// By TLS, as the role of the standbys.
    Pod {
        service: String,
        port: u16,
        tls: PathBuf,
        role: &'static str,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setup {
    pub cluster_id: String,
    pub name: String,
    /// The engine's program.
    pub engine: PathBuf,
    pub log: LogTo,
    pub origin: Origin,
    /// Who says whether this still is the primary.
    pub witness: Witness,
    /// The term in which the instance was made: the least that it may promise.
    pub term: Term,
    pub storage_bytes: u64,
    /// `spec.parameters`, validated.
    pub parameters: BTreeMap<String, String>,
    pub port: u16,
    /// Loopback ports that were free when they were chosen for the engine; none in a pod, which has its own.
    pub chosen_ports: Vec<u16>,
    pub control_socket: PathBuf,
    /// Settings that follow from where it runs.
    pub settings: Vec<(&'static str, String)>,
    /// The whole of `pg_hba.conf`.
    pub hba: String,
    pub primary: Primary,
    /// Arguments of `initdb` besides the usual ones.
    pub initdb: Vec<String>,
    /// Of the cluster object, on Kubernetes.
    pub generation: i64,
}

impl Setup {
    /// Whether the engine's files would be the same.
    pub fn writes_the_same(&self, other: &Setup) -> bool {
        self.parameters == other.parameters
            && self.settings == other.settings
            && self.hba == other.hba
            && self.primary == other.primary
            && self.storage_bytes == other.storage_bytes
    }

    /// How this instance reaches the primary, as libpq writes it. `told` comes first: the Service may not lead there
    /// yet.
    pub fn conninfo(&self, told: Option<&Upstream>) -> String {
        let rest = self.conninfo_rest();
        match &self.primary {
            Primary::Local { service_port } => format!("host=127.0.0.1 port={service_port} {rest}"),
            Primary::Pod { service, port, .. } => {
                let hosts = match told {
                    Some(told) => {
                        format!("host={},{service} hostaddr='{},'", told.host, told.address)
                    }
                    None => format!("host={service}"),
                };
                format!("{hosts} port={port} {rest}")
            }
        }
    }

    /// How it reaches the standby that it is to copy.
    pub fn conninfo_of(&self, source: &SeedSource) -> String {
        let SeedSource {
            host,
            address,
            port,
            ..
        } = source;
        let rest = self.conninfo_rest();
        match &self.primary {
            Primary::Local { .. } => format!("host={host} port={port} {rest}"),
            Primary::Pod { .. } => format!("host={host} hostaddr={address} port={port} {rest}"),
        }
    }

    /// Who connects, and what it asks of the other end.
    fn conninfo_rest(&self) -> String {
        let name = &self.name;
        match &self.primary {
            Primary::Local { .. } => format!("user=postgres application_name={name}"),
            Primary::Pod { tls, role, .. } => {
                let file = |of: &str| quoted(&tls.join(of));
                format!(
                    "user={role} application_name={name} connect_timeout=2 \
                     sslmode=verify-full sslrootcert={} sslcert={} sslkey={}",
                    file("ca.crt"),
                    file("client.crt"),
                    file("client.key"),
                )
            }
        }
    }
}

fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Local mode listens on loopback only, and trusts who can reach that.
const LOCAL_HBA: &str = "\
# Written by understudy-operator at each start.
local   all          all                trust
host    all          all  127.0.0.1/32  trust
host    all          all  ::1/128       trust
host    replication  all  127.0.0.1/32  trust
host    replication  all  ::1/128       trust
";

/// What local mode's operator has written for the instance whose volume is `dir`.
pub fn local(config: InstanceConfig, dir: &Path) -> Setup {
    Setup {
        settings: vec![
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("unix_socket_directories", String::new()),
            ("http_listen", format!("127.0.0.1:{}", config.http_port)),
        ],
        hba: LOCAL_HBA.to_owned(),
        primary: Primary::Local {
            service_port: config.service_port,
        },
        control_socket: control_socket(dir),
        initdb: ["-A", "trust"].map(str::to_owned).to_vec(),
        log: LogTo::File,
        origin: Origin::Told(config.seed),
        witness: Witness::File(config.token_file.with_file_name("cluster.json")),
        cluster_id: config.cluster_id,
        name: config.name,
        engine: config.engine,
        term: config.term,
        storage_bytes: config.storage_bytes,
        parameters: config.parameters,
        port: config.port,
        chosen_ports: vec![config.port, config.http_port],
        generation: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_primary_that_was_told_comes_before_the_service() {
        let dir = Path::new("/v");
        let config = InstanceConfig {
            cluster: "orders".to_owned(),
            cluster_id: "c".to_owned(),
            name: "orders-2".to_owned(),
            control_port: 1,
            port: 2,
            http_port: 3,
            service_port: 4,
            token_file: dir.join("token"),
            engine: dir.join("understudy"),
            seed: Seed::Backup,
            term: Term::FIRST,
            storage_bytes: 1 << 30,
            parameters: BTreeMap::new(),
        };
        let mut setup = local(config, dir);
        let source = SeedSource {
            instance: "orders-3".to_owned(),
            host: "orders-3-0.orders-instances.shop.svc".to_owned(),
            address: "10.0.0.9".parse().expect("an address"),
            port: 5433,
        };
        assert_eq!(
            setup.conninfo_of(&source),
            "host=orders-3-0.orders-instances.shop.svc port=5433 user=postgres application_name=orders-2"
        );
        let told = Upstream {
            host: "orders-1-0.orders-instances.shop.svc".to_owned(),
            address: "10.0.0.7".parse().expect("an address"),
        };
        assert_eq!(
            setup.conninfo(Some(&told)),
            "host=127.0.0.1 port=4 user=postgres application_name=orders-2"
        );
        setup.primary = Primary::Pod {
            service: "orders-primary.shop.svc".to_owned(),
            port: 5432,
            tls: PathBuf::from("/etc/it's"),
            role: "understudy_replication",
        };
        let rest = "user=understudy_replication application_name=orders-2 \
                    connect_timeout=2 sslmode=verify-full sslrootcert='/etc/it\\'s/ca.crt' \
                    sslcert='/etc/it\\'s/client.crt' sslkey='/etc/it\\'s/client.key'";
        assert_eq!(
            setup.conninfo(Some(&told)),
            format!(
                "host=orders-1-0.orders-instances.shop.svc,orders-primary.shop.svc \
                 hostaddr='10.0.0.7,' port=5432 {rest}"
            )
        );
        assert_eq!(
            setup.conninfo_of(&source),
            format!("host=orders-3-0.orders-instances.shop.svc hostaddr=10.0.0.9 port=5433 {rest}")
        );
        assert_eq!(
            setup.conninfo(None),
            format!("host=orders-primary.shop.svc port=5432 {rest}")
        );
    }
}
