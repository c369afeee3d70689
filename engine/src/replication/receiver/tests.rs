//! One message after the other, without an upstream.

use bytes::BytesMut;

use super::*;

/// A volume that takes nothing.
struct Full;

impl ReceivedWal for Full {
    fn expect(&mut self, _: Lsn) {}
    fn write(&mut self, _: TimelineId, _: Lsn, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn has_history(&self, _: TimelineId) -> io::Result<bool> {
        Ok(false)
    }
    fn put_history(&mut self, _: TimelineId, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// A standby that nobody asks anything.
struct Idle;

impl Standby for Idle {
    fn upstream(&self) -> UpstreamSettings {
        UpstreamSettings {
            conninfo: None,
            slot: None,
            name: "idle".to_owned(),
            status_interval: Duration::ZERO,
            timeout: Duration::ZERO,
            retry_interval: Duration::ZERO,
            feedback: false,
            instance_id: None,
        }
    }
    fn system_id(&self) -> SystemId {
        SystemId::new(1)
    }
    fn promised_term(&self) -> Option<Term> {
        None
    }
    fn replay_lsn(&self) -> watch::Receiver<Lsn> {
        watch::channel(Lsn::INVALID).1
    }
    fn oldest_snapshot(&self) -> Option<Lsn> {
        None
    }
    fn stream_ended(&self) {}
    fn released(&self, _: TimelineId, _: Lsn, _: bool) {}
}

/// It counts as soon as it was read, whatever becomes of it, and that wakes nobody by itself.
#[test]
fn every_message_is_a_sign_of_life() {
    let (_request, requests) = watch::channel((0, Request::Stop));
    let (publish, mut progress) = watch::channel(Progress::idle());
    let mut worker = Worker {
        standby: Arc::new(Idle),
        wal: Box::new(Full),
        requests,
        publish,
    };
    assert!(progress.borrow().heard_at.is_none());
    let mut session = Session::new(Lsn::INVALID, &Idle.upstream());
    let (end, sent_at) = (Lsn::new(8), 0);
    let messages = [
        FromPrimary::XLogData {
            start: Lsn::INVALID,
            end,
            sent_at,
            data: Bytes::from_static(b"12345678"),
        },
        FromPrimary::Keepalive {
            end,
            sent_at,
            reply_requested: false,
        },
        FromPrimary::Released {
            released: end,
            synchronous: true,
        },
        FromPrimary::Probe { number: 1 },
    ];
    for message in messages {
        worker.publish.send_modify(|p| p.heard_at = None);
        progress.mark_unchanged();
        let mut payload = BytesMut::new();
        message.encode(&mut payload);
        let taken = worker.take(&mut session, TimelineId::FIRST, payload.freeze());
        let is_log = matches!(message, FromPrimary::XLogData { .. });
        assert_eq!(taken.is_err(), is_log, "{message:?}");
        assert!(progress.borrow().heard_at.is_some(), "{message:?}");
        let wakes = progress.has_changed().expect("the worker is there");
        let is_keepalive = matches!(message, FromPrimary::Keepalive { .. });
        assert_eq!(wakes, is_keepalive, "{message:?}");
    }
}
