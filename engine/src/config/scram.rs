//! SCRAM-SHA-256 (RFC 5802, RFC 7677) as PostgreSQL uses it: the stored form of a password, and the server's side,
//! with channel binding by the server's certificate (`tls-server-end-point`, RFC 5929). (The client's side is
//! `postgres-protocol`'s.)
//!
//! Stands here because roles are made in `sql` and checked in `server`. Knows no socket and no role.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rand::RngCore;
use sha2::{Digest, Sha256};

pub const MECHANISM: &str = "SCRAM-SHA-256";
/// With channel binding.
pub const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";
const BINDING_TYPE: &str = "tls-server-end-point";

/// PostgreSQL 15's.
const ITERATIONS: u32 = 4096;
const SALT_LENGTH: usize = 16;
const NONCE_LENGTH: usize = 18;

type Key = [u8; 32];

/// Why an exchange failed. Only [`ScramError::WrongProof`] is about the password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    #[error("malformed SCRAM message")]
    Malformed,
    /// The mechanism with channel binding, and a message without.
    #[error("malformed SCRAM message")]
    BindingMissing,
    /// The mechanism without channel binding, and a message with it.
    #[error("malformed SCRAM message")]
    BindingUnasked,
    /// The client believes that the server cannot do what it offered: somebody in between took the offer away.
    #[error("SCRAM channel binding negotiation error")]
    Downgraded,
    #[error("unsupported SCRAM channel-binding type \"{0}\"")]
    BindingType(String),
    #[error("client requires an unsupported SCRAM extension")]
    Extension,
    #[error("SCRAM channel binding check failed")]
    ChannelBindingCheck,
    #[error("unexpected SCRAM channel-binding attribute in client-final-message")]
    UnexpectedBinding,
    #[error("invalid SCRAM response")]
    WrongNonce,
    #[error("password authentication failed")]
    WrongProof,
}

impl ScramError {
    /// The same DETAIL as PostgreSQL's.
    pub fn detail(&self) -> Option<&'static str> {
        match self {
            ScramError::BindingMissing => Some(
                "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.",
            ),
            ScramError::BindingUnasked => Some(
                "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data.",
            ),
            ScramError::Downgraded => Some(
                "The client supports SCRAM channel binding but thinks the server does not.  However, this server does support channel binding.",
            ),
            _ => None,
        }
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    const BLOCK: usize = 64;
    let mut padded = [0u8; BLOCK];
    if key.len() > BLOCK {
        padded[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        padded[..key.len()].copy_from_slice(key);
    }
    let mut inner = Sha256::new();
    inner.update(padded.map(|b| b ^ 0x36));
    for part in parts {
        inner.update(part);
    }
    let mut outer = Sha256::new();
    outer.update(padded.map(|b| b ^ 0x5c));
    outer.update(inner.finalize());
    outer.finalize().into()
}

fn xor(a: &Key, b: &Key) -> Key {
    std::array::from_fn(|i| a[i] ^ b[i])
}

/// PBKDF2 with one block.
fn salted_password(password: &[u8], salt: &[u8], iterations: u32) -> Key {
    let mut u = hmac(password, &[salt, &1u32.to_be_bytes()]);
    let mut out = u;
    for _ in 1..iterations {
        u = hmac(password, &[&u]);
        out = xor(&out, &u);
    }
    out
}

/// SASLprep; a password that it refuses is used as it is, as PostgreSQL does.
fn prepared(password: &str) -> Vec<u8> {
    match stringprep::saslprep(password) {
        Ok(p) => p.as_bytes().to_vec(),
        Err(_) => password.as_bytes().to_vec(),
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    rand::rng().fill_bytes(&mut out);
    out
}

/// What is stored of a password (`pg_authid.rolpassword`):
/// `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
}

impl Verifier {
    /// Of a new password, with a random salt.
    pub fn of_password(password: &str) -> Verifier {
        Verifier::with_salt(password, random::<SALT_LENGTH>().to_vec(), ITERATIONS)
    }

