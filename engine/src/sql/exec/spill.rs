//! Temporary files of sorts and hash tables, and the form that values have in them.
//!
//! A file lives in `base/pgsql_tmp`, is named `pgsql_tmp<pid>.<n>` as PostgreSQL names them, is written from start
//! to end and then read, and goes when its owner is dropped. Nothing in it outlives the process: whatever a crash
//! leaves behind is removed at the next start, and base backups leave the folder out.
//!
//! A value is a tag byte and its fields, little-endian; a length is a LEB128 number. The types of a row stand before its
//! fields.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use num_bigint::BigInt;

use crate::ids::{BlockNumber, Lsn, OffsetNumber, Oid, ProcessId, Tid};
use crate::io::disk::{Access, Disk, DiskRef, EntryKind, FileRef};
use crate::sql::error::SqlError;
use crate::storage::StorageError;
use crate::types::acl::{self, AclItem};
use crate::types::array::Array;
use crate::types::datum::Datum;
use crate::types::interval::Interval;
use crate::types::json;
use crate::types::numeric::Numeric;
use crate::types::record::Record;

/// Where temporary files go.
#[derive(Clone)]
pub struct TempSpace {
    disk: DiskRef,
    pid: ProcessId,
}

const FOLDER: &str = "base/pgsql_tmp";
/// How the files' names begin.
const PREFIX: &str = "pgsql_tmp";
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Bytes gathered before a write, and read at a time.
pub(super) const CHUNK: usize = 64 << 10;
/// A buffer that one long value has made larger than this is not kept.
const KEPT: usize = 4 * CHUNK;

impl TempSpace {
    pub fn new(disk: DiskRef, pid: ProcessId) -> TempSpace {
        TempSpace { disk, pid }
    }

    pub fn create(&self) -> Result<SpillFile, SqlError> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = format!("{FOLDER}/{PREFIX}{}.{number}", self.pid);
        let fail = |source| StorageError::Io {
            operation: "create temporary",
            path: path.clone(),
            source,
        };
        let target = PathBuf::from(&path);
        let file = match self.disk.open(&target, Access::Truncate) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                match self.disk.create_dir(FOLDER.as_ref()) {
                    Err(e) if e.kind() != ErrorKind::AlreadyExists => {
                        return Err(fail(e).into());
                    }
                    _ => {}
                }
                self.disk.open(&target, Access::Truncate).map_err(fail)?
            }
            opened => opened.map_err(fail)?,
        };
        Ok(SpillFile {
            disk: Arc::clone(&self.disk),
            file,
            path: target,
            pending: Vec::new(),
            written: 0,
        })
    }
}

/// Removes what a crash has left, or came with a copy of a running server's directory: before recovery, which would
/// sync it, and before anybody spills. What cannot be removed stays, and is told in the log.
pub fn remove_temporary_files(disk: &dyn Disk) {
    let folder = Path::new(FOLDER);
    let entries = match disk.list(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return,
        Err(error) => {
            tracing::warn!(path = FOLDER, %error, "could not read directory");
            return;
        }
    };
    for (name, kind) in entries {
        if kind != EntryKind::File || !name.starts_with(PREFIX) {
            continue;
        }
        let path = folder.join(name);
        if let Err(error) = disk.remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "could not remove temporary file");
        }
    }
}

/// A file of rows, written first, then read from any row's offset.
pub struct SpillFile {
    disk: DiskRef,
    file: FileRef,
    path: PathBuf,
    pending: Vec<u8>,
    written: u64,
}

impl SpillFile {
    fn failed(&self, operation: &'static str, source: std::io::Error) -> SqlError {
        StorageError::Io {
            operation,
            path: self.path.display().to_string(),
            source,
        }
        .into()
    }

