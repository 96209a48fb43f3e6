//! Credentials: never kept in clear unless somebody insists, yet comparable across systems.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// The key that an installation makes once and keeps in a file, never in the database.
#[derive(Clone)]
pub struct InstallationKey([u8; 32]);

impl InstallationKey {
    /// Wraps 32 random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A key for one purpose, so that no two uses of the installation key can be played against each other.
    pub fn subkey(&self, purpose: &str) -> [u8; 32] {
        mac(&self.0, purpose.as_bytes())
    }

    /// Makes keyed digests and signatures for one purpose.
    pub fn mac(&self, purpose: &str) -> Hmac<Sha256> {
        keyed(&self.subkey(purpose))
    }

    /// What the database keeps to recognise the key: enough to tell keys apart, nothing to work back from.
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(self.subkey("fingerprint")))
    }
}

impl fmt::Debug for InstallationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InstallationKey(..)")
    }
}

/// What becomes of a source's credentials before anything is stored.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// Replaced by a keyed digest: equal passwords stay visibly equal, the password does not stay.
    Digest(CredentialKey),
    /// Removed.
    Drop,
    /// Kept as they are; only by explicit configuration.
    Keep,
}

/// The key of the digests of credentials, and of whatever may hold one.
#[derive(Clone)]
pub struct CredentialKey(Hmac<Sha256>);

impl CredentialKey {
    /// The one of an installation.
    pub fn new(key: &InstallationKey) -> Self {
        Self(key.mac("credential"))
    }

    /// A digest that only tells texts apart: without the key, nobody finds the text by guessing.
    pub fn digest(&self, text: &str) -> String {
        let mut mac = self.0.clone();
        mac.update(text.as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }
}

impl fmt::Debug for CredentialKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialKey(..)")
    }
}

impl Credentials {
    /// The default: digests under the installation's key.
    pub fn digest(key: &InstallationKey) -> Self {
        Self::Digest(CredentialKey::new(key))
    }

    /// What is stored instead of a credential; `None` is nothing.
    pub fn replace(&self, credential: &str) -> Option<String> {
        match self {
            Self::Digest(key) => Some(key.digest(credential)),
            Self::Drop => None,
            Self::Keep => Some(credential.to_owned()),
        }
    }
}

fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    // A 32-byte key fits the block of SHA-256; `new_from_slice` takes keys of any length and cannot fail.
    Hmac::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"))
}

fn mac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let mut mac = keyed(key);
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_passwords_have_equal_digests_under_one_key_only() {
        let one = Credentials::digest(&InstallationKey::new([1; 32]));
        let other = Credentials::digest(&InstallationKey::new([2; 32]));
        assert_eq!(one.replace("edzchzmatv5"), one.replace("edzchzmatv5"));
        assert_ne!(one.replace("edzchzmatv5"), one.replace("edzchzmatv6"));
        assert_ne!(one.replace("edzchzmatv5"), other.replace("edzchzmatv5"));
        assert!(!one.replace("edzchzmatv5").unwrap().contains("edzchz"));
    }

    #[test]
    fn keys_do_not_show_in_debug_output() {
        let key = InstallationKey::new([7; 32]);
        assert_eq!(format!("{key:?} {:?}", Credentials::digest(&key)), "InstallationKey(..) Digest(CredentialKey(..))");
    }
}
