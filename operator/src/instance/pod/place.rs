//! What a pod says of itself, and the [`Setup`] that it and the cluster object make together.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use super::Judge;
use crate::ids::Term;
use crate::instance::confirming::Witness;
use crate::instance::engine::LogTo;
use crate::instance::setup::{Origin, Primary, Setup};
use crate::names;
use crate::render::{
    CONTROL_PORT, HTTP_PORT, POSTGRES_PORT, REPLICATION_ROLE, RUN_DIR, SECRETS_DIR, TLS_DIR, pg_hba,
};
use crate::validate::ValidatedCluster;

/// Its presence says that this process runs in a pod.
const CLUSTER: &str = "UNDERSTUDY_CLUSTER";

/// The engine's program, beside this one.
const ENGINE: &str = "understudy";

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    pub cluster: String,
    pub namespace: String,
    pub instance: String,
    pub pod_uid: String,
    /// Every address, or for tests, which have many pods on one machine, the pod's own.
    listen: Option<IpAddr>,
    pub run: PathBuf,
    pub tls: PathBuf,
    pub secrets: PathBuf,
}

impl Place {
    /// None outside of a pod.
    ///
    /// # Errors
    /// When a variable is missing or makes no sense.
    pub fn from_environment() -> io::Result<Option<Place>> {
        Place::of(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> io::Result<Option<Place>> {
        let Some(cluster) = variable(CLUSTER) else {
            return Ok(None);
        };
        let wrong = |name: &str, what: &str| {
            let text = format!(
                "the environment variable {name} {what}; the operator's pod template sets it: undo what changed the pod"
            );
            io::Error::new(io::ErrorKind::InvalidInput, text)
        };
        let needed = |name: &str| variable(name).ok_or_else(|| wrong(name, "is missing"));
        let instance = needed("UNDERSTUDY_INSTANCE")?;
        if names::instance_number(&cluster, &instance).is_none() {
            return Err(wrong(
                "UNDERSTUDY_INSTANCE",
                &format!("is \"{instance}\", which is no instance of the cluster {cluster}"),
            ));
        }
        let listen = variable("UNDERSTUDY_LISTEN")
            .map(|address| address.parse::<IpAddr>())
            .transpose()
            .map_err(|_| wrong("UNDERSTUDY_LISTEN", "is no address"))?;
        // Where a test keeps what a pod has at the file system's root.
        let root = variable("UNDERSTUDY_ROOT").unwrap_or_else(|| "/".to_owned());
        let below = |path: &str| Path::new(&root).join(path.trim_start_matches('/'));
        Ok(Some(Place {
            namespace: needed("UNDERSTUDY_NAMESPACE")?,
            pod_uid: needed("UNDERSTUDY_POD_UID")?,
            run: below(RUN_DIR),
            tls: below(TLS_DIR),
            secrets: below(SECRETS_DIR),
            cluster,
            instance,
            listen,
        }))
    }

    #[cfg(test)]
    pub fn for_tests(root: &Path) -> Place {
        Place {
            cluster: "orders".to_owned(),
            namespace: "shop".to_owned(),
            instance: "orders-2".to_owned(),
            pod_uid: "p".to_owned(),
            listen: Some(Ipv4Addr::LOCALHOST.into()),
            run: root.join("run"),
            tls: root.join("tls"),
            secrets: root.join("secrets"),
        }
    }

    /// Where to listen: on all addresses of both kinds where there are both.
    pub fn address(&self, port: i32) -> SocketAddr {
        let all = || match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)) {
            Ok(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
            Err(_) => Ipv4Addr::UNSPECIFIED.into(),
        };
        SocketAddr::new(self.listen.unwrap_or_else(all), number(port))
    }

    pub fn control_address(&self) -> SocketAddr {
        self.address(CONTROL_PORT)
    }

    pub fn setup(&self, cluster: &ValidatedCluster, uid: &str, term: Term) -> io::Result<Setup> {
        let file = |of: &str| self.tls.join(of).to_string_lossy().into_owned();
        let listen = self.listen.map_or("*".to_owned(), |ip| ip.to_string());
        let settings = vec![
            ("listen_addresses", listen),
            (
                "unix_socket_directories",
                self.run.to_string_lossy().into_owned(),
            ),
            ("http_listen", self.address(HTTP_PORT).to_string()),
            ("password_encryption", "scram-sha-256".to_owned()),
            ("ssl", "on".to_owned()),
            ("ssl_ca_file", file("ca.crt")),
            ("ssl_cert_file", file("server.crt")),
            ("ssl_key_file", file("server.key")),
        ];
        let judge = Judge {
            namespace: self.namespace.clone(),
            cluster: self.cluster.clone(),
            instance: self.instance.clone(),
            uid: uid.to_owned(),
        };
        let password = self.password_file("superuser");
        let initdb = ["-A", "scram-sha-256", "--wal-segsize", "16", "--pwfile"].map(str::to_owned);
        Ok(Setup {
            cluster_id: uid.to_owned(),
            name: self.instance.clone(),
            engine: std::env::current_exe()?.with_file_name(ENGINE),
            log: LogTo::Standard,
            origin: Origin::Asked(judge.clone()),
            witness: Witness::Api(judge),
            term,
            storage_bytes: cluster.storage_bytes,
            parameters: cluster.parameters.clone(),
            port: number(POSTGRES_PORT),
            chosen_ports: Vec::new(),
            control_socket: self.run.join("engine.sock"),
            settings,
            hba: pg_hba(cluster),
            primary: Primary::Pod {
                service: format!(
                    "{}.{}.svc",
                    names::primary_service(&self.cluster),
                    self.namespace
                ),
                port: number(POSTGRES_PORT),
                tls: self.tls.clone(),
                role: REPLICATION_ROLE,
            },
            initdb: initdb
                .into_iter()
                .chain([password.to_string_lossy().into_owned()])
                .collect(),
            generation: cluster.generation,
        })
    }

    /// The password of `superuser`, `replication` or `app`.
    pub fn password_file(&self, of: &str) -> PathBuf {
        self.secrets.join(of).join("password")
    }
}

fn number(port: i32) -> u16 {
    u16::try_from(port).expect("a constant port")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(change: &[(&str, &str)]) -> io::Result<Option<Place>> {
        Place::of(|name| {
            let changed = change.iter().find(|(of, _)| *of == name);
            let value = match (changed, name) {
                (Some((_, value)), _) => value,
                (_, "UNDERSTUDY_CLUSTER") => "orders",
                (_, "UNDERSTUDY_NAMESPACE") => "shop",
                (_, "UNDERSTUDY_INSTANCE") => "orders-2",
                (_, "UNDERSTUDY_POD_UID") => "p",
                _ => "",
            };
            Some(value.to_owned()).filter(|value| !value.is_empty())
        })
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        assert_eq!(place(&[(CLUSTER, "")]).expect("no pod"), None);
        for (name, value, says) in [
            ("UNDERSTUDY_NAMESPACE", "", "is missing"),
            ("UNDERSTUDY_POD_UID", "", "is missing"),
            (
                "UNDERSTUDY_INSTANCE",
                "sales-2",
                "no instance of the cluster orders",
            ),
            ("UNDERSTUDY_LISTEN", "here", "is no address"),
        ] {
            let said = place(&[(name, value)]).expect_err("refused").to_string();
            assert!(said.contains(name) && said.contains(says), "{said}");
        }
    }

    #[test]
    fn a_pod_listens_everywhere_and_reaches_the_primary_over_tls() {
        let place = place(&[]).expect("read").expect("a pod");
        let cluster = ValidatedCluster {
            generation: 7,
            ..ValidatedCluster::default()
        };
        let setup = place.setup(&cluster, "u", Term::FIRST).expect("made");
        let value = |name: &str| {
            let mut all = setup.settings.iter();
            all.find(|(of, _)| *of == name).map(|(_, v)| v.as_str())
        };
        assert_eq!(value("listen_addresses"), Some("*"));
        assert_eq!(value("unix_socket_directories"), Some("/run/understudy"));
        assert_eq!(
            value("ssl_key_file"),
            Some("/etc/understudy/tls/server.key")
        );
        assert!(value("http_listen").is_some_and(|v| v.ends_with(":8080")));
        let conninfo = setup.conninfo(None);
        for part in [
            "host=orders-primary.shop.svc port=5432",
            "user=understudy_replication",
            "sslmode=verify-full",
        ] {
            assert!(conninfo.contains(part), "{conninfo}");
        }
        assert_eq!((setup.generation, setup.port), (7, 5432));
    }

    /// A manifest could undo it otherwise: let a pod listen where nobody finds it, or without TLS.
    #[test]
    fn what_a_pod_sets_is_owned() {
        let place = place(&[]).expect("read").expect("a pod");
        let setup = place.setup(&ValidatedCluster::default(), "u", Term::FIRST);
        let settings = setup.expect("made").settings;
        assert!(settings.len() > 5, "{settings:?}");
        for (name, _) in &settings {
            assert!(crate::validate::owned(name).is_some(), "{name}");
        }
    }
}
