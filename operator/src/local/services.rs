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
        let (stream, _) = control.accept().await?;
        let (sender, file) = (Arc::clone(&sender), file.clone());
        tokio::spawn(async move {
            transport::serve(stream, |request| {
                answer(request, Arc::clone(&sender), file.clone())
            })
            .await;
        });
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
        let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else {
            continue;
        };
        if client
            .set_nodelay(true)
            .and(server.set_nodelay(true))
            .is_err()
        {
            return;
        }
        let moved = async {
            while routes.changed().await.is_ok() {
                if !routes.borrow_and_update().targets(role).contains(&port) {
                    return;
                }
            }
        };
        tokio::select! {
            _ = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, 16 << 10, 16 << 10) => {}
            () = moved => {}
        }
        return;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_leads_only_to_instances_that_have_it() {
        let config = ServiceConfig {
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
        };
        assert_eq!(config.targets(Role::Primary), [1]);
        assert_eq!(config.targets(Role::Standby), [2]);
        assert_eq!(config.targets(Role::Any), [1, 2]);
    }
}
