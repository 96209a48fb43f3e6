//! What goes to Postgres leaves at once.
//!
//! sqlx 0.9.0 leaves Nagle's algorithm on, and the end of a COPY then waits until the host of Postgres acknowledges the COPY's
//! data, which it puts off for 40 ms. The release after it sets `TCP_NODELAY` itself (pull request 4336); this module goes
//! with that.

use std::os::fd::BorrowedFd;

use socket2::SockRef;

/// Sets `TCP_NODELAY` on the connections of this process that lead to this port: sqlx does not say which socket is its own.
pub(crate) fn write_at_once(port: u16) {
    for socket in sockets_to(port) {
        if let Err(error) = SockRef::from(&socket).set_tcp_nodelay(true) {
            tracing::debug!(%error, "a connection to Postgres keeps waiting for acknowledgements");
        }
    }
}

fn sockets_to(port: u16) -> impl Iterator<Item = BorrowedFd<'static>> {
    let open = std::fs::read_dir("/dev/fd").into_iter().flatten();
    let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    #[expect(unsafe_code, reason = "whatever the number stands for by now, asking it for its peer does no harm")]
    let descriptors = numbers.map(|number| unsafe { BorrowedFd::borrow_raw(number) });
    descriptors.filter(move |descriptor| {
        let peer = SockRef::from(descriptor).peer_addr();
        peer.is_ok_and(|peer| peer.as_socket().is_some_and(|peer| peer.port() == port))
    })
}

#[cfg(test)]
mod tests {
    use embedded_postgres::{Cluster, Options};
    use sqlx::postgres::PgConnectOptions;

    use super::*;

    #[tokio::test]
    async fn a_connection_over_tcp_waits_for_no_acknowledgement() {
        let cluster = Cluster::start(&Options::temporary().tcp(true)).unwrap();
        let options: PgConnectOptions = cluster.tcp_url_for("postgres").unwrap().parse().unwrap();
        let connection = crate::connect(&options).await.unwrap();
        let waits: Vec<bool> =
            sockets_to(options.get_port()).map(|socket| !SockRef::from(&socket).tcp_nodelay().unwrap()).collect();
        assert_eq!(waits, [false]);
        drop(connection);
    }
}
