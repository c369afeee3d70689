//! A pod whose role goes elsewhere, and the clients that still come to it.

use std::net::{IpAddr, TcpListener};
use std::time::{Duration, Instant};

use operator::api::{
    DemoteRequest, EngineRole, EngineSet, FollowRequest, PromoteRequest, SealRequest, SetRequest,
    SupervisorStatus, Upstream,
};
use operator::ids::{InstanceId, Term};
use operator::render::POSTGRES_PORT;

use crate::pod::{Pod, has_engine};
use crate::world::World;
use crate::{id_of, set, writes};

pub(crate) fn hands_over_before_it_ends(world: &World, primary: &mut Pod, standby: &Pod) {
    // Another standby, which is not here now: the role has more than one heir.
    let heirs = vec![
        id_of(&standby.status(world).expect("answered")),
        InstanceId::random(),
    ];
    let request = SetRequest {
        term: Term::FIRST,
        id: id_of(&primary.status(world).expect("answered")),
        set: EngineSet {
            required: 1,
            ..set(3, heirs)
        },
    };
    primary.order(world, "/set", &request);
    primary.until(world, "counting by two heirs", |s| {
        let engine = s.engine.as_ref().filter(|e| e.set_caught_up && e.writable);
        let counts_by = engine.and_then(|e| e.set.as_ref());
        counts_by.is_some_and(|set| set.counter == 3)
    });
    primary.terminate();
    let leaving = primary.until(world, "leaving", |s| s.leaving);
    // A second one does not hurry it.
    primary.terminate();
    std::thread::sleep(Duration::from_secs(1));
    assert!(writes(&primary.status(world).expect("still there")));
    primary.asks(world, "INSERT INTO mine VALUES (8)");
    let term = Term::FIRST.next();
    let demote = DemoteRequest {
        term,
        within_ms: 30_000,
    };
    primary.order(world, "/demote", &demote);
    let sealed = primary.until(world, "demoted", |s| {
        s.sealed && s.promised_term == term && s.engine.is_some()
    });
    assert!(!sealed.leaving);
    assert_eq!(id_of(&sealed), id_of(&leaving));
    let refused = std::net::TcpStream::connect((primary.ip(), port_of_pods()));
    assert!(refused.is_err(), "nobody has taken over: {refused:?}");
    let follow = FollowRequest {
        term,
        id: id_of(&sealed),
        upstream: Some(standby.upstream()),
        source: None,
    };
    primary.order(world, "/follow", &follow);
    // Who comes before kube-proxy knows better gets to the other one; who comes later is refused.
    let password = &world.credentials.app_password;
    let passed_on = primary.psql(world, "keeper", password, "SHOW cluster_name");
    if passed_on.status.success() {
        let text = String::from_utf8_lossy(&passed_on.stdout);
        assert_eq!(text.trim(), standby.instance());
    } else {
        // This machine is late, and the time is over.
        let words = String::from_utf8_lossy(&passed_on.stderr);
        assert!(words.contains("Connection refused"), "{words}");
    }
    assert!(primary.wait_for_end().success(), "{}", primary.words());
    assert!(
        !has_engine(&primary.volume()),
        "the engine has ended with it"
    );
}

/// Somebody who takes connections in the new primary's place.
struct Heir {
    listener: TcpListener,
    address: IpAddr,
}

impl Heir {
    fn begin() -> Heir {
        let address = IpAddr::from([127, 0, 1, 9]);
        let listener = TcpListener::bind((address, port_of_pods())).expect("bound");
        listener.set_nonblocking(true).expect("it waits for nobody");
        Heir { listener, address }
    }

