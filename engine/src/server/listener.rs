//! Sockets that clients come to, and the task of each connection.
//!
//! Sockets are bound before recovery, so that a client hears "starting up" rather than nothing. A crash leaves a socket
//! file and its lock file in the socket directory; the next start sees that the process is gone and replaces both.
//! With `understudy.listen_late` the TCP/IP sockets are bound when that is asked for: until then somebody else has the port.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use parking_lot::Mutex;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc};

use super::cli::pid_file::is_server;
use super::connection::Connection;
use super::host::{Host, NewSession, ReplicationPeer, Statements};
use super::log::{self, Entry, identified};
use super::session_loop::{self, End};
use super::startup::{self, Arrival, Door};
use super::{cli::process, protocol::backend};
use crate::config::conf_file::os_message;
use crate::config::error::Complaint;
use crate::config::hba::ident::IdentMaps;
use crate::config::hba::{Hba, HbaError};
use crate::config::session::Level;
use crate::config::{KeepAlive, ServerSettings};
use crate::sql::error::{SqlError, state};
use crate::sql::session::backends::Place;
use crate::tls::server::ServerTls;

/// A connection may not stand at the door for ever, and not in arbitrary numbers.
const WAITING_PER_SLOT: usize = 2;
/// Sending the log is mostly waiting.
const WALSENDER_THREADS: usize = 2;

/// The bound sockets. Dropping them removes the socket files.
pub struct Listeners {
    tcp: Vec<std::net::TcpListener>,
    unix: Vec<(std::os::unix::net::UnixListener, SocketFile)>,
}

/// Removes the socket and its lock file when the server ends.
struct SocketFile {
    path: PathBuf,
    lock: PathBuf,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // What cannot be removed now is replaced by the next start.
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(&self.lock);
    }
}

impl Listeners {
    /// Binds everything that the settings name, and logs it. An error is what PostgreSQL ends the start with.
    pub fn bind(settings: &ServerSettings) -> Result<Listeners, Complaint> {
        let tcp = match settings.listen_late {
            true => Vec::new(),
            false => bind_tcp(settings)?,
        };
        let mut unix = Vec::new();
        for directory in &settings.unix_socket_directories {
            unix.push(bind_unix(directory, settings)?);
        }
        if tcp.is_empty() && unix.is_empty() {
            return Err(Complaint::new("no socket created for listening"));
        }
        Ok(Listeners { tcp, unix })
    }

    /// For `postmaster.pid`: the first socket directory, and the first address.
    pub fn first_places(&self, settings: &ServerSettings) -> (String, String) {
        let directory = match self.unix.first() {
            Some(_) => settings.unix_socket_directories[0].display().to_string(),
            None => String::new(),
        };
        let address = match self.tcp.first() {
            Some(_) => settings
                .listen_addresses
                .first()
                .cloned()
                .unwrap_or_default(),
            None => String::new(),
        };
        (directory, address)
    }
}

fn bind_tcp(settings: &ServerSettings) -> Result<Vec<std::net::TcpListener>, Complaint> {
    let mut tcp = Vec::new();
    for name in &settings.listen_addresses {
        match bind_name(name, settings.port) {
            Ok(mut bound) => tcp.append(&mut bound),
            Err(()) => log::warning(&format!("could not create listen socket for \"{name}\"")),
        }
    }
    if tcp.is_empty() && !settings.listen_addresses.is_empty() {
        return Err(Complaint::new("could not create any TCP/IP sockets"));
    }
    Ok(tcp)
}

