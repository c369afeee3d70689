//! The Services: TCP forwarders in a process of their own, which outlives the operator.
//!
//! Port P leads to the primary, P+1 to the standbys in turn, P+2 to any instance. A connection is cut when what it
//! leads to no longer has that role. Routes of an older record never replace newer ones; the newest are kept in
//! `services.json`, so a forwarder that is started again goes on.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::watch;

use super::ClusterFolder;
use crate::decide::Routes;
use crate::durable::{self, FileLock};
use crate::transport::{self, Address, CallError, ResponseBody};

/// What the forwarder keeps in its file.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ServiceConfig {
    pub routes: Routes,
    /// Each instance's port.
    pub ports: BTreeMap<String, u16>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Primary,
    Standby,
    Any,
}

impl ServiceConfig {
    fn targets(&self, role: Role) -> Vec<u16> {
        let standbys = self.routes.standbys.iter();
        let names: Vec<&String> = match role {
            Role::Primary => self.routes.primary.iter().collect(),
            Role::Standby => standbys.collect(),
            Role::Any => self.routes.primary.iter().chain(standbys).collect(),
        };
        names
            .into_iter()
            .filter_map(|name| self.ports.get(name))
            .copied()
            .collect()
    }
}

/// Sends new routes to the forwarder of `folder`, and gets what it has then.
pub async fn send_routes(
    folder: &ClusterFolder,
    config: Option<&ServiceConfig>,
) -> Result<ServiceConfig, CallError> {
    let socket = folder.socket("services");
    let body = config.map(serde_json::to_vec).transpose()?;
    transport::call(
        Address::Unix(&socket),
        "/routes",
        None,
        body,
        Duration::from_secs(2),
    )
    .await
}

/// The forwarder's process: until it is ended.
///
/// # Errors
/// When it can't listen where it has to.
pub async fn serve_forever(folder: &ClusterFolder, port: u16) -> io::Result<()> {
    let Some(_lock) = FileLock::try_acquire(&folder.file("services.lock"))? else {
        return Err(io::Error::other(
            "the Services of this folder are running already",
        ));
    };
    allow_open_files();
    let file = folder.file("services.json");
    let config: ServiceConfig = durable::read(&file)?
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let (sender, receiver) = watch::channel(config);
    for (offset, role) in [(0, Role::Primary), (1, Role::Standby), (2, Role::Any)] {
        let listener = TcpListener::bind(("127.0.0.1", port + offset)).await?;
        tokio::spawn(listen(listener, role, receiver.clone()));
    }
    let socket = folder.socket("services");
    durable::remove(&socket)?;
    let control = UnixListener::bind(&socket)?;
    std::fs::write(folder.file("services.pid"), std::process::id().to_string())?;
    let sender = Arc::new(sender);
    loop {
        let stream = match control.accept().await {
            Ok((stream, _)) => stream,
            // For want of descriptors, say: nobody's connection is cut for that.
            Err(error) => {
                tracing::warn!(%error, "a call could not be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (sender, file) = (Arc::clone(&sender), file.clone());
        tokio::spawn(async move {
            transport::serve(stream, |request| {
                answer(request, Arc::clone(&sender), file.clone())
            })
            .await;
        });
    }
}

/// Every connection takes two descriptors of this one process, and thousands may come.
fn allow_open_files() {
    let mut limits = getrlimit(Resource::Nofile);
    limits.current = limits.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limits) {
        tracing::warn!(%error, "could not raise the limit of open files");
    }
}

async fn answer(
    request: Request<Incoming>,
    routes: Arc<watch::Sender<ServiceConfig>>,
    file: PathBuf,
) -> Response<ResponseBody> {
    if request.method() == hyper::Method::GET {
        return transport::json(StatusCode::OK, &*routes.borrow());
    }
    let new: ServiceConfig = match transport::read_json(request).await {
        Ok(new) => new,
        Err(wrong) => return transport::text(StatusCode::BAD_REQUEST, &wrong),
    };
    let taken = routes.send_if_modified(|current| {
        let newer = new.routes.record_version >= current.routes.record_version && *current != new;
        if newer {
            current.clone_from(&new);
        }
        newer
    });
    if taken && let Ok(bytes) = serde_json::to_vec(&new) {
        // For the next start only; connections have moved already.
        let kept = tokio::task::spawn_blocking(move || durable::replace(&file, &bytes)).await;
        if !matches!(kept, Ok(Ok(()))) {
            tracing::warn!("the routes could not be kept");
        }
    }
    transport::json(StatusCode::OK, &*routes.borrow())
}

async fn listen(listener: TcpListener, role: Role, routes: watch::Receiver<ServiceConfig>) {
    let turn = Arc::new(AtomicUsize::new(0));
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                tokio::spawn(forward(client, role, routes.clone(), Arc::clone(&turn)));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// One connection: to the next target that takes it, until either side ends it or the target loses the role.
async fn forward(
    mut client: TcpStream,
    role: Role,
    mut routes: watch::Receiver<ServiceConfig>,
    turn: Arc<AtomicUsize>,
) {
    let targets = routes.borrow_and_update().targets(role);
    let first = turn.fetch_add(1, Ordering::Relaxed);
    for step in 0..targets.len() {
        let port = targets[(first + step) % targets.len()];
        // One that is frozen, and whose queue is full, takes nobody for minutes: its role may have gone by then.
        let connected = tokio::select! {
            connected = TcpStream::connect(("127.0.0.1", port)) => connected,
            () = loses_role(&mut routes, role, port) => return,
        };
        let Ok(mut server) = connected else {
            continue;
        };
        if client
            .set_nodelay(true)
            .and(server.set_nodelay(true))
            .is_err()
        {
            return;
        }
        tokio::select! {
            _ = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, 16 << 10, 16 << 10) => {}
            () = loses_role(&mut routes, role, port) => {}
        }
        return;
    }
}

/// Until what listens at `port` has this role no longer.
async fn loses_role(routes: &mut watch::Receiver<ServiceConfig>, role: Role, port: u16) {
    loop {
        let leads_there = routes.borrow_and_update().targets(role).contains(&port);
        if !leads_there || routes.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ServiceConfig {
        ServiceConfig {
            routes: Routes {
                record_version: 3,
                primary: Some("a".to_owned()),
                standbys: vec!["b".to_owned(), "gone".to_owned()],
            },
            ports: BTreeMap::from([
                ("a".to_owned(), 1),
                ("b".to_owned(), 2),
                ("c".to_owned(), 3),
            ]),
        }
    }

    #[tokio::test]
    async fn who_waits_for_a_frozen_target_is_sent_away_when_its_role_goes() {
        let (sender, mut receiver) = watch::channel(config());
        let waits = tokio::spawn(async move { loses_role(&mut receiver, Role::Primary, 1).await });
        // Another standby is none of it.
        sender.send_modify(|c| c.routes.standbys.clear());
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        sender.send_modify(|c| c.routes.primary = Some("b".to_owned()));
        let limit = Duration::from_secs(60);
        let ended = tokio::time::timeout(limit, waits).await;
        ended.expect("it is told").expect("no panic");
        // What was never so is over at once.
        let mut receiver = sender.subscribe();
        let over = tokio::time::timeout(limit, loses_role(&mut receiver, Role::Primary, 1));
        over.await.expect("it is told");
    }

    #[test]
    fn a_role_leads_only_to_instances_that_have_it() {
        let config = config();
        assert_eq!(config.targets(Role::Primary), [1]);
        assert_eq!(config.targets(Role::Standby), [2]);
        assert_eq!(config.targets(Role::Any), [1, 2]);
    }
}