    /// Whether whoever comes to the pod now gets to the heir; the pod's engine streams from it as well, and says so.
    fn is_reached_by(&self, pod: &Pod) -> bool {
        use std::io::{Read as _, Write as _};
        let Ok(mut client) = std::net::TcpStream::connect((pod.ip(), port_of_pods())) else {
            return false;
        };
        client.write_all(b"from a client").expect("sent");
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(1) {
            let Ok((mut taken, _)) = self.listener.accept() else {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            };
            let mut bytes = [0; 13];
            taken.set_nonblocking(false).expect("it waits");
            let limit = Some(Duration::from_millis(50));
            taken.set_read_timeout(limit).expect("set");
            if taken.read_exact(&mut bytes).is_ok() && bytes == *b"from a client" {
                return true;
            }
        }
        false
    }
}

fn port_of_pods() -> u16 {
    u16::try_from(POSTGRES_PORT).expect("a port")
}

/// The pod becomes the primary of the next term, with two heirs, and hands its role over in the one after that.
fn hands_over(world: &World, pod: &mut Pod) -> SupervisorStatus {
    let term = pod.status(world).expect("answered").promised_term.next();
    pod.order(world, "/seal", &SealRequest { term });
    let candidate = id_of(&pod.status(world).expect("answered"));
    let heirs = EngineSet {
        term,
        required: 1,
        ..set(1, vec![InstanceId::random(), InstanceId::random()])
    };
    let promote = PromoteRequest {
        term,
        candidate,
        set: heirs,
    };
    pod.order(world, "/promote", &promote);
    pod.until(world, "promoted", |s| {
        let engine = s.engine.as_ref();
        engine.is_some_and(|e| e.role == EngineRole::Primary && !e.in_recovery)
    });
    let term = term.next();
    let demote = DemoteRequest {
        term,
        within_ms: 30_000,
    };
    pod.order(world, "/demote", &demote);
    pod.until(world, "demoted, without its port", |s| {
        s.sealed && s.promised_term == term && s.engine.is_some() && s.gave_way
    })
}

fn follow(world: &World, pod: &Pod, sealed: &SupervisorStatus, heir: &Heir) {
    let follow = FollowRequest {
        term: sealed.promised_term,
        id: id_of(sealed),
        upstream: Some(Upstream {
            host: "orders-9-0.orders-instances.shop.svc".to_owned(),
            address: heir.address,
        }),
        source: None,
    };
    pod.order(world, "/follow", &follow);
}

/// For a second and a half, which may be over when a late machine looks; then the port is its engine's.
pub(crate) fn passes_clients_on_after_it_handed_over(world: &World, pod: &mut Pod) {
    let sealed = hands_over(world, pod);
    let refused = std::net::TcpStream::connect((pod.ip(), port_of_pods()));
    assert!(refused.is_err(), "nobody has taken over: {refused:?}");
    let heir = Heir::begin();
    let begin = Instant::now();
    follow(world, pod, &sealed, &heir);
    let is_passed_on = heir.is_reached_by(pod);
    assert!(
        is_passed_on || begin.elapsed() > Duration::from_secs(1),
        "nobody is passed on: {}",
        pod.words()
    );
    pod.until(world, "with its port again", |s| !s.gave_way);
    let own = std::net::TcpStream::connect((pod.ip(), port_of_pods()));
    assert!(own.is_ok(), "{own:?}");
    assert!(!heir.is_reached_by(pod), "its own engine has the port");
}

/// The operator has seen the cordon before the kubelet told the pod to end. By then the engine has come up as a standby's.
pub(crate) fn stays_where_it_was_told_to_end_after_it_handed_over(world: &World, pod: &mut Pod) {
    let sealed = hands_over(world, pod);
    pod.terminate();
    let heir = Heir::begin();
    follow(world, pod, &sealed, &heir);
    // It does so for a second and a half; whoever comes later finds nobody.
    assert!(pod.wait_for_end().success(), "{}", pod.words());
    let log = std::fs::read_to_string(pod.log()).expect("a log");
    let own = log.rfind("the engine has its port again").expect("before");
    let after = &log[own..];
    for words in [
        "waiting until the role is elsewhere and clients know",
        "clients that still come here are passed on",
    ] {
        assert!(after.contains(words), "it has not said {words}: {after}");
    }
    assert!(!has_engine(&pod.volume()), "the engine has ended with it");
}