/// `*` is every address of both families; a name may stand for several addresses.
fn bind_name(name: &str, port: u16) -> Result<Vec<std::net::TcpListener>, ()> {
    use std::net::ToSocketAddrs;
    let addresses: Vec<SocketAddr> = match name {
        "*" => vec![
            SocketAddr::from(([0, 0, 0, 0], port)),
            SocketAddr::from(([0u16; 8], port)),
        ],
        _ => match (name, port).to_socket_addrs() {
            Ok(found) => found.collect(),
            Err(e) => {
                log::log(&format!(
                    "could not translate host name \"{name}\", service \"{port}\" to address: {}",
                    os_message(&e).trim_start_matches("failed to lookup address information: ")
                ));
                return Err(());
            }
        },
    };
    let mut bound = Vec::new();
    let mut seen = Vec::new();
    for address in addresses {
        if seen.contains(&address) {
            continue;
        }
        seen.push(address);
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        match bind_address(address) {
            Ok(listener) => {
                log::log(&format!(
                    "listening on {family} address \"{}\", port {port}",
                    address.ip()
                ));
                bound.push(listener);
            }
            // A machine without IPv6 is served on the rest.
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) => {}
            Err(e) => log::complaint(
                Level::Log,
                &Complaint {
                    hint: (e.kind() == io::ErrorKind::AddrInUse).then(|| {
                        format!(
                            "Is another postmaster already running on port {port}? If not, wait a few seconds and retry."
                        )
                    }),
                    ..Complaint::new(format!(
                        "could not bind {family} address \"{}\": {}",
                        address.ip(),
                        os_message(&e)
                    ))
                },
            ),
        }
    }
    if bound.is_empty() { Err(()) } else { Ok(bound) }
}

fn bind_address(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn bind_unix(
    directory: &Path,
    settings: &ServerSettings,
) -> Result<(std::os::unix::net::UnixListener, SocketFile), Complaint> {
    let path = directory.join(format!(".s.PGSQL.{}", settings.port));
    let lock = directory.join(format!(".s.PGSQL.{}.lock", settings.port));
    let shown = path.display();
    take_socket_lock(&lock, &path, settings)?;
    let file = SocketFile {
        path: path.clone(),
        lock,
    };
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(Complaint::new(format!(
                "could not remove socket file \"{shown}\": {}",
                os_message(&e)
            )));
        }
        _ => {}
    }
    let fail = |what: &str, e: &io::Error| {
        Complaint::new(format!("could not {what} \"{shown}\": {}", os_message(e)))
    };
    let listener =
        std::os::unix::net::UnixListener::bind(&path).map_err(|e| fail("bind Unix address", &e))?;
    let mode = std::fs::Permissions::from_mode(settings.unix_socket_permissions);
    std::fs::set_permissions(&path, mode).map_err(|e| fail("set permissions of file", &e))?;
    listener
        .set_nonblocking(true)
        .map_err(|e| fail("use socket", &e))?;
    log::log(&format!("listening on Unix socket \"{shown}\""));
    Ok((listener, file))
}

/// The lock file holds our pid and data directory, as PostgreSQL's does, so that its tools and servers respect it.
fn take_socket_lock(lock: &Path, socket: &Path, s: &ServerSettings) -> Result<(), Complaint> {
    let text = format!(
        "{}\n{}\n{}\n{}\n{}\n",
        std::process::id(),
        s.data_directory.display(),
        process::unix_seconds(),
        s.port,
        socket.parent().unwrap_or(Path::new("")).display()
    );
    for _ in 0..2 {
        match write_new(lock, &text) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => {
                return Err(Complaint::new(format!(
                    "could not create lock file \"{}\": {}",
                    lock.display(),
                    os_message(&e)
                )));
            }
        }
        let text = std::fs::read_to_string(lock).unwrap_or_default();
        if let Some(pid) = holder(&text, &s.data_directory) {
            return Err(Complaint {
                hint: Some(format!(
                    "Is another postmaster (PID {pid}) using socket file \"{}\"?",
                    socket.display()
                )),
                ..Complaint::new(format!("lock file \"{}\" already exists", lock.display()))
            });
        }
        // Its process is gone.
        let _ = std::fs::remove_file(lock);
    }
    Err(Complaint::new(format!(
        "could not create lock file \"{}\"",
        lock.display()
    )))
}

/// The server that a lock file names, if it is one and lives. In its own data directory this server is alone
/// (`cli/pid_file.rs`): a file that names it was left behind, whoever has that number now. In a container that begins anew
/// it is easily a thread's of the program that starts us.
fn holder(text: &str, data_directory: &Path) -> Option<i32> {
    let mut lines = text.lines();
    let pid = lines.next()?.trim().parse().ok()?;
    let is_ours = lines
        .next()
        .is_some_and(|of| Path::new(of) == data_directory);
    (!is_ours && process::is_alive(pid) && is_server(pid)).then_some(pid)
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?
        .write_all(text.as_bytes())
}

