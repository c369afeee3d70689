//! Certificates, keys and revocation lists in PEM files, and who may be able to read a key.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::config::conf_file::os_message;

/// Longer files are no certificates. The system's bundle of authorities has some 200 kB.
const LONGEST_FILE: u64 = 16 << 20;

/// What is wrong with a file, as the end of a message that names it.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    #[error("{}", os_message(.0))]
    Io(#[from] io::Error),
    #[error("no {0} found")]
    Nothing(&'static str),
    #[error("bad PEM data: {0}")]
    Pem(String),
    #[error("it is longer than {} bytes", LONGEST_FILE)]
    TooLong,
    #[error(
        "it is encrypted, which is not implemented; decrypt it with \"openssl pkey\" and protect it by its permissions"
    )]
    Encrypted,
}

fn contents(path: &Path) -> Result<Vec<u8>, FileFault> {
    use std::io::Read as _;
    let mut text = Vec::new();
    std::fs::File::open(path)?
        .take(LONGEST_FILE + 1)
        .read_to_end(&mut text)?;
    if text.len() as u64 > LONGEST_FILE {
        return Err(FileFault::TooLong);
    }
    Ok(text)
}

fn fault(e: &pem::Error, wanted: &'static str) -> FileFault {
    match e {
        pem::Error::NoItemsFound => FileFault::Nothing(wanted),
        other => FileFault::Pem(other.to_string()),
    }
}

/// Every certificate of a file, in its order; at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileFault> {
    all(path, "certificate")
}

/// Every revocation list of a file; at least one.
pub fn revocation_lists(
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, FileFault> {
    all(path, "certificate revocation list")
}

fn all<T: PemObject>(path: &Path, wanted: &'static str) -> Result<Vec<T>, FileFault> {
    let text = contents(path)?;
    let items = T::pem_slice_iter(&text)
        .collect::<Result<Vec<T>, _>>()
        .map_err(|e| fault(&e, wanted))?;
    if items.is_empty() {
        return Err(FileFault::Nothing(wanted));
    }
    Ok(items)
}

/// The file's first private key.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileFault> {
    let text = contents(path)?;
    // PKCS #8 says it in the marker, older forms in a header.
    if [&b"ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| memchr::memmem::find(&text, mark).is_some())
    {
        return Err(FileFault::Encrypted);
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|e| fault(&e, "private key"))
}

/// Who else can read a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAccess {
    Fine,
    NotRegular,
    /// It belongs to somebody who is neither we nor root.
    Owner,
    GroupOrWorld,
}

/// The server's rule: ours with 0600 or less, or root's with 0640 or less, for groups that read the system's keys.
pub fn server_key_access(meta: &Metadata, own_uid: u32) -> KeyAccess {
    if !meta.is_file() {
        return KeyAccess::NotRegular;
    }
    if meta.uid() != own_uid && meta.uid() != 0 {
        return KeyAccess::Owner;
    }
    let too_open = (meta.uid() == own_uid && meta.mode() & 0o077 != 0)
        || (meta.uid() == 0 && meta.mode() & 0o037 != 0);
    if too_open {
        KeyAccess::GroupOrWorld
    } else {
        KeyAccess::Fine
    }
}

/// The client's rule: 0640 or less if it is root's, else 0600 or less. The owner need not be compared: with 0600,
/// being able to read it says who that is.
pub fn client_key_access(meta: &Metadata) -> KeyAccess {
    if !meta.is_file() {
        return KeyAccess::NotRegular;
    }
    let forbidden = if meta.uid() == 0 { 0o037 } else { 0o077 };
    if meta.mode() & forbidden == 0 {
        KeyAccess::Fine
    } else {
        KeyAccess::GroupOrWorld
    }
}
