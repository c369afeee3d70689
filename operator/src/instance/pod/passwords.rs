//! Whether a stored SCRAM verifier is of a password (RFC 5802, RFC 7677), so that roles are altered only when they
//! have to be.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};

/// What is stored for a password: the server never sees the password itself, nor does its log.
pub fn verifier(password: &str) -> String {
    postgres_protocol::password::scram_sha_256(password.as_bytes())
}

/// `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`; anything else fits no password.
pub fn fits(verifier: &str, password: &str) -> bool {
    parts(verifier).is_some_and(|(iterations, salt, stored)| {
        let mut salted = [0; digest::SHA256_OUTPUT_LEN];
        // Passwords that can't be prepared are taken as they are, as PostgreSQL does.
        let prepared = stringprep::saslprep(password).unwrap_or(password.into());
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations,
            &salt,
            prepared.as_bytes(),
            &mut salted,
        );
        let client = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &salted), b"Client Key");
        digest::digest(&digest::SHA256, client.as_ref()).as_ref() == stored
    })
}

fn parts(verifier: &str) -> Option<(NonZeroU32, Vec<u8>, Vec<u8>)> {
    let rest = verifier.strip_prefix("SCRAM-SHA-256$")?;
    let (parameters, keys) = rest.split_once('$')?;
    let (iterations, salt) = parameters.split_once(':')?;
    let (stored, _) = keys.split_once(':')?;
    Some((
        iterations.parse().ok()?,
        STANDARD.decode(salt).ok()?,
        STANDARD.decode(stored).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_fits_its_own_password_only() {
        for password in ["secret", "it's", "p\u{e4}ss", "\u{2168}", "bad\u{7}"] {
            let stored = verifier(password);
            assert!(fits(&stored, password), "{password}");
            assert!(!fits(&stored, "another"), "{password}");
        }
        for broken in [
            "",
            "md5abc",
            "SCRAM-SHA-256$0:AA==$AA==:AA==",
            "SCRAM-SHA-256$1:AA==",
        ] {
            assert!(!fits(broken, "secret"), "{broken}");
        }
    }

    /// RFC 7677's example.
    #[test]
    fn the_standard_s_example_is_understood() {
        let stored = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        assert!(fits(stored, "pencil"));
        assert!(!fits(stored, "Pencil"));
    }
}