    /// Where the next row will begin.
    pub fn position(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    pub fn push<'d>(&mut self, row: impl Iterator<Item = &'d Datum>) -> Result<(), SqlError> {
        for value in row {
            encode(value, &mut self.pending);
        }
        if self.pending.len() >= CHUNK {
            self.flush()?;
        }
        Ok(())
    }

    pub fn flush(&mut self) -> Result<(), SqlError> {
        self.file
            .write_all_at(&self.pending, self.written)
            .map_err(|e| self.failed("write to temporary", e))?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        if self.pending.capacity() > KEPT {
            self.pending = Vec::new();
        }
        Ok(())
    }
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        if let Err(error) = self.disk.remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "could not remove temporary file");
        }
    }
}

/// Reads rows of a [`SpillFile`] in order.
#[derive(Default)]
pub struct SpillReader {
    buffer: Vec<u8>,
    at: usize,
    /// File offset of the byte behind the buffer.
    next: u64,
}

impl SpillReader {
    pub fn starting_at(offset: u64) -> SpillReader {
        SpillReader {
            buffer: Vec::new(),
            at: 0,
            next: offset,
        }
    }

    /// Offset of the next row.
    pub fn position(&self) -> u64 {
        self.next - (self.buffer.len() - self.at) as u64
    }

    /// The next `width` values into `out`; false at `end`.
    pub fn read(
        &mut self,
        file: &mut SpillFile,
        end: u64,
        width: usize,
        mut out: impl FnMut(usize, Datum),
    ) -> Result<bool, SqlError> {
        if self.position() >= end {
            return Ok(false);
        }
        if !file.pending.is_empty() {
            file.flush()?;
        }
        let mut done = 0;
        while done < width {
            let mut at = self.at;
            match decode(&self.buffer, &mut at) {
                Some(value) => {
                    out(done, value);
                    self.at = at;
                    done += 1;
                }
                None => self.fill(file)?,
            }
        }
        Ok(true)
    }

    /// Drops what was read and appends the next chunk. A value that is not whole is decoded anew with each chunk,
    /// so the chunks of a long one grow with what there is of it.
    fn fill(&mut self, file: &SpillFile) -> Result<(), SqlError> {
        self.buffer.drain(..self.at);
        self.at = 0;
        let old = self.buffer.len();
        if old < CHUNK && self.buffer.capacity() > KEPT {
            self.buffer.shrink_to(2 * CHUNK);
        }
        self.buffer.resize(old + old.max(CHUNK), 0);
        let read = file
            .file
            .read_at(&mut self.buffer[old..], self.next)
            .map_err(|e| file.failed("read temporary", e))?;
        self.buffer.truncate(old + read);
        self.next += read as u64;
        if read == 0 {
            return Err(SqlError::internal(format!(
                "unexpected end of temporary file \"{}\"",
                file.path.display()
            )));
        }
        Ok(())
    }
}

