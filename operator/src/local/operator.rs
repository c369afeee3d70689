//! The local operator's process: one for each folder, which reconciles until it is ended. The databases do not
//! need it to go on.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hyper::StatusCode;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{ClusterFolder, EventLog, ObjectStore, Process, send_routes, spawn_detached};
use crate::act::{LocalActor, LocalContext, Tell as _};
use crate::crd::ConditionStatus;
use crate::durable::{self, FileLock};
use crate::faults;
use crate::observe::{LocalObserver, Watches};
use crate::reconcile::reconcile;
use crate::transport;

/// Reconciles the cluster in `folder` until SIGTERM or SIGINT.
pub async fn operate(folder: &ClusterFolder) -> anyhow::Result<()> {
    let Some(_lock) = FileLock::try_acquire(&folder.file("operator.lock"))? else {
        bail!("an operator runs on {} already", folder.dir().display());
    };
    faults::name_process("operator");
    std::fs::write(folder.file("operator.pid"), std::process::id().to_string())?;
    let settings = folder
        .settings()?
        .context("local.json is missing; run `local up -f FILE`")?;
    let object = ObjectStore::new(folder)
        .read()?
        .context("there is no cluster in this folder")?;
    let cluster_id = object.metadata.uid.context("the object has no uid")?;
    let watches = Arc::new(Watches::default());
    let actor = LocalActor::new(LocalContext {
        folder: folder.clone(),
        watches: Arc::clone(&watches),
        cluster_id,
        engine: settings.engine.clone(),
        port: settings.port,
    })?;
    let observer = LocalObserver::new(folder.clone(), Arc::clone(&watches), settings.fencing);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // What the last operator reported is old news; whoever waits for "ready" waits for a look of this one.
    ObjectStore::new(folder).update(|current| {
        let mut object = current.ok_or(super::ObjectError::Missing)?;
        for condition in object.status.iter_mut().flat_map(|s| &mut s.conditions) {
            condition.status = ConditionStatus::Unknown;
            condition.reason = "OperatorStarted".to_owned();
        }
        Ok(object)
    })?;
    let calls = listen_for_calls(folder, Arc::clone(&watches))?;
    EventLog::new(folder).tell(
        "OperatorStarted",
        false,
        &format!(
            "operating {} (process {})",
            folder.dir().display(),
            std::process::id()
        ),
    );
    tokio::select! {
        () = reconcile(observer, actor) => {}
        () = calls => {}
        result = keep_services(folder, settings.port, &watches) => result?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Whoever changed the object knocks, so that nobody has to poll.
fn listen_for_calls(
    folder: &ClusterFolder,
    watches: Arc<Watches>,
) -> anyhow::Result<impl Future<Output = ()>> {
    let socket = folder.socket("operator");
    durable::remove(&socket)?;
    let listener =
        UnixListener::bind(&socket).with_context(|| format!("listen on {}", socket.display()))?;
    Ok(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let watches = Arc::clone(&watches);
                    tokio::spawn(transport::serve(stream, move |_| {
                        watches.wake();
                        std::future::ready(transport::json(StatusCode::OK, &true))
                    }));
                }
                Err(error) => {
                    tracing::warn!(%error, "a call could not be taken");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    })
}

/// Starts the forwarders' process whenever it is not there.
async fn keep_services(folder: &ClusterFolder, port: u16, watches: &Watches) -> anyhow::Result<()> {
    let proof = folder.dir().to_string_lossy().into_owned();
    let mut starts = 0_u32;
    loop {
        let running = FileLock::try_acquire(&folder.file("services.lock"))?.is_none();
        if !running {
            starts += 1;
            if starts > 1 {
                EventLog::new(folder).tell(
                    "ServicesStarted",
                    true,
                    "the Services had ended and are started again",
                );
            }
            let port = port.to_string();
            let arguments = ["local", "services", "--dir", &proof, "--port", &port];
            spawn_detached(&arguments, &folder.file("services.log"))?;
        }
        let Some(process) = services_process(folder, &proof, watches).await else {
            tokio::time::sleep(Duration::from_millis(250 * u64::from(starts.clamp(1, 8)))).await;
            continue;
        };
        process.ended().await;
    }
}

/// The forwarders, once they answer.
async fn services_process(
    folder: &ClusterFolder,
    proof: &str,
    watches: &Watches,
) -> Option<Process> {
    for _ in 0..200 {
        if let Ok(config) = send_routes(folder, None).await {
            watches.set_routes(Some(config.routes));
            let text = std::fs::read_to_string(folder.file("services.pid")).ok()?;
            return Process::find(text.trim().parse().ok()?, proof);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    None
}

/// Knocks at the operator of this folder; false if there is none.
pub async fn knock(folder: &ClusterFolder) -> bool {
    let socket = folder.socket("operator");
    let address = transport::Address::Unix(&socket);
    transport::call::<bool>(address, "/", None, None, Duration::from_secs(2))
        .await
        .is_ok()
}