/// The running listener: accepts connections until it is dropped or closed.
pub struct Server<H: Host> {
    host: Arc<H>,
    hba: ArcSwap<Hba>,
    ident: ArcSwap<IdentMaps>,
    /// `None`: `ssl` is off.
    tls: ArcSwapOption<ServerTls>,
    own_addresses: ArcSwap<Vec<(IpAddr, IpAddr)>>,
    waiting: Arc<Semaphore>,
    walsenders: Walsenders,
    late: Late,
}

/// The TCP/IP sockets of a server that opens them when it is told to.
struct Late {
    is_open: Mutex<bool>,
    opened: mpsc::UnboundedSender<std::net::TcpListener>,
    /// For the task that accepts, until it begins.
    to_accept: Mutex<Option<mpsc::UnboundedReceiver<std::net::TcpListener>>>,
}

impl Late {
    fn new(is_open: bool) -> Late {
        let (opened, to_accept) = mpsc::unbounded_channel();
        Late {
            is_open: Mutex::new(is_open),
            opened,
            to_accept: Mutex::new(Some(to_accept)),
        }
    }
}

/// Threads that only walsenders run on. Few: they wait for the log, sockets and, in a base backup, files.
struct Walsenders(Option<tokio::runtime::Runtime>);

impl Walsenders {
    fn start() -> io::Result<Walsenders> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WALSENDER_THREADS)
            .thread_name("walsender")
            .enable_all()
            .build()?;
        Ok(Walsenders(Some(runtime)))
    }

    fn handle(&self) -> &tokio::runtime::Handle {
        self.0.as_ref().expect("taken only when dropped").handle()
    }
}