fn put_length(mut n: usize, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push((n & 0x7F) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

macro_rules! fixed {
    ($out:expr, $tag:expr, $($value:expr),+) => {{
        $out.push($tag);
        $($out.extend_from_slice(&$value.to_le_bytes());)+
    }};
}

/// Appends one value.
pub fn encode(value: &Datum, out: &mut Vec<u8>) {
    match value {
        Datum::Null => out.push(0),
        Datum::Bool(b) => out.push(1 + u8::from(*b)),
        Datum::Int2(v) => fixed!(out, 3, v),
        Datum::Int4(v) => fixed!(out, 4, v),
        Datum::Int8(v) => fixed!(out, 5, v),
        Datum::Float4(v) => fixed!(out, 6, v),
        Datum::Float8(v) => fixed!(out, 7, v),
        Datum::Numeric(n) => match n.as_ref() {
            Numeric::Finite { unscaled, scale } => {
                fixed!(out, 8, scale);
                put_bytes(&unscaled.to_signed_bytes_le(), out);
            }
            Numeric::NaN => out.push(9),
            Numeric::Infinity => out.push(10),
            Numeric::NegInfinity => out.push(11),
        },
        Datum::Text(s) => {
            out.push(12);
            put_bytes(s.as_bytes(), out);
        }
        Datum::Char(c) => fixed!(out, 13, c),
        Datum::Bytea(b) => {
            out.push(14);
            put_bytes(b, out);
        }
        Datum::Date(v) => fixed!(out, 15, v),
        Datum::Time(v) => fixed!(out, 16, v),
        Datum::TimeTz(v, zone) => fixed!(out, 17, v, zone),
        Datum::Timestamp(v) => fixed!(out, 18, v),
        Datum::TimestampTz(v) => fixed!(out, 19, v),
        Datum::Interval(i) => fixed!(out, 20, i.months, i.days, i.micros),
        Datum::Uuid(u) => {
            out.push(21);
            out.extend_from_slice(u);
        }
        Datum::Jsonb(j) => {
            out.push(22);
            put_bytes(j.to_string().as_bytes(), out);
        }
        Datum::Oid(o) => fixed!(out, 23, o.raw()),
        Datum::Xid(x) => fixed!(out, 24, x),
        Datum::Xid8(x) => fixed!(out, 25, x),
        Datum::Tid(t) => fixed!(out, 26, t.block.raw(), t.offset.raw()),
        Datum::Lsn(l) => fixed!(out, 27, l.raw()),
        Datum::Array(a) => {
            fixed!(out, 28, a.element.raw());
            put_length(a.dimensions.len(), out);
            for (length, lower) in &a.dimensions {
                put_length(*length, out);
                out.extend_from_slice(&lower.to_le_bytes());
            }
            put_values(&a.items, out);
        }
        Datum::Record(r) => {
            out.push(29);
            put_length(r.types().len(), out);
            for ty in r.types() {
                out.extend_from_slice(&ty.raw().to_le_bytes());
            }
            for field in r.fields() {
                encode(field, out);
            }
        }
        Datum::Void => out.push(30),
        Datum::AclItem(item) => {
            out.push(31);
            out.extend_from_slice(&item.to_bytes());
        }
    }
}

fn put_values(values: &[Datum], out: &mut Vec<u8>) {
    put_length(values.len(), out);
    for value in values {
        encode(value, out);
    }
}

fn take<'b>(bytes: &'b [u8], at: &mut usize, n: usize) -> Option<&'b [u8]> {
    let end = at.checked_add(n)?;
    let part = bytes.get(*at..end)?;
    *at = end;
    Some(part)
}

fn length(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let mut n = 0_usize;
    let mut shift = 0;
    loop {
        let byte = *bytes.get(*at)?;
        *at += 1;
        n |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
        shift += 7;
    }
}

fn block<'b>(bytes: &'b [u8], at: &mut usize) -> Option<&'b [u8]> {
    let n = length(bytes, at)?;
    take(bytes, at, n)
}

fn record(bytes: &[u8], at: &mut usize) -> Option<Record> {
    let n = length(bytes, at)?;
    let types = take(bytes, at, n.checked_mul(size_of::<u32>())?)?;
    let (types, _) = types.as_chunks();
    let types = types.iter().map(|ty| Oid::new(u32::from_le_bytes(*ty)));
    let types: Arc<[Oid]> = types.collect();
    Some(Record::new(&types, values(bytes, at, n)?))
}

fn values(bytes: &[u8], at: &mut usize, n: usize) -> Option<Vec<Datum>> {
    let mut made = Vec::with_capacity(n.min(1024));
    for _ in 0..n {
        made.push(decode(bytes, at)?);
    }
    Some(made)
}

macro_rules! number {
    ($ty:ty, $bytes:expr, $at:expr) => {
        <$ty>::from_le_bytes(
            take($bytes, $at, size_of::<$ty>())?
                .try_into()
                .expect("as long as asked"),
        )
    };
}

