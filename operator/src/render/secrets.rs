//! The Secrets: what an application connects with, the system's own roles, the certificates.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::credentials::{Certified, REPLICATION_ROLE, SUPERUSER};
use super::pod::POSTGRES_PORT;
use super::{Input, Object, labels};
use crate::names;
use crate::validate::ValidatedCluster;

pub const USERNAME: &str = "username";
pub const PASSWORD: &str = "password";
pub const CA_FILE: &str = "ca.crt";
pub const CA_KEY_FILE: &str = "ca.key";
pub const CERTIFICATE_FILE: &str = "tls.crt";
pub const KEY_FILE: &str = "tls.key";

const BASIC: &str = "kubernetes.io/basic-auth";
const TLS: &str = "kubernetes.io/tls";
const OPAQUE: &str = "Opaque";

pub(super) fn objects(input: &Input<'_>) -> Vec<Object> {
    let cluster = input.cluster;
    let name = &cluster.name;
    let made = input.credentials;
    let mut all = vec![
        secret(
            input,
            names::ca_secret(name),
            OPAQUE,
            vec![
                (CA_FILE, made.authority.certificate.clone()),
                (CA_KEY_FILE, made.authority.key.clone()),
            ],
        ),
        certificate(input, names::server_secret(name), &made.server),
        certificate(input, names::client_secret(name), &made.client),
        certificate(input, names::operator_secret(name), &made.operator),
        secret(
            input,
            names::replication_secret(name),
            BASIC,
            vec![
                (USERNAME, REPLICATION_ROLE.to_owned()),
                (PASSWORD, made.replication_password.clone()),
            ],
        ),
        secret(input, names::app_secret(name), BASIC, app(input)),
    ];
    if cluster.bootstrap.superuser_secret.is_none() {
        all.push(secret(
            input,
            names::superuser_secret(name),
            BASIC,
            vec![
                (USERNAME, SUPERUSER.to_owned()),
                (PASSWORD, made.superuser_password.clone()),
            ],
        ));
    }
    all
}

/// Everything that a client needs, certificate authority included: it mounts this Secret and nothing else.
fn app(input: &Input<'_>) -> Vec<(&'static str, String)> {
    let cluster = input.cluster;
    let password = &input.credentials.app_password;
    vec![
        (USERNAME, cluster.bootstrap.owner.clone()),
        (PASSWORD, password.clone()),
        ("host", write_host(cluster)),
        ("port", POSTGRES_PORT.to_string()),
        ("dbname", cluster.bootstrap.database.clone()),
        ("uri", uri(cluster, password)),
        (CA_FILE, input.credentials.authority.certificate.clone()),
    ]
}

/// Found from every namespace, whatever the cluster's domain is called.
pub fn write_host(cluster: &ValidatedCluster) -> String {
    let service = names::primary_service(&cluster.name);
    format!("{service}.{}.svc", cluster.namespace)
}

/// For libpq and what speaks its language. The time-outs are what lets a client notice a takeover: without them a
/// connection to a node that is gone waits for minutes. Where the authority's certificate is mounted only the client
/// knows: `PGSSLROOTCERT`, or `sslrootcert=` added.
fn uri(cluster: &ValidatedCluster, password: &str) -> String {
    format!(
        "postgresql://{}:{}@{}:{POSTGRES_PORT}/{}?sslmode=verify-full&connect_timeout=2&tcp_user_timeout=2000",
        percent(&cluster.bootstrap.owner),
        percent(password),
        write_host(cluster),
        percent(&cluster.bootstrap.database),
    )
}

/// RFC 3986: all but the unreserved characters.
fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            if plain {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

fn certificate(input: &Input<'_>, name: String, certified: &Certified) -> Object {
    secret(
        input,
        name,
        TLS,
        vec![
            (CERTIFICATE_FILE, certified.certificate.clone()),
            (KEY_FILE, certified.key.clone()),
            (CA_FILE, input.credentials.authority.certificate.clone()),
        ],
    )
}

fn secret(
    input: &Input<'_>,
    name: String,
    type_: &str,
    data: Vec<(&'static str, String)>,
) -> Object {
    let data: BTreeMap<String, ByteString> = data
        .into_iter()
        .map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())))
        .collect();
    Object::Secret(Secret {
        metadata: labels::metadata(input.cluster, input.uid, name),
        type_: Some(type_.to_owned()),
        data: Some(data),
        ..Secret::default()
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Credentials, Existing, WriteRouting};
    use super::*;
    use crate::validate::Bootstrap;

    /// The kind and the keys of the Secret of this name.
    fn rendered(cluster: &ValidatedCluster, name: &str) -> (String, Vec<(String, String)>) {
        let credentials = Credentials {
            app_password: "p@ss word".to_owned(),
            authority: Certified {
                certificate: "the authority's certificate".to_owned(),
                key: "the authority's key".to_owned(),
            },
            ..Credentials::default()
        };
        let all = objects(&Input {
            cluster,
            uid: "u",
            record: None,
            routes: None,
            instances: &[],
            existing: &Existing::default(),
            credentials: &credentials,
            default_image: "understudy:1",
            routing: WriteRouting::EndpointSlice,
        });
        let mut secrets = all.into_iter().filter_map(|object| match object {
            Object::Secret(secret) if secret.metadata.name.as_deref() == Some(name) => Some(secret),
            _ => None,
        });
        let secret = secrets.next().expect("it is rendered");
        let text = |bytes: ByteString| String::from_utf8(bytes.0).expect("text");
        let data = secret.data.unwrap_or_default().into_iter();
        let data = data.map(|(key, value)| (key, text(value))).collect();
        (secret.type_.unwrap_or_default(), data)
    }

    /// Applications mount this Secret and nothing else. Without the time-outs a client would not notice for minutes that
    /// its server's node is gone, and with a weaker `sslmode` anybody could stand in the server's place.
    #[test]
    fn the_secret_for_applications_has_all_that_a_client_needs() {
        let cluster = ValidatedCluster {
            name: "orders".to_owned(),
            namespace: "shop".to_owned(),
            bootstrap: Bootstrap {
                database: "stock-list".to_owned(),
                owner: "keeper".to_owned(),
                ..Bootstrap::default()
            },
            ..ValidatedCluster::default()
        };
        let (kind, data) = rendered(&cluster, "orders-app");
        assert_eq!(kind, "kubernetes.io/basic-auth");
        let wanted = [
            ("ca.crt", "the authority's certificate"),
            ("dbname", "stock-list"),
            ("host", "orders-primary.shop.svc"),
            ("password", "p@ss word"),
            ("port", "5432"),
            (
                "uri",
                "postgresql://keeper:p%40ss%20word@orders-primary.shop.svc:5432/stock-list\
                 ?sslmode=verify-full&connect_timeout=2&tcp_user_timeout=2000",
            ),
            ("username", "keeper"),
        ];
        assert_eq!(
            data,
            wanted.map(|(key, value)| (key.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn what_a_uri_can_not_hold_is_escaped() {
        assert_eq!(percent("aZ9-._~"), "aZ9-._~");
        assert_eq!(
            percent("p@ss:w/rd ?#%ä"),
            "p%40ss%3Aw%2Frd%20%3F%23%25%C3%A4"
        );
    }
}
