//! The cluster object: followed by a watch, and read where an old state would not do.
//!
//! The supervisor never waits for the API: what it needs to go on is on its volume (`kept.rs`).

use std::time::Duration;

use futures::StreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, Client, Config};
use tokio::sync::mpsc;

use crate::crd::{Phase, ReplicatedCluster};
use crate::decide::Seed;
use crate::names;

/// How long one read may take.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// How long the API server may take to take a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A watch is opened anew so often.
const WATCH_SECONDS: u32 = 60;
/// How long nothing may come while an answer is due, and in a watch, which is silent while nothing happens: a connection
/// that died without a word would never be heard of again.
const SILENCE: Duration = Duration::from_secs(90);
/// Between two attempts to get a client at all.
const CLIENT_PAUSE: Duration = Duration::from_secs(2);

/// What is heard of the cluster object.
#[derive(Debug)]
pub enum News {
    Cluster(Box<ReplicatedCluster>),
    Gone,
    /// Nothing is heard, and why.
    Away(String),
}

/// Follows the object for the life of the process.
pub fn follow(namespace: &str, cluster: &str) -> mpsc::Receiver<News> {
    let (sender, receiver) = mpsc::channel(4);
    let (namespace, cluster) = (namespace.to_owned(), cluster.to_owned());
    tokio::spawn(async move {
        loop {
            let news = match client().await {
                Ok(client) => {
                    let api = Api::namespaced(client, &namespace);
                    if pass_on(api, &cluster, &sender).await.is_err() {
                        return;
                    }
                    continue;
                }
                Err(error) => News::Away(format!("there is no way to the Kubernetes API: {error}")),
            };
            if sender.send(news).await.is_err() {
                return;
            }
            tokio::time::sleep(CLIENT_PAUSE).await;
        }
    });
    receiver
}

/// Whatever it is used for ends: nothing here waits for an API server that went away without a word.
async fn client() -> Result<Client, String> {
    let mut config = Config::infer().await.map_err(|e| e.to_string())?;
    config.connect_timeout = Some(CONNECT_LIMIT);
    config.write_timeout = Some(READ_LIMIT);
    config.read_timeout = Some(SILENCE);
    // From the request on, not since the connection was used last.
    config.reset_reader_on_write = true;
    Client::try_from(config).map_err(|e| e.to_string())
}

async fn pass_on(
    api: Api<ReplicatedCluster>,
    cluster: &str,
    sender: &mpsc::Sender<News>,
) -> Result<(), mpsc::error::SendError<News>> {
    let config = watcher::Config::default()
        .fields(&format!("metadata.name={cluster}"))
        .timeout(WATCH_SECONDS);
    let stream = watch(api, config).default_backoff();
    futures::pin_mut!(stream);
    // In the list that a watch begins with.
    let mut is_listed = false;
    while let Some(event) = stream.next().await {
        let news = match event {
            Ok(Event::Init) => {
                is_listed = false;
                continue;
            }
            Ok(Event::InitApply(object)) => {
                is_listed = true;
                News::Cluster(Box::new(object))
            }
            Ok(Event::Apply(object)) => News::Cluster(Box::new(object)),
            Ok(Event::InitDone) if is_listed => continue,
            Ok(Event::InitDone | Event::Delete(_)) => News::Gone,
            Err(error) => News::Away(format!(
                "the Kubernetes API does not give out the cluster object: {error}"
            )),
        };
        sender.send(news).await?;
    }
    Ok(())
}

/// Reads the object where an old one would not do; decides whether the very first instance begins with an empty database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Judge {
    pub namespace: String,
    pub cluster: String,
    pub instance: String,
    pub uid: String,
}

impl Judge {
    /// The object as it is at this moment, not from any cache. Takes as long as it takes.
    pub async fn object(&self) -> Result<ReplicatedCluster, String> {
        let api: Api<ReplicatedCluster> = Api::namespaced(client().await?, &self.namespace);
        api.get(&self.cluster).await.map_err(|e| e.to_string())
    }

    /// Reads the record as it is at this moment, not from any cache: an old one could still say that nothing was ever
    /// stored.
    pub async fn seed(&self) -> Result<Seed, String> {
        if names::instance_number(&self.cluster, &self.instance) != Some(1) {
            return Ok(Seed::Backup);
        }
        let object = tokio::time::timeout(READ_LIMIT, self.object())
            .await
            .map_err(|_| "the Kubernetes API does not answer".to_owned())??;
        self.judge(&object)
    }

    fn judge(&self, object: &ReplicatedCluster) -> Result<Seed, String> {
        if object.metadata.uid.as_deref() != Some(&self.uid) {
            return Err("the cluster object was deleted and made anew".to_owned());
        }
        let record = object
            .status
            .as_ref()
            .and_then(crate::crd::ReplicatedClusterStatus::record)
            .ok_or("the operator has not made a record of the cluster yet")?;
        let nothing_yet = record.phase == Phase::Creating && record.system_id.is_none();
        Ok(if nothing_yet {
            Seed::Initdb
        } else {
            Seed::Backup
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_record_that_says_so_allows_an_empty_database() {
        let judge = |instance: &str| Judge {
            namespace: "shop".to_owned(),
            cluster: "orders".to_owned(),
            instance: instance.to_owned(),
            uid: "u".to_owned(),
        };
        let object = |uid: &str, status: serde_json::Value| -> ReplicatedCluster {
            serde_json::from_value(serde_json::json!({
                "apiVersion": "understudy.dev/v1alpha1", "kind": "ReplicatedCluster",
                "metadata": {"name": "orders", "uid": uid},
                "spec": {"storage": {"size": "1Gi"}},
                "status": status,
            }))
            .expect("reads")
        };
        let record = |phase: &str, system: serde_json::Value| serde_json::json!({"recordVersion": 1, "term": 1, "phase": phase, "inSync": [], "systemId": system});
        let first = judge("orders-1");
        let none = serde_json::Value::Null;
        let creating = record("Creating", none.clone());
        assert_eq!(
            first.judge(&object("u", creating.clone())),
            Ok(Seed::Initdb)
        );
        for status in [
            record("Running", none.clone()),
            record("Creating", "7".into()),
            record("FailingOver", none.clone()),
        ] {
            assert_eq!(first.judge(&object("u", status)), Ok(Seed::Backup));
        }
        assert!(first.judge(&object("u", none)).is_err(), "no record yet");
        assert!(first.judge(&object("another", creating)).is_err());
    }

    /// It is not even asked for: there is no API here that could answer.
    #[tokio::test]
    async fn another_instance_never_begins_with_an_empty_database() {
        let judge = Judge {
            namespace: "shop".to_owned(),
            cluster: "orders".to_owned(),
            instance: "orders-2".to_owned(),
            uid: "u".to_owned(),
        };
        assert_eq!(judge.seed().await, Ok(Seed::Backup));
    }
}