/// The value that begins at `at`, which moves behind it; `None` if the bytes end before it does.
pub fn decode(bytes: &[u8], at: &mut usize) -> Option<Datum> {
    let tag = take(bytes, at, 1)?[0];
    Some(match tag {
        0 => Datum::Null,
        1 => Datum::Bool(false),
        2 => Datum::Bool(true),
        3 => Datum::Int2(number!(i16, bytes, at)),
        4 => Datum::Int4(number!(i32, bytes, at)),
        5 => Datum::Int8(number!(i64, bytes, at)),
        6 => Datum::Float4(number!(f32, bytes, at)),
        7 => Datum::Float8(number!(f64, bytes, at)),
        8 => {
            let scale = number!(u32, bytes, at);
            let unscaled = BigInt::from_signed_bytes_le(block(bytes, at)?);
            Datum::Numeric(Arc::new(Numeric::Finite { unscaled, scale }))
        }
        9 => Datum::Numeric(Arc::new(Numeric::NaN)),
        10 => Datum::Numeric(Arc::new(Numeric::Infinity)),
        11 => Datum::Numeric(Arc::new(Numeric::NegInfinity)),
        12 => Datum::text(std::str::from_utf8(block(bytes, at)?).expect("written from a str")),
        13 => Datum::Char(number!(u8, bytes, at)),
        14 => Datum::Bytea(block(bytes, at)?.into()),
        15 => Datum::Date(number!(i32, bytes, at)),
        16 => Datum::Time(number!(i64, bytes, at)),
        17 => Datum::TimeTz(number!(i64, bytes, at), number!(i32, bytes, at)),
        18 => Datum::Timestamp(number!(i64, bytes, at)),
        19 => Datum::TimestampTz(number!(i64, bytes, at)),
        other => return decode_rest(other, bytes, at),
    })
}