impl Drop for Walsenders {
    fn drop(&mut self) {
        // The last owner may be a task, which must not wait for threads.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl<H: Host> Server<H> {
    /// Reads `pg_hba.conf`; an error stops the start. One in `pg_ident.conf` does not: without maps nobody comes in
    /// by a map.
    pub fn new(host: Arc<H>, tls: Option<ServerTls>) -> Result<Arc<Server<H>>, Complaint> {
        let settings = host.settings().current();
        let hba = read_hba(&settings).map_err(|()| Complaint::new("could not load pg_hba.conf"))?;
        let walsenders = Walsenders::start().map_err(|e| {
            Complaint::new(format!("could not start walsenders: {}", os_message(&e)))
        })?;
        let waiting = (settings.max_connections + settings.max_wal_senders) * WAITING_PER_SLOT;
        Ok(Arc::new(Server {
            host,
            hba: ArcSwap::from_pointee(hba),
            ident: ArcSwap::from_pointee(read_ident(&settings).unwrap_or_default()),
            tls: ArcSwapOption::from_pointee(tls),
            own_addresses: ArcSwap::from_pointee(own_addresses()),
            waiting: Arc::new(Semaphore::new(waiting.min(Semaphore::MAX_PERMITS))),
            walsenders,
            late: Late::new(!settings.listen_late),
        }))
    }

    /// Opens the TCP/IP sockets of a server that was started without (`understudy.listen_late`); nothing where they are
    /// open. An error leaves it as it was: it can be asked again.
    pub fn listen(&self) -> Result<(), Complaint> {
        let mut is_open = self.late.is_open.lock();
        if !*is_open {
            for listener in bind_tcp(&self.host.settings().current())? {
                // Nobody accepts any more where the server ends.
                let _ = self.late.opened.send(listener);
            }
            *is_open = true;
        }
        Ok(())
    }

    /// After SIGHUP. A file with errors leaves the old rules in force.
    pub fn reload(&self) {
        let settings = self.host.settings().current();
        match read_hba(&settings) {
            Ok(hba) => self.hba.store(Arc::new(hba)),
            Err(()) => {
                log::log("pg_hba.conf was not reloaded");
            }
        }
        match read_ident(&settings) {
            Ok(ident) => self.ident.store(Arc::new(ident)),
            Err(()) => {
                log::log("pg_ident.conf was not reloaded");
            }
        }
        self.reload_tls(&settings);
        self.own_addresses.store(Arc::new(own_addresses()));
    }

    /// New connections come in with what the files hold now; where they are wrong, with what they held before.
    fn reload_tls(&self, settings: &ServerSettings) {
        if !settings.values.bool("ssl") {
            self.tls.store(None);
            return;
        }
        match ServerTls::load(settings) {
            Ok(tls) => self.tls.store(Some(Arc::new(tls))),
            Err(complaint) => {
                log::complaint(Level::Log, &complaint);
                log::log("SSL configuration was not reloaded");
            }
        }
    }

    /// Accepts until the task is dropped. Each connection is a task on this runtime.
    pub async fn serve(self: Arc<Self>, listeners: Listeners) -> io::Result<()> {
        // All in this one task: when it is aborted and awaited the ports are free and the files are gone.
        let mut accepting = FuturesUnordered::new();
        let mut files = Vec::new();
        let late = self.late.to_accept.lock().take();
        let mut late = late.ok_or_else(|| io::Error::other("it is accepting already"))?;
        for listener in listeners.tcp {
            let listener = TcpListener::from_std(listener)?;
            accepting.push(Arc::clone(&self).accept(listener).boxed());
        }
        for (listener, file) in listeners.unix {
            let listener = UnixListener::from_std(listener)?;
            files.push(file);
            let server = Arc::clone(&self);
            let accept = async move {
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => server.came(Ok(Connection::unix(stream))),
                        Err(e) => server.not_accepted(&e).await,
                    }
                }
            };
            accepting.push(accept.boxed());
        }
        loop {
            tokio::select! {
                accepted = accepting.next() => if accepted.is_none() { break },
                Some(listener) = late.recv() => {
                    let listener = TcpListener::from_std(listener)?;
                    accepting.push(Arc::clone(&self).accept(listener).boxed());
                }
            }
        }
        drop(files);
        Ok(())
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => self.came(Connection::tcp(
                    stream,
                    keep_alive(&self.host.settings().current()),
                )),
                Err(e) => self.not_accepted(&e).await,
            }
        }
    }

    async fn not_accepted(&self, e: &io::Error) {
        log::log(&format!(
            "could not accept new connection: {}",
            os_message(e)
        ));
        // Out of descriptors, most likely: give others time to close theirs.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    fn came(self: &Arc<Self>, connection: io::Result<Connection>) {
        // A client that left before its options were set is nobody's concern.
        let Ok(connection) = connection else { return };
        let server = Arc::clone(self);
        tokio::spawn(async move {
            let who = startup::identity(&*server.host, &connection);
            let task = server.connection(connection, Arc::clone(&who));
            identified(who, task).await;
        });
    }

    async fn connection(self: Arc<Self>, mut c: Connection, who: Arc<log::SessionIdentity>) {
        let Ok(permit) = Arc::clone(&self.waiting).try_acquire_owned() else {
            backend::error_response(
                &mut c.output,
                &SqlError::fatal(
                    state::TOO_MANY_CONNECTIONS,
                    "sorry, too many clients already",
                ),
            );
            return c.flush_at_last().await;
        };
        let settings = self.host.settings().current();
        if let Some(delay) = settings.values.time_limit("pre_auth_delay") {
            tokio::time::sleep(delay).await;
        }
        let verbose = settings.values.bool("log_connections");
        if verbose {
            log::log(&match c.remote {
                Some(r) => format!(
                    "connection received: host={} port={}",
                    r.ip().to_canonical(),
                    r.port()
                ),
                None => "connection received: host=[local]".to_owned(),
            });
        }
        let (hba, ident) = (self.hba.load_full(), self.ident.load_full());
        let (own, tls) = (self.own_addresses.load_full(), self.tls.load_full());
        let door = Door {
            hba: &hba,
            ident: &ident,
            own_addresses: &own,
            tls: tls.as_deref(),
        };
        let arrival = tokio::time::timeout(
            settings.authentication_timeout,
            startup::arrive(&*self.host, &door, &mut c, &who),
        );
        let arrival = match arrival.await {
            Ok(Ok(arrival)) => arrival,
            Ok(Err(refusal)) => return startup::refuse(&mut c, &refusal).await,
            Err(_) => {
                let e = SqlError::fatal(
                    state::QUERY_CANCELED,
                    "canceling authentication due to timeout",
                );
                return startup::refuse(&mut c, &e.into()).await;
            }
        };
        drop(permit);
        drop((hba, ident, own, tls, settings));
        match arrival {
            Arrival::Nothing => c.close(),
            Arrival::Session(new, place) => self.session(c, new, &place, &who).await,
            Arrival::Replication(new, peer, place) => {
                let server = Arc::clone(&self);
                let name = Arc::clone(&who);
                let task = identified(name, server.replication(c, new, peer, place, who));
                // It ends only by itself, or with the runtime when the server ends.
                let _ = self.walsenders.handle().spawn(task).await;
            }
        }
    }

    /// On the walsenders' own threads: however busy the sessions are, a standby is not kept waiting.
    async fn replication(
        self: Arc<Self>,
        c: Connection,
        new: NewSession,
        peer: ReplicationPeer,
        place: Place,
        who: Arc<log::SessionIdentity>,
    ) {
        who.change_names(|n| n.application = Some(Arc::from(peer.application_name.as_str())));
        let Ok(mut c) = c.moved_here() else { return };
        greet(&mut c, &place);
        if let Err(e) = self.host.replicate(&mut c, new, peer).await {
            log::sql_error(&e, None);
            backend::error_response(&mut c.output, &e);
            // A standby that does not read must not hold up a shutdown.
            c.flush_at_last().await;
        }
        c.close();
    }

    async fn session(
        &self,
        mut c: Connection,
        new: NewSession,
        place: &Place,
        who: &log::SessionIdentity,
    ) {
        let application = new
            .settings
            .iter()
            .rev()
            .find(|(n, _)| n == "application_name");
        let application: Option<Arc<str>> = application.map(|(_, v)| Arc::from(v.as_str()));
        who.change_names(|n| n.application = application.clone().or(Some(Arc::from(""))));
        let mut session = match self.host.open(new).await {
            Ok(session) => session,
            Err(mut e) => {
                e.severity = crate::sql::error::Severity::Fatal;
                return startup::refuse(&mut c, &e.into()).await;
            }
        };
        session.report_settings(&mut c);
        backend::backend_key_data(&mut c.output, place.backend.pid.get(), place.backend.key);
        c.interrupts = Some(Arc::clone(&place.backend.interrupts));
        let end = session_loop::run(&mut c, &mut session, &place.backend.interrupts).await;
        let in_transaction = session.status() != b'I';
        match &end {
            End::Left => {}
            End::Gone(why) => {
                if let Some(why) = why {
                    log::log(why);
                }
                if in_transaction {
                    log::log("unexpected EOF on client connection with an open transaction");
                }
            }
            End::Fatal(e) => log::write(&Entry {
                state: Some(e.state),
                detail: e.detail.as_deref(),
                hint: e.hint.as_deref(),
                ..Entry::new(Level::Fatal, &e.message)
            }),
        }
        session.close().await;
        c.close();
        // What a superuser asked for when he connected outranks the server's setting.
        let wanted = match who.log_settings() {
            Some(own) => own.disconnections,
            None => self
                .host
                .settings()
                .current()
                .values
                .bool("log_disconnections"),
        };
        if wanted {
            disconnected(place, who, &c);
        }
    }
}

