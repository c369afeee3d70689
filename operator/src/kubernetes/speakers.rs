//! Which supervisors are heard, and in which pods. A status stream ends with its process, while a pod's object may be gone
//! before that: what is deleted by force lives two seconds longer, serves, and can hand its role over in that time.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::transport::Peer;

/// A supervisor whose status stream is open.
#[derive(Clone, Debug)]
pub struct Speaker {
    /// Of the pod that it is in.
    pub pod_uid: String,
    pub peer: Peer,
}

/// By instance.
#[derive(Debug, Default)]
pub struct Speakers(Mutex<BTreeMap<String, Speaker>>);

/// As long as this lives the supervisor is heard.
#[must_use]
#[derive(Debug)]
pub struct Speaking<'a> {
    all: &'a Speakers,
    instance: String,
    pod_uid: String,
}

impl Speakers {
    /// From now on the supervisor in this pod is heard, whoever was before it.
    pub fn begin(&self, instance: &str, pod_uid: &str, peer: &Peer) -> Speaking<'_> {
        let speaker = Speaker {
            pod_uid: pod_uid.to_owned(),
            peer: peer.clone(),
        };
        self.0.lock().insert(instance.to_owned(), speaker);
        Speaking {
            all: self,
            instance: instance.to_owned(),
            pod_uid: pod_uid.to_owned(),
        }
    }

    pub fn of(&self, instance: &str) -> Option<Speaker> {
        self.0.lock().get(instance).cloned()
    }
}

impl Drop for Speaking<'_> {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        // The stream of the pod that came after it may be open already.
        let is_its = |speaker: &Speaker| speaker.pod_uid == self.pod_uid;
        if all.get(&self.instance).is_some_and(is_its) {
            all.remove(&self.instance);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;

    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};

    use super::*;

    fn peer(port: u16) -> Peer {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        Peer {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            name: ServerName::try_from("orders-1").expect("a name"),
            config: Arc::new(config),
        }
    }

    #[test]
    fn who_is_heard_is_known_until_his_stream_ends() {
        let speakers = Speakers::default();
        let heard = || {
            let speaker = speakers.of("orders-1")?;
            Some((speaker.pod_uid, speaker.peer.address.port()))
        };
        assert_eq!(heard(), None);
        let first = speakers.begin("orders-1", "a", &peer(1));
        assert_eq!(heard(), Some(("a".to_owned(), 1)));
        let second = speakers.begin("orders-1", "b", &peer(2));
        drop(first);
        assert_eq!(heard(), Some(("b".to_owned(), 2)), "the end of another's");
        drop(second);
        assert_eq!(heard(), None);
    }
}
