//! Every decoder of bytes that come from outside, each behind one function that takes any bytes whatsoever.
//!
//! What they promise: no panic, no endless loop, and what was read and is written again reads back as the same. The
//! fuzz targets in `fuzz/` call these functions with bytes that coverage leads to; the unit tests call them with
//! mutated real files. Nothing else in the program uses them.

use std::path::Path;

use bytes::{Bytes, BytesMut};

use crate::config::conf_file::ConfFile;
use crate::config::conninfo::ConnInfo;
use crate::config::hba::Hba;
use crate::config::hba::ident::IdentMaps;
use crate::config::scram::{Binding, ServerExchange, Verifier};
use crate::ids::{Lsn, PAGE_SIZE, SegmentNumber, TimelineId};
use crate::recovery::backup_label::BackupLabel;
use crate::replication::messages::{FromPrimary, FromStandby};
use crate::server::protocol::frontend::{AUTH_LIMIT, Message, next_frame};
use crate::server::protocol::startup::{next_packet, split_options};
use crate::storage::ControlData;
use crate::tls::certificate::Certificate;
use crate::tls::facts::ClientCertificate;
use crate::txn::{Ending, decode_standby_locks};
use crate::wal::timeline::History;
use crate::wal::{
    Decoded, PageBytes, PageRequest, ReadError, RmgrId, WalBytes, WalError, WalReader, xlog_records,
};

#[cfg(test)]
mod tests;

const SEGMENT_SIZE: u32 = 1 << 20;

/// A log that is these bytes, from the start of segment 1 on.
struct Pages<'a>(&'a [u8]);

impl WalBytes for Pages<'_> {
    fn read_page(
        &mut self,
        request: PageRequest,
        buf: &mut [u8; PAGE_SIZE],
    ) -> Result<PageBytes, WalError> {
        let at = request.page.raw().checked_sub(u64::from(SEGMENT_SIZE));
        let page = at
            .and_then(|at| usize::try_from(at).ok())
            .and_then(|at| self.0.get(at..))
            .unwrap_or_default();
        let have = page.len().min(PAGE_SIZE);
        if have < request.need {
            return Ok(PageBytes::Missing);
        }
        buf[..have].copy_from_slice(&page[..have]);
        Ok(PageBytes::Have(have))
    }

    fn goes_on_after(&mut self, _: SegmentNumber) -> Result<bool, WalError> {
        Ok(false)
    }
}

/// Reads the bytes as a log of 1 MiB segments. Gives how many records there were and why reading ended.
pub fn wal(bytes: &[u8]) -> (usize, ReadError) {
    let mut reader = WalReader::new(
        Pages(bytes),
        SEGMENT_SIZE,
        Lsn::new(u64::from(SEGMENT_SIZE)),
    );
    let mut records = 0;
    loop {
        match reader.next() {
            Ok(record) => {
                payload(&record);
                records += 1;
                assert!(records <= bytes.len(), "more records than bytes");
            }
            Err(end) => return (records, end),
        }
    }
}

/// One record whose CRC is taken for right: parts, payload, and what redo would do to the pages it names.
pub fn wal_record(bytes: &[u8]) -> bool {
    match Decoded::of_bytes(bytes) {
        Ok(record) => {
            payload(&record);
            true
        }
        Err(_) => false,
    }
}

fn payload(record: &Decoded<'_>) {
    let main = record.main;
    match record.rmgr {
        RmgrId::XLOG => {
            let _ = xlog_records::CheckPoint::decode(main);
            let _ = xlog_records::EndOfRecovery::decode(main);
            let _ = xlog_records::OverwriteContrecord::decode(main);
            let _ = xlog_records::ParameterChange::decode(main);
            let _ = xlog_records::RestorePoint::decode(main);
            let _ = xlog_records::decode_backup_end(main);
            let _ = xlog_records::decode_next_oid(main);
            let _ = xlog_records::decode_fpw_change(main);
        }
        RmgrId::TRANSACTION => {
            let _ = Ending::decode(record.info, record.xid_low, main);
        }
        RmgrId::STANDBY => {
            let _ = decode_standby_locks(main);
        }
        RmgrId::HEAP => {
            let _ = crate::table::conflict_lsn(record.info, main);
        }
        _ => {}
    }
    let apply = match record.rmgr {
        RmgrId::HEAP => crate::table::page_fn(),
        RmgrId::BTREE => crate::index::page_fn(),
        RmgrId::SEQUENCE => crate::table::sequence::page_fn(),
        _ => return,
    };
    for block in &record.blocks {
        let mut page = [0; PAGE_SIZE];
        if let Some(image) = &block.image {
            image.restore(&mut page);
        }
        // A page that does not fit the record is refused; it is never half changed into something that crashes.
        let _ = apply(record.info, block.id, &mut page, block.data);
    }
}

