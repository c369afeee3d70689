//! The controller's process: leads or waits, and watches in both cases.
//!
//! Two of them may run at once without harm; the lease only saves them the work. On SIGTERM a role that is on its way gets
//! where it is going, because clients wait for that: a drain ends the leader and a primary at one moment, and whoever
//! leads next asks for the lease twice a second. Then the lease is released, so that the other one goes on at once;
//! clusters go on serving in between.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::events::Unwritten;
use super::leader::Leadership;
use super::server::{Health, serve};
use super::stores::Stores;
use super::tasks::Tasks;
use crate::crd::check_kubernetes;
use crate::faults;

/// Between two questions to an API server that does not answer.
const VERSION_PAUSE: Duration = Duration::from_secs(1);
/// How long the API server may take to take a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long it may say nothing while a call waits for its answer: a connection that died silently would hold up a
/// cluster's task for as long as the system tries to send.
const CALL_SILENCE: Duration = Duration::from_secs(10);
/// The same for watches, which are silent while nothing happens. Each is opened anew more often than that.
const WATCH_SILENCE: Duration = Duration::from_secs(90);

/// What a role that is on its way gets when this process is told to end: less than somebody else needs who waits until the
/// lease has run out, and well within the pod's time to end.
const FINISH_LIMIT: Duration = Duration::from_secs(3);
const FINISH_PAUSE: Duration = Duration::from_millis(20);

#[derive(Clone, Debug)]
pub struct ControllerOptions {
    /// The namespaces to look after; all of them if none is given.
    pub namespaces: Vec<String>,
    /// The image of instances whose manifest names none.
    pub default_image: String,
    pub http_address: SocketAddr,
    pub lease_name: String,
    /// Where the lease is: the operator's own namespace.
    pub lease_namespace: String,
    /// This process's name in the lease and in events.
    pub identity: String,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When there is no way to an API server, or it is too old. One that does not answer is asked again.
pub async fn run(options: ControllerOptions) -> anyhow::Result<()> {
    faults::name_process("operator");
    let config = Config::infer()
        .await
        .context("no way to the API server: neither a service account's token nor a kubeconfig")?;
    let client = client_of(config.clone(), CALL_SILENCE)?;
    let watching = client_of(config, WATCH_SILENCE)?;
    let health = Arc::new(Health::default());
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // A name that no other process ever has, so that a restarted container does not take the lease for its own.
    let me = format!("{}_{}", options.identity, uuid::Uuid::new_v4());
    let mut leadership = Leadership::new(
        client.clone(),
        &options.lease_namespace,
        &options.lease_name,
        me,
    );
    let (tell, end) = watch::channel(false);
    let told = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tell.send_replace(true);
        // The work comes to its end, and with it everything here.
        std::future::pending::<()>().await;
    };
    let served = serve(options.http_address, Arc::clone(&health));
    let work = work(&client, &watching, &options, &health, &mut leadership, end);
    tokio::select! {
        result = served => result.context(format!("listen on {}", options.http_address))?,
        result = work => result?,
        () = told => {}
    }
    // Whatever the tasks were at has been dropped: nobody acts any more in this process.
    leadership.release().await;
    Ok(())
}

fn client_of(mut config: Config, silence: Duration) -> anyhow::Result<Client> {
    config.connect_timeout = Some(CONNECT_LIMIT);
    config.write_timeout = Some(CALL_SILENCE);
    config.read_timeout = Some(silence);
    // From the request on, not since the connection was used last.
    config.reset_reader_on_write = true;
    Client::try_from(config).context("the way to the API server can't be used")
}

/// Waits for the lease, acts, and waits again when it is lost. Whoever waits listens and counts, and does nothing else.
/// Returns when it is told to end and nothing is under way.
///
/// # Errors
/// When the API server is too old.
async fn work(
    client: &Client,
    watching: &Client,
    options: &ControllerOptions,
    health: &Arc<Health>,
    leadership: &mut Leadership,
    mut end: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let stores = tokio::select! {
        stores = listed(client, watching, options) => stores?,
        () = is_told(&mut end) => return Ok(()),
    };
    health.ready.store(true, Ordering::Relaxed);
    let mut tasks = Tasks::new(
        client.clone(),
        Arc::clone(&stores),
        options.clone(),
        Arc::clone(health),
    );
    loop {
        tokio::select! {
            () = leadership.acquire(|| stores.begin_silences()) => {}
            () = tasks.keep() => {}
            () = is_told(&mut end) => return Ok(()),
        }
        health.metrics.leads(true);
        tracing::info!(lease = %options.lease_name, "this operator leads");
        tasks.turn(true).await;
        let is_told = tokio::select! {
            () = leadership.hold() => false,
            () = tasks.keep() => false,
            () = is_told(&mut end) => true,
        };
        if is_told {
            finish(&tasks, &health.unwritten, leadership).await;
            return Ok(());
        }
        tasks.turn(false).await;
        health.metrics.leads(false);
        tracing::warn!("this operator leads no longer");
    }
}