    fn with_salt(password: &str, salt: Vec<u8>, iterations: u32) -> Verifier {
        let salted = salted_password(&prepared(password), &salt, iterations);
        Verifier {
            iterations,
            salt,
            stored_key: Sha256::digest(hmac(&salted, &[b"Client Key"])).into(),
            server_key: hmac(&salted, &[b"Server Key"]),
        }
    }

    pub fn parse(text: &str) -> Option<Verifier> {
        let rest = text.strip_prefix("SCRAM-SHA-256$")?;
        let (head, keys) = rest.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let key = |s: &str| BASE64.decode(s).ok().and_then(|k| Key::try_from(k).ok());
        Some(Verifier {
            iterations: iterations.parse().ok().filter(|n| *n > 0)?,
            salt: BASE64.decode(salt).ok()?,
            stored_key: key(stored)?,
            server_key: key(server)?,
        })
    }

    /// A verifier that no password fits, the same at each try for one name: whether a role exists stays hidden.
    pub fn mock(secret: &[u8], user: &str) -> Verifier {
        let salt = hmac(secret, &[b"salt", user.as_bytes()]);
        Verifier {
            iterations: ITERATIONS,
            salt: salt[..SALT_LENGTH].to_vec(),
            stored_key: random(),
            server_key: random(),
        }
    }

    /// Whether this is the verifier of `password`.
    pub fn fits(&self, password: &str) -> bool {
        let other = Verifier::with_salt(password, self.salt.clone(), self.iterations);
        equal(&other.stored_key, &self.stored_key)
    }
}

impl std::fmt::Display for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "SCRAM-SHA-256${}:{}${}:{}",
            self.iterations,
            BASE64.encode(&self.salt),
            BASE64.encode(self.stored_key),
            BASE64.encode(self.server_key)
        )
    }
}

/// In a time that does not depend on where they differ.
fn equal(a: &Key, b: &Key) -> bool {
    a.iter().zip(b).fold(0, |d, (x, y)| d | (x ^ y)) == 0
}

/// The client's first word: no binding, would have liked one, or bound in the way it names.
fn check_flag(flag: &str, binding: Binding<'_>) -> Result<(), ScramError> {
    match (flag, binding) {
        ("n" | "y", Binding::EndPoint(_)) => Err(ScramError::BindingMissing),
        ("y", Binding::Declined) => Err(ScramError::Downgraded),
        ("n" | "y", _) => Ok(()),
        (p, Binding::EndPoint(_)) => match p.strip_prefix("p=") {
            Some(BINDING_TYPE) => Ok(()),
            Some(other) => {
                let shown = other.chars().filter(char::is_ascii_graphic).take(30);
                Err(ScramError::BindingType(shown.collect()))
            }
            None => Err(ScramError::Malformed),
        },
        (p, _) if p.starts_with("p=") => Err(ScramError::BindingUnasked),
        _ => Err(ScramError::Malformed),
    }
}

fn attribute<'a>(part: Option<&'a str>, name: &str) -> Result<&'a str, ScramError> {
    part.and_then(|p| p.strip_prefix(name))
        .ok_or(ScramError::Malformed)
}

/// What ties an exchange to the encrypted connection that it runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding<'a> {
    /// Not offered.
    None,
    /// Offered, and the client chose the mechanism without it.
    Declined,
    /// By the hash of the server's certificate.
    EndPoint(&'a [u8]),
}

/// The server's side: client-first in, server-first out, client-final in, server-final out.
#[derive(Debug)]
pub struct ServerExchange {
    verifier: Verifier,
    /// False where the verifier is a mock: the answer is no, whatever the proof.
    genuine: bool,
    nonce: String,
    /// What the client's `c=` has to be, decoded: its first words again, and the certificate's hash.
    binding: Vec<u8>,
    is_bound: bool,
    /// client-first-bare and server-first, with the comma that stands between them.
    auth_message: String,
}

impl ServerExchange {
    /// Reads client-first; gives the exchange and server-first.
    pub fn start(
        verifier: Verifier,
        genuine: bool,
        client_first: &str,
        binding: Binding<'_>,
    ) -> Result<(ServerExchange, String), ScramError> {
        let own: [u8; NONCE_LENGTH] = random();
        let own = BASE64.encode(own);
        ServerExchange::start_with_nonce(verifier, genuine, client_first, binding, &own)
    }