fn decode_rest(tag: u8, bytes: &[u8], at: &mut usize) -> Option<Datum> {
    Some(match tag {
        20 => Datum::Interval(Arc::new(Interval {
            months: number!(i32, bytes, at),
            days: number!(i32, bytes, at),
            micros: number!(i64, bytes, at),
        })),
        21 => Datum::Uuid(take(bytes, at, 16)?.try_into().expect("16 bytes")),
        22 => Datum::Jsonb(Arc::new(
            json::read_back(block(bytes, at)?).expect("written from a value"),
        )),
        23 => Datum::Oid(Oid::new(number!(u32, bytes, at))),
        24 => Datum::Xid(number!(u32, bytes, at)),
        25 => Datum::Xid8(number!(u64, bytes, at)),
        26 => {
            let block = BlockNumber::new(number!(u32, bytes, at));
            let offset = OffsetNumber::new(number!(u16, bytes, at)).expect("never written as 0");
            Datum::Tid(Tid::new(block, offset))
        }
        27 => Datum::Lsn(Lsn::new(number!(u64, bytes, at))),
        28 => {
            let element = Oid::new(number!(u32, bytes, at));
            let count = length(bytes, at)?;
            let mut dimensions = Vec::with_capacity(count.min(8));
            for _ in 0..count {
                dimensions.push((length(bytes, at)?, number!(i32, bytes, at)));
            }
            let n = length(bytes, at)?;
            let items = values(bytes, at, n)?;
            Datum::Array(Arc::new(Array {
                element,
                dimensions,
                items,
            }))
        }
        29 => record(bytes, at)?.into(),
        30 => Datum::Void,
        31 => Datum::AclItem(AclItem::from_bytes(
            take(bytes, at, acl::WIDTH)?
                .try_into()
                .expect("as long as asked"),
        )),
        other => unreachable!("no value is written with tag {other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::real::RealDisk;
    use crate::types::oids;
    use crate::types::record::testing::row;
    use proptest::prelude::*;

    fn datum() -> impl Strategy<Value = Datum> {
        let leaf = prop_oneof![
            Just(Datum::Null),
            any::<bool>().prop_map(Datum::Bool),
            any::<i16>().prop_map(Datum::Int2),
            any::<i32>().prop_map(Datum::Int4),
            any::<i64>().prop_map(Datum::Int8),
            ".*".prop_map(|s| Datum::text(&s)),
            proptest::collection::vec(any::<u8>(), 0..300).prop_map(|b| Datum::Bytea(b.into())),
            (any::<i64>(), any::<u32>()).prop_map(|(n, scale)| Datum::Numeric(Arc::new(
                Numeric::Finite {
                    unscaled: n.into(),
                    scale
                }
            ))),
            any::<[u8; 16]>().prop_map(Datum::Uuid),
            any::<i64>().prop_map(Datum::TimestampTz),
            any::<[u8; acl::WIDTH]>().prop_map(|b| Datum::AclItem(AclItem::from_bytes(b))),
            (any::<i64>(), any::<i32>()).prop_map(|(t, z)| Datum::TimeTz(t, z)),
        ];
        leaf.prop_recursive(2, 16, 4, |inner| {
            let field = (any::<u32>().prop_map(Oid::new), inner);
            proptest::collection::vec(field, 0..4).prop_map(row)
        })
    }

    /// Deeper than serde_json reads.
    #[test]
    fn a_deep_document_comes_back() {
        let text = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        let value = json::parse_jsonb(&text).expect("not too deep");
        let mut bytes = Vec::new();
        encode(&Datum::Jsonb(Arc::new(value)), &mut bytes);
        let Some(Datum::Jsonb(back)) = decode(&bytes, &mut 0) else {
            panic!("of another kind")
        };
        assert_eq!(back.to_string(), text);
    }

    #[test]
    fn what_a_crash_left_is_removed() {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let disk = RealDisk::new(folder.path());
        remove_temporary_files(&disk);
        let temporary = folder.path().join(FOLDER);
        std::fs::create_dir_all(&temporary).expect("the folder");
        for name in ["pgsql_tmp12.0", "pgsql_tmp12.1", "somebody's"] {
            std::fs::write(temporary.join(name), "rows").expect("a file");
        }
        remove_temporary_files(&disk);
        let names: Vec<String> = disk
            .list(Path::new(FOLDER))
            .expect("a folder")
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["somebody's"]);
    }

    #[test]
    fn long_values_between_short_ones_come_back() {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        std::fs::create_dir(folder.path().join("base")).expect("a folder in it");
        let disk = Arc::new(RealDisk::new(folder.path()));
        let temp = TempSpace::new(disk, ProcessId::MIN);
        let mut file = temp.create().expect("a file");
        let numbers = (0..100_000).map(Datum::Int4).collect();
        let rows = [
            Datum::Int4(1),
            Datum::text(&"x".repeat(20 * CHUNK)),
            Datum::Array(Arc::new(Array::of(oids::INT4, numbers))),
            Datum::Int4(2),
        ];
        for row in &rows {
            file.push(std::iter::once(row)).expect("written");
        }
        assert!(
            file.pending.capacity() <= KEPT,
            "a long value's buffer is kept"
        );
        let (mut reader, end) = (SpillReader::default(), file.position());
        let mut back = Vec::new();
        while reader
            .read(&mut file, end, 1, |_, value| back.push(value))
            .expect("read")
        {}
        assert_eq!(format!("{back:?}"), format!("{rows:?}"));
    }

    proptest! {
        #[test]
        fn values_come_back(value in datum()) {
            let mut bytes = Vec::new();
            encode(&value, &mut bytes);
            let mut at = 0;
            let back = decode(&bytes, &mut at).expect("whole");
            prop_assert_eq!(at, bytes.len());
            prop_assert_eq!(format!("{value:?}"), format!("{back:?}"));
            for cut in 0..bytes.len() {
                prop_assert!(decode(&bytes[..cut], &mut 0).is_none());
            }
        }
    }
}
