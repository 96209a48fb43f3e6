//! What a broker listens on beside plain text: TLS, with and without passwords.

use std::{fs, net::Ipv4Addr, path::Path};

use anyhow::Result;

use super::{
    certificates::{Authority, Identity},
    ports,
};

/// Kafka's name of a listener with everything in order, which wants a name and a password.
const SASL: &str = "SASL";
/// One that wants a certificate of the client.
const MUTUAL: &str = "MUTUAL";
/// One whose certificate is not good any more.
const EXPIRED: &str = "EXPIRED";
/// One whose certificate is for another host.
const ELSEWHERE: &str = "ELSEWHERE";

/// The secure listeners of a broker, and what a client needs to use them.
pub struct Secure {
    authority: Authority,
    sasl: u16,
    mutual: u16,
    expired: u16,
    elsewhere: u16,
}

impl Secure {
    /// Who may log in at [`Secure::sasl`], by every mechanism.
    pub const ACCOUNT: (&str, &str) = ("ann", "C4N4RY-correct-horse");

    pub(super) fn new() -> Result<Self> {
        let authority = Authority::new("c360-tests")?;
        Ok(Self {
            authority,
            sasl: ports::free()?,
            mutual: ports::free()?,
            expired: ports::free()?,
            elsewhere: ports::free()?,
        })
    }

    /// Where TLS is spoken and a password wanted: PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512.
    pub fn sasl(&self) -> String {
        address(self.sasl)
    }

    /// Where TLS is spoken and a certificate wanted, which [`Secure::authority`] has signed.
    pub fn mutual(&self) -> String {
        address(self.mutual)
    }

    /// Where the certificate has expired.
    pub fn expired(&self) -> String {
        address(self.expired)
    }

    /// Where the certificate is for another host.
    pub fn elsewhere(&self) -> String {
        address(self.elsewhere)
    }

    /// Who has signed the certificates.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    fn listeners(&self) -> [(&'static str, &'static str, u16); 4] {
        [
            (SASL, "SASL_SSL", self.sasl),
            (MUTUAL, "SSL", self.mutual),
            (EXPIRED, "SSL", self.expired),
            (ELSEWHERE, "SSL", self.elsewhere),
        ]
    }

    /// As Kafka's `listeners` has them, with a comma before each.
    pub(super) fn addresses(&self) -> String {
        self.listeners().map(|(name, _, port)| format!(",{name}://{}", address(port))).concat()
    }

    /// Settings of the broker; the files that they name are written into `directory`.
    pub(super) fn settings(&self, directory: &Path) -> Result<Vec<(String, String)>> {
        let trusted = directory.join("authority.pem");
        fs::write(&trusted, self.authority.pem())?;
        let own = Ipv4Addr::LOCALHOST.to_string();
        let mut protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned();
        let mut settings = Vec::new();
        for (name, protocol, _) in self.listeners() {
            let identity: Identity = match name {
                EXPIRED => self.authority.issue_expired(&own)?,
                ELSEWHERE => self.authority.issue("elsewhere.example.org")?,
                _ => self.authority.issue(&own)?,
            };
            let file = directory.join(format!("{name}.pem"));
            identity.write_both(&file)?;
            protocols.extend([",", name, ":", protocol]);
            let client = if name == MUTUAL { "required" } else { "none" };
            for (key, value) in [
                ("ssl.keystore.type", "PEM".to_owned()),
                ("ssl.keystore.location", file.display().to_string()),
                ("ssl.truststore.type", "PEM".to_owned()),
                ("ssl.truststore.location", trusted.display().to_string()),
                ("ssl.client.auth", client.to_owned()),
            ] {
                settings.push((of(name, key), value));
            }
        }
        let (user, password) = Self::ACCOUNT;
        let login = "org.apache.kafka.common.security";
        let plain = format!("{login}.plain.PlainLoginModule required user_{user}=\"{password}\";");
        let scram = format!("{login}.scram.ScramLoginModule required;");
        settings.push((of(SASL, "sasl.enabled.mechanisms"), "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512".to_owned()));
        settings.push((of(SASL, "plain.sasl.jaas.config"), plain));
        settings.push((of(SASL, "scram-sha-256.sasl.jaas.config"), scram.clone()));
        settings.push((of(SASL, "scram-sha-512.sasl.jaas.config"), scram));
        settings.push(("listener.security.protocol.map".to_owned(), protocols));
        Ok(settings)
    }

    /// What formatting the storage is told: accounts of SCRAM are kept in it.
    pub(super) fn accounts() -> Vec<String> {
        let (user, password) = Self::ACCOUNT;
        let account = |mechanism| ["--add-scram".to_owned(), format!("{mechanism}=[name={user},password={password}]")];
        ["SCRAM-SHA-256", "SCRAM-SHA-512"].into_iter().flat_map(account).collect()
    }
}

fn address(port: u16) -> String {
    format!("{}:{port}", Ipv4Addr::LOCALHOST)
}

/// A setting of one listener.
fn of(listener: &str, key: &str) -> String {
    format!("listener.name.{}.{key}", listener.to_lowercase())
}