    fn start_with_nonce(
        verifier: Verifier,
        genuine: bool,
        client_first: &str,
        binding: Binding<'_>,
        own_nonce: &str,
    ) -> Result<(ServerExchange, String), ScramError> {
        let mut parts = client_first.splitn(3, ',');
        let flag = parts.next().ok_or(ScramError::Malformed)?;
        check_flag(flag, binding)?;
        let authzid = parts.next().ok_or(ScramError::Malformed)?;
        if !authzid.is_empty() {
            return Err(ScramError::Extension);
        }
        let bare = parts.next().ok_or(ScramError::Malformed)?;
        let mut fields = bare.split(',');
        let first = fields.next();
        if first.is_some_and(|f| f.starts_with("m=")) {
            return Err(ScramError::Extension);
        }
        attribute(first, "n=")?;
        let client_nonce = attribute(fields.next(), "r=")?;
        let printable = |c: char| c.is_ascii_graphic() && c != ',';
        if client_nonce.is_empty() || !client_nonce.chars().all(printable) {
            return Err(ScramError::Malformed);
        }
        let nonce = format!("{client_nonce}{own_nonce}");
        let server_first = format!(
            "r={nonce},s={},i={}",
            BASE64.encode(&verifier.salt),
            verifier.iterations
        );
        let mut bound = format!("{flag},,").into_bytes();
        if let Binding::EndPoint(hash) = binding {
            bound.extend_from_slice(hash);
        }
        let exchange = ServerExchange {
            verifier,
            genuine,
            nonce,
            binding: bound,
            is_bound: matches!(binding, Binding::EndPoint(_)),
            auth_message: format!("{bare},{server_first}"),
        };
        Ok((exchange, server_first))
    }

    /// Reads client-final; gives server-final if the proof is right.
    pub fn finish(self, client_final: &str) -> Result<String, ScramError> {
        let (without_proof, proof) = client_final
            .rsplit_once(",p=")
            .ok_or(ScramError::Malformed)?;
        let mut fields = without_proof.split(',');
        let binding = attribute(fields.next(), "c=")?;
        if binding != BASE64.encode(&self.binding) {
            return Err(if self.is_bound {
                ScramError::ChannelBindingCheck
            } else {
                ScramError::UnexpectedBinding
            });
        }
        if attribute(fields.next(), "r=")? != self.nonce {
            return Err(ScramError::WrongNonce);
        }
        let proof: Key = BASE64
            .decode(proof)
            .ok()
            .and_then(|p| p.try_into().ok())
            .ok_or(ScramError::Malformed)?;
        let message = [self.auth_message.as_bytes(), b",", without_proof.as_bytes()];
        let signature = hmac(&self.verifier.stored_key, &message);
        let client_key = xor(&proof, &signature);
        let stored: Key = Sha256::digest(client_key).into();
        if !equal(&stored, &self.verifier.stored_key) || !self.genuine {
            return Err(ScramError::WrongProof);
        }
        Ok(format!(
            "v={}",
            BASE64.encode(hmac(&self.verifier.server_key, &message))
        ))
    }
}

#[cfg(test)]
mod tests {
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

    use super::*;

    fn text(client: &ScramSha256) -> String {
        String::from_utf8(client.message().to_vec()).expect("SCRAM is text")
    }

