//! Certificates that a test makes itself, for a broker that speaks TLS.

use std::path::Path;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// Somebody who signs certificates, and whom others trust or not.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, both as PEM.
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The key, not encrypted.
    pub key: String,
}

impl Authority {
    /// A new one, of this name.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::new([])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its own certificate as PEM: what is given to those who trust it.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a host (a name or an address).
    pub fn issue(&self, host: &str) -> Result<Identity> {
        self.sign(CertificateParams::new([host.to_owned()])?)
    }

    /// A certificate that was good until a while ago.
    pub fn issue_expired(&self, host: &str) -> Result<Identity> {
        let mut params = CertificateParams::new([host.to_owned()])?;
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> Result<Identity> {
        // Not the name of the authority: it would seem to have signed itself.
        params.distinguished_name.push(DnType::CommonName, "somebody");
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0)?.pem();
        Ok(Identity { certificate, key: key.serialize_pem() })
    }
}

impl Identity {
    /// Writes the key and the certificate into one file, as Kafka reads them.
    pub(super) fn write_both(&self, path: &Path) -> Result<()> {
        Ok(std::fs::write(path, format!("{}{}", self.key, self.certificate))?)
    }
}
