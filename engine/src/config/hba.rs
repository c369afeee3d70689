//! `pg_hba.conf`: who may come from where, and how they prove who they are.
//!
//! Manual, 21.1. The first record that matches decides; none is a refusal. Reading and matching are pure: what a
//! rule needs of the world (own addresses) is passed in.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

mod parse;

pub mod ident;

#[cfg(test)]
mod tests;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionKind {
    Local,
    Host,
    HostSsl,
    HostNoSsl,
    HostGssEnc,
    HostNoGssEnc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    Trust,
    Reject,
    ScramSha256,
    /// The same: passwords are stored for SCRAM only.
    Md5,
    Peer,
    /// The client's certificate names the role.
    Cert,
}

/// What a record asks of the client's certificate, whatever the method. Manual, 21.12.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCert {
    #[default]
    NotAsked,
    /// Signed by an authority that is trusted here.
    VerifyCa,
    /// ... and its name is the role's.
    VerifyFull,
}

/// The name in a certificate that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CertificateName {
    #[default]
    CommonName,
    DistinguishedName,
}

impl AuthMethod {
    pub fn name(self) -> &'static str {
        match self {
            AuthMethod::Trust => "trust",
            AuthMethod::Reject => "reject",
            AuthMethod::ScramSha256 => "scram-sha-256",
            AuthMethod::Md5 => "md5",
            AuthMethod::Peer => "peer",
            AuthMethod::Cert => "cert",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseRule {
    All,
    SameUser,
    SameRole,
    Replication,
    Named(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserRule {
    All,
    Named(String),
    /// `+role`: members of it, and itself.
    MemberOf(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressRule {
    All,
    SameHost,
    SameNet,
    Masked { address: IpAddr, mask: IpAddr },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HbaRecord {
    pub line: u32,
    /// The line itself, for the log.
    pub text: Arc<str>,
    pub kind: ConnectionKind,
    pub databases: Vec<DatabaseRule>,
    pub users: Vec<UserRule>,
    /// `None` for local.
    pub address: Option<AddressRule>,
    pub method: AuthMethod,
    /// `map=` of `peer` and `cert`: whose names in `pg_ident.conf` stand for which roles.
    pub map: Option<String>,
    pub client_cert: ClientCert,
    pub certificate_name: CertificateName,
}

/// A problem of one line, logged as PostgreSQL does, with the line as CONTEXT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HbaError {
    pub line: u32,
    pub message: String,
    pub hint: Option<String>,
    /// `line 7 of configuration file "/data/pg_hba.conf"`; none where another file is at fault.
    pub context: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub struct Hba {
    pub records: Arc<[HbaRecord]>,
    /// Lines that are right but can match nobody while `ssl` is off.
    pub notes: Vec<HbaError>,
}

/// Who asks to come in.
#[derive(Clone, Copy)]
pub struct Visitor<'a> {
    /// `None`: the unix socket.
    pub address: Option<IpAddr>,
    pub encrypted: bool,
    pub user: &'a str,
    pub database: &'a str,
    /// A physical replication connection: only the word `replication` matches it.
    pub physical_replication: bool,
    /// Roles the user is a member of, itself not needed.
    pub member_of: &'a dyn Fn(&str) -> bool,
    /// Addresses of this machine with their masks, for `samehost` and `samenet`.
    pub own_addresses: &'a [(IpAddr, IpAddr)],
}

impl Hba {
    /// Reads a whole file; any error means that none of it is used.
    pub fn parse(text: &[u8], path: &Path) -> Result<Hba, Vec<HbaError>> {
        parse::parse(&parse::as_text(text), path)
    }

    /// The first record that matches.
    pub fn find(&self, v: &Visitor<'_>) -> Option<&HbaRecord> {
        self.records.iter().find(|r| r.matches(v))
    }
}

impl HbaRecord {
    fn matches(&self, v: &Visitor<'_>) -> bool {
        self.matches_place(v) && self.matches_database(v) && self.matches_user(v)
    }

    /// There is no GSS encryption here: `hostgssenc` matches nobody.
    fn matches_place(&self, v: &Visitor<'_>) -> bool {
        match (self.kind, v.address) {
            (ConnectionKind::Local, address) => address.is_none(),
            (ConnectionKind::HostGssEnc, _) => false,
            (ConnectionKind::HostSsl, _) if !v.encrypted => false,
            (ConnectionKind::HostNoSsl, _) if v.encrypted => false,
            (_, None) => false,
            (_, Some(address)) => match &self.address {
                None => false,
                Some(AddressRule::All) => true,
                Some(AddressRule::SameHost) => v.own_addresses.iter().any(|(a, _)| *a == address),
                Some(AddressRule::SameNet) => {
                    v.own_addresses.iter().any(|(a, m)| in_net(address, *a, *m))
                }
                Some(AddressRule::Masked { address: net, mask }) => in_net(address, *net, *mask),
            },
        }
    }

    fn matches_database(&self, v: &Visitor<'_>) -> bool {
        self.databases.iter().any(|rule| {
            if v.physical_replication {
                return *rule == DatabaseRule::Replication;
            }
            match rule {
                DatabaseRule::All => true,
                DatabaseRule::SameUser => v.database == v.user,
                DatabaseRule::SameRole => v.database == v.user || (v.member_of)(v.database),
                DatabaseRule::Replication => false,
                DatabaseRule::Named(n) => n == v.database,
            }
        })
    }

    fn matches_user(&self, v: &Visitor<'_>) -> bool {
        self.users.iter().any(|rule| match rule {
            UserRule::All => true,
            UserRule::Named(n) => n == v.user,
            UserRule::MemberOf(role) => role == v.user || (v.member_of)(role),
        })
    }
}

/// Both in one network; an IPv4 rule also matches an IPv4 address that came in over an IPv6 socket.
fn in_net(address: IpAddr, net: IpAddr, mask: IpAddr) -> bool {
    match (address.to_canonical(), net, mask) {
        (IpAddr::V4(a), IpAddr::V4(n), IpAddr::V4(m)) => {
            let m = u32::from(m);
            u32::from(a) & m == u32::from(n) & m
        }
        (IpAddr::V6(a), IpAddr::V6(n), IpAddr::V6(m)) => {
            let m = u128::from(m);
            u128::from(a) & m == u128::from(n) & m
        }
        _ => false,
    }
}