/// What the API server has, all of it. Watched by those that wait for the lease as well: who takes over knows everything
/// already.
async fn listed(
    client: &Client,
    watching: &Client,
    options: &ControllerOptions,
) -> anyhow::Result<Arc<Stores>> {
    let version = answered_version(client).await;
    check_kubernetes(&version.major, &version.minor)?;
    let stores = Arc::new(Stores::watch(watching, &options.namespaces));
    stores.listed().await;
    Ok(stores)
}

/// Where nobody is left to say so, it is.
async fn is_told(end: &mut watch::Receiver<bool>) {
    let _ = end.wait_for(|told| *told).await;
}

/// Leads on until every role has got where it was going and that is told, if it does not take long: nobody else tells of the
/// end of what this process has ended.
async fn finish(tasks: &Tasks, unwritten: &Unwritten, leadership: &mut Leadership) {
    let arrived = async {
        while tasks.moves_a_role() {
            tokio::time::sleep(FINISH_PAUSE).await;
        }
        // What is told of the last change is told right after it was written.
        loop {
            tokio::time::sleep(FINISH_PAUSE).await;
            if unwritten.is_none() {
                break;
            }
        }
    };
    if tasks.moves_a_role() {
        tracing::info!("told to end; a role is on its way, and gets there first");
    }
    tokio::select! {
        () = arrived => {}
        () = leadership.hold() => {}
        () = tokio::time::sleep(FINISH_LIMIT) => {}
    }
}

/// An operator that starts while the API server is away waits for it: one that ended would be started again later and
/// later.
async fn answered_version(client: &Client) -> Info {
    loop {
        match client.apiserver_version().await {
            Ok(version) => return version,
            Err(error) => {
                tracing::warn!(%error, "the API server does not answer; it is asked again");
                tokio::time::sleep(VERSION_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hyper::StatusCode;
    use serde_json::json;
    use tokio::net::TcpListener;
    use tokio::sync::Notify;

    use super::*;
    use crate::crd::LEAST_KUBERNETES;
    use crate::transport;

    /// The port of an API server of this version, which has nothing and calls when anything but its version is asked for.
    async fn server(major: u32, minor: u32, asked: &Arc<Notify>) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("bound");
        let port = listener.local_addr().expect("an address").port();
        let asked = Arc::clone(asked);
        let version = json!({"major": major.to_string(), "minor": format!("{minor}+")});
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (asked, version) = (Arc::clone(&asked), version.clone());
                let answer = move |request: hyper::Request<hyper::body::Incoming>| {
                    let answer = if request.uri().path() == "/version" {
                        transport::json(StatusCode::OK, &version)
                    } else {
                        asked.notify_one();
                        transport::text(StatusCode::NOT_FOUND, "there is nothing here\n")
                    };
                    std::future::ready(answer)
                };
                tokio::spawn(transport::serve(stream, answer));
            }
        });
        port
    }

    /// Why nothing is read of an API server of this version; none if it is.
    async fn refusal(major: u32, minor: u32) -> Option<String> {
        let asked = Arc::new(Notify::new());
        let port = server(major, minor, &asked).await;
        let address = format!("http://127.0.0.1:{port}");
        let mut config = Config::new(address.parse().expect("an address"));
        config.root_cert = Some(Vec::new());
        let client = client_of(config, CALL_SILENCE).expect("a client");
        let options = ControllerOptions {
            namespaces: Vec::new(),
            default_image: "understudy".to_owned(),
            http_address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            lease_name: "understudy".to_owned(),
            lease_namespace: "understudy".to_owned(),
            identity: "operator-1".to_owned(),
        };
        tokio::select! {
            result = listed(&client, &client, &options) => {
                let error = result.err().expect("there is nothing to be listed");
                Some(error.to_string())
            }
            () = asked.notified() => None,
        }
    }

    /// It would write objects whose rules the API server does not know or keep.
    #[tokio::test]
    async fn nothing_is_read_of_an_api_server_that_is_too_old() {
        let (major, minor) = LEAST_KUBERNETES;
        let said = refusal(major, minor - 1).await;
        let needed = format!("{major}.{minor} is needed");
        assert!(
            said.as_ref().is_some_and(|said| said.contains(&needed)),
            "{said:?}"
        );
        assert_eq!(refusal(major, minor).await, None);
    }
}