/// What a walsender's client hears before its first ReadyForQuery.
fn greet(c: &mut Connection, place: &Place) {
    for (name, value) in [
        ("server_version", crate::config::registry::SERVER_VERSION),
        ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("TimeZone", "GMT"),
        ("integer_datetimes", "on"),
        ("standard_conforming_strings", "on"),
        ("IntervalStyle", "postgres"),
    ] {
        backend::parameter_status(&mut c.output, name, value);
    }
    backend::backend_key_data(&mut c.output, place.backend.pid.get(), place.backend.key);
}

fn disconnected(place: &Place, who: &log::SessionIdentity, c: &Connection) {
    let lasted = jiff::Timestamp::now().duration_since(who.started);
    let seconds = lasted.as_secs();
    let from = c.remote.map_or("host=[local]".to_owned(), |r| {
        format!("host={} port={}", r.ip().to_canonical(), r.port())
    });
    log::log(&format!(
        "disconnection: session time: {}:{:02}:{:02}.{:03} user={} database={} {from}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        lasted.subsec_millis(),
        place.backend.user_name,
        place.backend.database_name,
    ));
}

fn keep_alive(s: &ServerSettings) -> KeepAlive {
    KeepAlive::of(|name| s.values.integer(name))
}

/// Every wrong line is logged, as PostgreSQL does.
fn read_hba(settings: &ServerSettings) -> Result<Hba, ()> {
    let path = &settings.hba_file;
    let text = std::fs::read(path).map_err(|e| {
        log::log(&format!(
            "could not open configuration file \"{}\": {}",
            path.display(),
            os_message(&e)
        ));
    })?;
    let hba = Hba::parse(&text, path).map_err(|errors| log_hba(&errors))?;
    if !settings.values.bool("ssl") {
        log_hba(&hba.notes);
    }
    if hba.records.is_empty() {
        log::log(&format!(
            "configuration file \"{}\" contains no entries",
            path.display()
        ));
        return Err(());
    }
    Ok(hba)
}

