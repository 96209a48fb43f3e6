//! Connection URLs that sqlx, libpq and everything built on them understand.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// The superuser of every embedded cluster.
pub(crate) const USER: &str = "postgres";

/// Everything but what RFC 3986 leaves alone anywhere in a URL, and the slash, which is plain in a query.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// `host` in the query wins over the one before it, which is there because a URL with a user wants one.
pub(crate) fn socket(directory: &Path, port: u16, password: Option<&str>, database: &str) -> String {
    let directory = percent_encode(directory.as_os_str().as_bytes(), ESCAPED);
    format!("{}?host={directory}", tcp("localhost", port, password, database))
}

pub(crate) fn tcp(host: &str, port: u16, password: Option<&str>, database: &str) -> String {
    let password = password.map(|password| format!(":{password}")).unwrap_or_default();
    let database = percent_encode(database.as_bytes(), NON_ALPHANUMERIC);
    format!("postgres://{USER}{password}@{host}:{port}/{database}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_a_url_cannot_hold() {
        let url = socket(Path::new("/tmp/a b&c"), 5432, Some("pw"), "o/o");
        assert_eq!(url, "postgres://postgres:pw@localhost:5432/o%2Fo?host=/tmp/a%20b%26c");
        let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
        assert_eq!(options.get_socket().unwrap(), Path::new("/tmp/a b&c"));
        assert_eq!(options.get_database(), Some("o/o"));
    }
}
