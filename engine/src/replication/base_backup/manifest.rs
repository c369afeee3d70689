//! The backup manifest: every file with its size and checksum, and the log that the backup needs.
//!
//! Format version 1, checked by `pg_verifybackup`. Source: PostgreSQL 15 manual, chapter 75. The text is built
//! as it goes out, so that its own SHA-256 can stand in its last line.

use std::fmt::Write as _;

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

use crate::ids::{Lsn, TimelineId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumAlgorithm {
    None,
    Crc32c,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl ChecksumAlgorithm {
    pub fn named(name: &str) -> Option<ChecksumAlgorithm> {
        match name.to_ascii_lowercase().as_str() {
            "none" => Some(ChecksumAlgorithm::None),
            "crc32c" => Some(ChecksumAlgorithm::Crc32c),
            "sha224" => Some(ChecksumAlgorithm::Sha224),
            "sha256" => Some(ChecksumAlgorithm::Sha256),
            "sha384" => Some(ChecksumAlgorithm::Sha384),
            "sha512" => Some(ChecksumAlgorithm::Sha512),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            ChecksumAlgorithm::None => "NONE",
            ChecksumAlgorithm::Crc32c => "CRC32C",
            ChecksumAlgorithm::Sha224 => "SHA224",
            ChecksumAlgorithm::Sha256 => "SHA256",
            ChecksumAlgorithm::Sha384 => "SHA384",
            ChecksumAlgorithm::Sha512 => "SHA512",
        }
    }
}

/// The checksum of one file, fed piece by piece.
pub enum FileChecksum {
    None,
    Crc32c(u32),
    Sha224(Sha224),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl FileChecksum {
    pub fn new(algorithm: ChecksumAlgorithm) -> FileChecksum {
        match algorithm {
            ChecksumAlgorithm::None => FileChecksum::None,
            ChecksumAlgorithm::Crc32c => FileChecksum::Crc32c(0),
            ChecksumAlgorithm::Sha224 => FileChecksum::Sha224(Sha224::new()),
            ChecksumAlgorithm::Sha256 => FileChecksum::Sha256(Sha256::new()),
            ChecksumAlgorithm::Sha384 => FileChecksum::Sha384(Sha384::new()),
            ChecksumAlgorithm::Sha512 => FileChecksum::Sha512(Sha512::new()),
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            FileChecksum::None => {}
            FileChecksum::Crc32c(crc) => *crc = crc32c::crc32c_append(*crc, bytes),
            FileChecksum::Sha224(sha) => sha.update(bytes),
            FileChecksum::Sha256(sha) => sha.update(bytes),
            FileChecksum::Sha384(sha) => sha.update(bytes),
            FileChecksum::Sha512(sha) => sha.update(bytes),
        }
    }

    fn finish(self) -> Option<String> {
        match self {
            FileChecksum::None => None,
            // PostgreSQL prints the CRC's bytes as they lie in memory on a little-endian machine.
            FileChecksum::Crc32c(crc) => Some(hex(&crc.to_le_bytes())),
            FileChecksum::Sha224(sha) => Some(hex(&sha.finalize())),
            FileChecksum::Sha256(sha) => Some(hex(&sha.finalize())),
            FileChecksum::Sha384(sha) => Some(hex(&sha.finalize())),
            FileChecksum::Sha512(sha) => Some(hex(&sha.finalize())),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// A stretch of log on one timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRange {
    pub timeline: TimelineId,
    pub start: Lsn,
    pub end: Lsn,
}

pub struct Manifest {
    algorithm: ChecksumAlgorithm,
    text: String,
    first: bool,
}

impl Manifest {
    pub fn new(algorithm: ChecksumAlgorithm) -> Manifest {
        let text = "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [".to_owned();
        Manifest {
            algorithm,
            text,
            first: true,
        }
    }

    pub fn checksum(&self) -> FileChecksum {
        FileChecksum::new(self.algorithm)
    }

    /// `modified`: a point in time, printed in GMT.
    pub fn add_file(
        &mut self,
        path: &str,
        size: u64,
        modified: jiff::Timestamp,
        sum: FileChecksum,
    ) {
        self.text.push_str(if self.first { "\n" } else { ",\n" });
        self.first = false;
        let quoted = serde_json::Value::from(path).to_string();
        let modified = modified.strftime("%Y-%m-%d %H:%M:%S GMT");
        let _ = write!(
            self.text,
            "{{ \"Path\": {quoted}, \"Size\": {size}, \"Last-Modified\": \"{modified}\""
        );
        if let Some(sum) = sum.finish() {
            let name = self.algorithm.name();
            let _ = write!(
                self.text,
                ", \"Checksum-Algorithm\": \"{name}\", \"Checksum\": \"{sum}\""
            );
        }
        self.text.push_str(" }");
    }

    /// The whole text, its own checksum in the last line. `log`: what the backup needs, newest timeline first.
    pub fn finish(mut self, log: &[LogRange]) -> String {
        self.text.push_str("\n],\n\"WAL-Ranges\": [\n");
        for (i, range) in log.iter().enumerate() {
            let LogRange {
                timeline,
                start,
                end,
            } = range;
            let before = if i == 0 { "" } else { ",\n" };
            let _ = write!(
                self.text,
                "{before}{{ \"Timeline\": {timeline}, \"Start-LSN\": \"{start}\", \"End-LSN\": \"{end}\" }}"
            );
        }
        self.text.push_str("\n],\n");
        let sum = hex(&Sha256::digest(self.text.as_bytes()));
        let _ = writeln!(self.text, "\"Manifest-Checksum\": \"{sum}\"}}");
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_json_and_sums_itself() {
        let mut manifest = Manifest::new(ChecksumAlgorithm::Crc32c);
        let mut sum = manifest.checksum();
        sum.update(b"1234");
        sum.update(b"56789");
        manifest.add_file("a \"b\"", 9, jiff::Timestamp::UNIX_EPOCH, sum);
        let range = |timeline, start, end| LogRange {
            timeline: TimelineId::new(timeline),
            start: Lsn::new(start),
            end: Lsn::new(end),
        };
        let text = manifest.finish(&[range(2, 0x80, 0x100), range(1, 0x28, 0x80)]);
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        // The check value of CRC-32C is E3069283.
        assert_eq!(json["Files"][0]["Checksum"], "839206e3");
        assert_eq!(json["Files"][0]["Last-Modified"], "1970-01-01 00:00:00 GMT");
        assert_eq!(json["WAL-Ranges"][0]["End-LSN"], "0/100");
        assert_eq!(json["WAL-Ranges"][1]["Timeline"], 1);
        assert_eq!(json["WAL-Ranges"][1]["Start-LSN"], "0/28");
        let (body, last) = text.split_at(text.rfind("\"Manifest-Checksum\"").expect("there"));
        assert!(last.contains(&hex(&Sha256::digest(body.as_bytes()))));
    }
}