/// A client's bytes: before the start-up packet, during authentication, and after it.
pub fn protocol(bytes: &[u8]) {
    let mut input = BytesMut::from(bytes);
    while let Ok(Some(_)) = next_packet(&mut input) {}
    for limit in [Some(AUTH_LIMIT), None] {
        let mut input = BytesMut::from(bytes);
        while let Ok(Some(frame)) = next_frame(&mut input, limit) {
            match frame.message() {
                Ok(Message::Bind(b)) => {
                    assert_eq!(b.parameters.iter().count(), b.parameters.len());
                    let _ = (b.parameter_formats.formats(), b.result_formats.formats());
                }
                Ok(Message::Parse { types, .. }) => assert_eq!(types.iter().count(), types.len()),
                _ => {}
            }
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = split_options(text);
    }
}

/// A client's side of SCRAM: both of its messages, separated by a line feed.
pub fn scram(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Some(v) = Verifier::parse(text) {
        assert_eq!(Verifier::parse(&v.to_string()), Some(v));
    }
    let (first, last) = text.split_once('\n').unwrap_or((text, ""));
    for binding in [Binding::None, Binding::Declined, Binding::EndPoint(b"hash")] {
        let verifier = Verifier::mock(b"secret", "user");
        if let Ok((exchange, _)) = ServerExchange::start(verifier, true, first, binding) {
            assert!(exchange.finish(last).is_err(), "nobody knows the nonce");
        }
    }
}

/// A peer's certificate, whose names are shown and compared.
pub fn certificate(bytes: &[u8]) {
    let Ok(certificate) = Certificate::parse(bytes) else {
        return;
    };
    for host in ["db.example.org", "10.0.0.1", "::1", "", "*"] {
        let _ = certificate.is_for_host(host);
    }
    let _ = certificate.is_valid_at(0);
    let _ = certificate.end_point_hash(bytes);
    let _ = certificate.public_key();
    assert!(!certificate.issuer_line().contains('\n'));
    if let Ok(client) = ClientCertificate::parse(bytes) {
        assert!(client.serial.bytes().all(|b| b.is_ascii_digit()));
        assert!(!client.distinguished_name.contains('\0'));
    }
}

/// `pg_hba.conf`.
pub fn hba(bytes: &[u8]) {
    if let Ok(hba) = Hba::parse(bytes, Path::new("/nowhere/pg_hba.conf")) {
        for record in hba.records.iter() {
            assert!(!record.databases.is_empty() && !record.users.is_empty());
        }
    }
}

/// `pg_ident.conf`.
pub fn ident(bytes: &[u8]) {
    if let Ok(maps) = IdentMaps::parse(bytes, Path::new("/nowhere/pg_ident.conf")) {
        let _ = maps.check(Some("map"), "role", "outside@here.org");
    }
}

/// `postgresql.conf`, every value of it, and connection strings.
pub fn settings(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let file = ConfFile::parse(&text, Path::new("/nowhere/postgresql.conf"));
    for e in &file.entries {
        let Some(d) = crate::config::registry::registry().find(&e.name) else {
            continue;
        };
        let read = |text: &str| crate::config::checks::parse(d, text, &Default::default());
        if let Ok(value) = read(&e.value) {
            // What is shown is taken back, and is the same then.
            let shown = d.raw(&value);
            assert_eq!(
                read(&shown).map(|v| d.raw(&v)),
                Ok(shown.clone()),
                "{} = {}",
                d.name,
                e.value
            );
        }
    }
    if let Ok(c) = ConnInfo::parse(&text) {
        let again = c.to_string();
        assert_eq!(ConnInfo::parse(&again), Ok(c), "{again}");
    }
}

/// What travels in CopyData on a replication connection, in both directions.
pub fn replication(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(message) = FromPrimary::decode(bytes.clone()) {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        assert_eq!(FromPrimary::decode(out.freeze()), Ok(message));
    }
    if let Ok(message) = FromStandby::decode(bytes.clone()) {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        assert_eq!(FromStandby::decode(out.freeze()), Ok(message));
    }
    if let Ok(text) = std::str::from_utf8(&bytes) {
        let _ = crate::sql::front::replication::parse(text);
    }
}

/// `global/pg_control`.
pub fn control_file(bytes: &[u8]) -> bool {
    match ControlData::decode(bytes) {
        Ok(data) => {
            assert!(ControlData::decode(&data.encode()).is_ok());
            true
        }
        Err(_) => false,
    }
}

/// `NNNNNNNN.history`.
pub fn timeline_history(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let timeline = TimelineId::new(9);
    if let Ok(history) = History::parse(timeline, &text) {
        let again = History::parse(timeline, &history.to_text()).expect("own form");
        // The reason is for people, and loses a carriage return at its end.
        let forks =
            |h: &History| -> Vec<_> { h.ancestors().iter().map(|a| (a.timeline, a.end)).collect() };
        assert_eq!(forks(&again), forks(&history));
        for lsn in [0, 1, u64::MAX / 2, u64::MAX] {
            let _ = history.owner(Lsn::new(lsn));
        }
    }
}

/// `backup_label`.
pub fn backup_label(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(label) = BackupLabel::parse(&text, SEGMENT_SIZE) {
        let again = BackupLabel::parse(&label.to_text(SEGMENT_SIZE), SEGMENT_SIZE);
        assert_eq!(again.expect("own form").start, label.start);
    }
}

/// The text of statements.
pub fn sql(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = crate::sql::front::parse(text);
    }
}
