//! Questions to the registry: what is asked, and what counts as an answer. No error holds a URL, a user or what was answered.

use std::collections::HashMap;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(15);
/// The longest answer.
const MAX_BYTES: usize = 4 << 20;
/// More schemas are never referred to by one.
const MAX_REFERENCES: usize = 200;
/// Words of the registry's API for what is not there.
const NO_SCHEMA: u32 = 40_403;
const NO_SUBJECT: u32 = 40_401;
const NO_VERSION: u32 = 40_402;

/// Asks one registry.
pub(super) struct Asker {
    url: Url,
    user: Option<(String, Option<SecretString>)>,
    client: Client,
}

/// What is so, and stays so.
#[derive(Debug)]
pub(super) enum Answer {
    /// The schema's text, and those of all that it refers to, each after its own.
    Schema {
        schema: String,
        references: Vec<String>,
    },
    Unknown,
    UnknownReference,
    NotAvro,
    TooLarge,
}

/// Why there was no answer, as far as it passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Away,
    Refused,
    Failing,
    Stranger,
}

impl Trouble {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Away => "the schema registry does not answer",
            Self::Refused => "the schema registry refuses us (401 or 403): see schema_registry_user",
            Self::Failing => "the schema registry answers that it has failed (429 or 5xx)",
            Self::Stranger => "what answers at schema_registry is no schema registry: see its URL",
        }
    }
}

/// A schema as the registry has it.
#[derive(Debug, Deserialize)]
struct Registered {
    schema: String,
    #[serde(rename = "schemaType")]
    kind: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Hash)]
struct Reference {
    subject: String,
    version: u32,
}

#[derive(Deserialize)]
struct Refusal {
    error_code: u32,
}

/// What came back to one question.
enum Reply {
    Registered(Registered),
    NotThere,
    TooLarge,
}

impl Asker {
    pub(super) fn new(url: &str, user: Option<(String, Option<SecretString>)>) -> Result<Self, &'static str> {
        const PROBLEM: &str = "must be a URL that begins with http:// or https://, without user, password, ? and #";
        let url = Url::parse(url).map_err(|_| PROBLEM)?;
        let is_bare = url.username().is_empty() && url.password().is_none();
        if !matches!(url.scheme(), "http" | "https") || !is_bare || url.query().or(url.fragment()).is_some() {
            return Err(PROBLEM);
        }
        // An error means that the program has chosen a provider before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // It follows no redirect: whoever answers with one does not decide who learns the password.
        let client = Client::builder()
            .user_agent(concat!("c360/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .referer(false)
            // Each time that it is asked there is another runtime, and a connection belongs to one.
            .pool_max_idle_per_host(0)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .build()
            .map_err(|_| "cannot be asked: no HTTP client can be made")?;
        Ok(Self { url, user, client })
    }

    /// A schema by its id, with all that it refers to.
    pub(super) async fn schema(&self, id: u32) -> Result<Answer, Trouble> {
        let main = match self.get(&["schemas", "ids", &id.to_string()], &[NO_SCHEMA]).await? {
            Reply::Registered(main) => main,
            Reply::NotThere => return Ok(Answer::Unknown),
            Reply::TooLarge => return Ok(Answer::TooLarge),
        };
        if main.kind.as_deref().is_some_and(|kind| kind != "AVRO") {
            return Ok(Answer::NotAvro);
        }
        // Depth first; one whose own references are done comes back and is put down behind them.
        let mut known: HashMap<Reference, String> = HashMap::new();
        let (mut left, mut references) = (Vec::new(), Vec::new());
        left.extend(main.references.into_iter().rev().map(|reference| (reference, false)));
        while let Some((reference, is_done)) = left.pop() {
            if is_done {
                references.extend(known.get(&reference).cloned());
                continue;
            }
            if known.contains_key(&reference) {
                continue;
            }
            if known.len() == MAX_REFERENCES {
                return Ok(Answer::TooLarge);
            }
            let path = ["subjects", &reference.subject, "versions", &reference.version.to_string()];
            match self.get(&path, &[NO_SUBJECT, NO_VERSION]).await? {
                Reply::NotThere => return Ok(Answer::UnknownReference),
                Reply::TooLarge => return Ok(Answer::TooLarge),
                Reply::Registered(registered) => {
                    known.insert(reference.clone(), registered.schema);
                    left.push((reference, true));
                    left.extend(registered.references.into_iter().rev().map(|reference| (reference, false)));
                }
            }
        }
        Ok(Answer::Schema { schema: main.schema, references })
    }

    /// `not_there` are the words for what is asked for not being there. Any other 404 is of something that is no registry.
    async fn get(&self, path: &[&str], not_there: &[u32]) -> Result<Reply, Trouble> {
        let mut url = self.url.clone();
        url.path_segments_mut().map_err(|()| Trouble::Stranger)?.pop_if_empty().extend(path);
        let mut request =
            self.client.get(url).header("Accept", "application/vnd.schemaregistry.v1+json, application/json");
        if let Some((user, password)) = &self.user {
            request = request.basic_auth(user, password.as_ref().map(ExposeSecret::expose_secret));
        }
        let response = request.send().await.map_err(|_| Trouble::Away)?;
        let status = response.status();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(Trouble::Refused),
            StatusCode::OK | StatusCode::NOT_FOUND => {}
            status if status.is_server_error() => return Err(Trouble::Failing),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => return Err(Trouble::Failing),
            _ => return Err(Trouble::Stranger),
        }
        let Some(body) = read(response).await? else {
            return if status == StatusCode::OK { Ok(Reply::TooLarge) } else { Err(Trouble::Stranger) };
        };
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map(Reply::Registered).map_err(|_| Trouble::Stranger);
        }
        match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) if not_there.contains(&refusal.error_code) => Ok(Reply::NotThere),
            _ => Err(Trouble::Stranger),
        }
    }
}

/// The body; `None` if it is longer than any should be.
async fn read(mut response: Response) -> Result<Option<Vec<u8>>, Trouble> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| Trouble::Away)? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}
