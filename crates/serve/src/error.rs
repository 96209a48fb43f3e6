//! What can go wrong with the server.

use std::io;
use std::net::SocketAddr;

/// An error of the HTTP server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The listener gives no connections any more.
    #[error("the HTTP listener is broken: {0}")]
    Accept(io::Error),
}