    /// RFC 7677, section 3, with the user name that PostgreSQL's clients leave out.
    #[test]
    fn the_rfc_s_exchange_comes_out() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("valid");
        let verifier = Verifier::with_salt("pencil", salt, 4096);
        let (exchange, first) = ServerExchange::start_with_nonce(
            verifier,
            true,
            "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
            Binding::None,
            "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        )
        .expect("well formed");
        assert_eq!(
            first,
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let last = exchange
            .finish("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
            .expect("the right proof");
        assert_eq!(last, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn both_sides_agree_and_only_with_the_right_password() {
        let stored = Verifier::of_password("sécrét").to_string();
        let verifier = Verifier::parse(&stored).expect("own form");
        for (password, right) in [("sécrét", true), ("secret", false), ("", false)] {
            assert_eq!(verifier.fits(password), right);
            let mut client = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
            let first = text(&client);
            let (server, server_first) =
                ServerExchange::start(verifier.clone(), true, &first, Binding::None)
                    .expect("well formed");
            client.update(server_first.as_bytes()).expect("well formed");
            match server.finish(&text(&client)) {
                Ok(end) => {
                    assert!(right);
                    client.finish(end.as_bytes()).expect("the same server");
                }
                Err(e) => {
                    assert!(!right);
                    assert_eq!(e, ScramError::WrongProof);
                }
            }
        }
    }

    #[test]
    fn a_mock_never_lets_anybody_in_and_keeps_its_salt() {
        let mock = Verifier::mock(b"secret", "ghost");
        assert_eq!(mock.salt, Verifier::mock(b"secret", "ghost").salt);
        assert_ne!(mock.salt, Verifier::mock(b"secret", "other").salt);
        let genuine = Verifier::of_password("pw");
        let mut client = ScramSha256::new(b"pw", ChannelBinding::unsupported());
        let (server, answer) = ServerExchange::start(genuine, false, &text(&client), Binding::None)
            .expect("well formed");
        client.update(answer.as_bytes()).expect("well formed");
        assert_eq!(server.finish(&text(&client)), Err(ScramError::WrongProof));
    }

    /// One exchange over a connection with this binding, as the client sees it.
    fn bound(client: ChannelBinding, server: Binding<'_>) -> Result<(), ScramError> {
        let mut client = ScramSha256::new(b"pw", client);
        let verifier = Verifier::of_password("pw");
        let (exchange, answer) = ServerExchange::start(verifier, true, &text(&client), server)?;
        client.update(answer.as_bytes()).expect("well formed");
        let end = exchange.finish(&text(&client))?;
        client.finish(end.as_bytes()).expect("the same server");
        Ok(())
    }

    #[test]
    fn a_binding_holds_only_for_the_same_certificate() {
        let end_point = |hash: &[u8]| ChannelBinding::tls_server_end_point(hash.to_vec());
        let ours = Binding::EndPoint(b"hash");
        assert_eq!(bound(end_point(b"hash"), ours), Ok(()));
        assert_eq!(
            bound(end_point(b"somebody else's"), ours),
            Err(ScramError::ChannelBindingCheck)
        );
        let unsupported = ChannelBinding::unsupported;
        assert_eq!(bound(unsupported(), ours), Err(ScramError::BindingMissing));
        assert_eq!(bound(unsupported(), Binding::Declined), Ok(()));
        let unrequested = ChannelBinding::unrequested;
        assert_eq!(
            bound(unrequested(), Binding::Declined),
            Err(ScramError::Downgraded)
        );
        assert_eq!(bound(unrequested(), Binding::None), Ok(()));
    }

    #[test]
    fn nonsense_is_refused() {
        let v = || Verifier::of_password("x");
        let with = |m: &str, b| ServerExchange::start(v(), true, m, b).map(|_| ());
        let start = |m: &str| with(m, Binding::None);
        let bound = "p=tls-server-end-point,,n=,r=abc";
        assert_eq!(start(bound), Err(ScramError::BindingUnasked));
        assert_eq!(
            with(bound, Binding::Declined),
            Err(ScramError::BindingUnasked)
        );
        assert_eq!(
            with("p=tls-unique,,n=,r=abc", Binding::EndPoint(b"x")),
            Err(ScramError::BindingType("tls-unique".to_owned()))
        );
        for bad in [
            "",
            "n",
            "n,,",
            "n,,n=",
            "n,,n=,r=",
            "x,,n=,r=a",
            "n,,r=a,n=",
            "n,,n=,r=\u{e9}",
        ] {
            assert_eq!(start(bad), Err(ScramError::Malformed), "{bad:?}");
        }
        assert_eq!(start("n,a=me,n=,r=abc"), Err(ScramError::Extension));
        assert_eq!(start("n,,m=x,n=,r=abc"), Err(ScramError::Extension));
    }
}
