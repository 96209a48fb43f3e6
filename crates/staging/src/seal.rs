//! Sealing: dead letters hold raw bytes with credentials and personal data, so they are encrypted whole.

use chacha20poly1305::aead::{Aead, AeadCore, OsRng, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use model::{ErasureKey, InstallationKey};

use crate::Error;
use crate::dead_letters::Context;

const NONCE_BYTES: usize = 24;

/// Authenticated encryption under the installation's key. A sealed payload is bound to its source. Whom it may not hold any
/// more is told by digests under the same key.
#[derive(Clone)]
pub struct Seal {
    cipher: XChaCha20Poly1305,
    erasure_key: ErasureKey,
}

impl Seal {
    /// The seal of an installation.
    pub fn new(key: &InstallationKey) -> Self {
        let cipher = XChaCha20Poly1305::new(&key.subkey("dead letters").into());
        Self { cipher, erasure_key: ErasureKey::new(key) }
    }

    /// By what the erased are recognised.
    pub fn erasure_key(&self) -> &ErasureKey {
        &self.erasure_key
    }

    /// Seals bytes: a random nonce, then the ciphertext.
    pub fn seal(&self, source: &str, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let nonce = XChaCha20Poly1305::generate_nonce(&mut OsRng);
        let sealed =
            self.cipher.encrypt(&nonce, Payload { msg: bytes, aad: source.as_bytes() }).map_err(|_| Error::Sealed)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Seals what reading a dead letter again takes, if there is anything.
    pub(crate) fn seal_context(&self, source: &str, context: Option<&Context>) -> Result<Option<Vec<u8>>, Error> {
        let bytes = context.map(serde_json::to_vec).transpose().map_err(|_| Error::Sealed)?;
        bytes.map(|bytes| self.seal(source, &bytes)).transpose()
    }

    /// Opens what [`Seal::seal`] made for this source.
    pub fn open(&self, source: &str, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES).ok_or(Error::Sealed)?;
        let payload = Payload { msg: sealed, aad: source.as_bytes() };
        self.cipher.decrypt(XNonce::from_slice(nonce), payload).map_err(|_| Error::Sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_under_the_same_key_and_for_the_same_source() {
        let seal = Seal::new(&InstallationKey::new([1; 32]));
        let sealed = seal.seal("loyalty", b"27,xrinn5xp.swd").unwrap();
        assert!(!sealed.windows(8).any(|window| window == b"xrinn5xp"));
        assert_eq!(seal.open("loyalty", &sealed).unwrap(), b"27,xrinn5xp.swd");
        assert!(seal.open("online_store", &sealed).is_err());
        assert!(Seal::new(&InstallationKey::new([2; 32])).open("loyalty", &sealed).is_err());
        assert!(seal.open("loyalty", b"short").is_err());
    }
}