/// The maps of `pg_ident.conf`.
fn read_ident(settings: &ServerSettings) -> Result<IdentMaps, ()> {
    let path = &settings.ident_file;
    let text = std::fs::read(path).map_err(|e| {
        log::log(&format!(
            "could not open usermap file \"{}\": {}",
            path.display(),
            os_message(&e)
        ));
    })?;
    IdentMaps::parse(&text, path).map_err(|errors| log_hba(&errors))
}

fn log_hba(complaints: &[HbaError]) {
    for c in complaints {
        log::write(&Entry {
            state: Some("F0000"),
            hint: c.hint.as_deref(),
            context: c.context.as_deref(),
            ..Entry::new(Level::Log, &c.message)
        });
    }
}

/// This machine's addresses with their masks.
fn own_addresses() -> Vec<(IpAddr, IpAddr)> {
    let ip = |s: Option<nix::sys::socket::SockaddrStorage>| {
        let s = s?;
        s.as_sockaddr_in()
            .map(|a| IpAddr::V4(a.ip()))
            .or_else(|| s.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
    };
    nix::ifaddrs::getifaddrs()
        .map(|all| {
            all.filter_map(|i| Some((ip(i.address)?, ip(i.netmask)?)))
                .collect()
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A live process that looks like a server, as far as `/proc` says.
    struct Seeming(std::process::Child);

    impl Drop for Seeming {
        fn drop(&mut self) {
            self.0.kill().expect("it sleeps");
            self.0.wait().expect("it ended");
        }
    }

    #[test]
    fn a_lock_file_keeps_out_whoever_is_not_the_only_server_and_nobody_when_it_was_left_behind() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let program = dir.path().join("understudy");
        std::fs::copy("/bin/sleep", &program).expect("copied");
        let mut sleep = std::process::Command::new(&program);
        let server = Seeming(sleep.arg("600").spawn().expect("started"));
        let pid = i32::try_from(server.0.id()).expect("a pid");
        let here = Path::new("/var/lib/here");
        let named = |pid: i32, of: &str| holder(&format!("{pid}\n{of}\n1\n"), here);
        assert_eq!(named(pid, "/var/lib/there"), Some(pid));
        assert_eq!(named(pid, "/var/lib/here"), None, "it would be this one");
        let own = i32::try_from(std::process::id()).expect("a pid");
        assert_eq!(named(own, "/var/lib/there"), None, "it is no server");
        drop(server);
        assert_eq!(named(pid, "/var/lib/there"), None, "it has ended");
        for text in ["", "x"] {
            assert_eq!(holder(text, here), None, "{text:?}");
        }
    }
}
