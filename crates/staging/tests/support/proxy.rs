//! A TCP proxy in front of Postgres that loses replies.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Notify;

/// What happens to the reply to the next COMMIT.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// It is swallowed, and both sides are cut.
    Cut,
    /// It is swallowed, and nothing comes any more: a network that eats packets.
    Silence,
}

/// Forwards until a COMMIT comes while it is armed: that one Postgres gets and answers, and its answer is lost.
pub(crate) struct Proxy {
    port: u16,
    armed: Arc<AtomicBool>,
    /// Told when a reply was lost, which is after Postgres has committed.
    pub(crate) lost: Arc<Notify>,
}

impl Proxy {
    pub(crate) async fn start(server: &PgConnectOptions, kind: Loss) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (armed, lost) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let proxy = Self { port, armed: armed.clone(), lost: lost.clone() };
        let server = server.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, armed, lost) = (server.clone(), armed.clone(), lost.clone());
                tokio::spawn(async move {
                    if let Some(directory) = server.get_socket() {
                        let path = PathBuf::from(directory).join(format!(".s.PGSQL.{}", server.get_port()));
                        forward(client, UnixStream::connect(path).await.unwrap(), &armed, &lost, kind).await;
                    } else {
                        let address = (server.get_host(), server.get_port());
                        forward(client, TcpStream::connect(address).await.unwrap(), &armed, &lost, kind).await;
                    }
                });
            }
        });
        proxy
    }

    /// The options of the server, but through the proxy.
    pub(crate) fn through(&self, database: &str, server: &PgConnectOptions) -> PgConnectOptions {
        // A socket wins over host and port, so these begin anew.
        let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(self.port);
        options.username(server.get_username()).database(database).ssl_mode(PgSslMode::Disable)
    }

    pub(crate) fn lose_the_next_commit(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }
}

async fn forward(
    mut client: TcpStream,
    mut server: impl AsyncRead + AsyncWrite + Unpin,
    armed: &AtomicBool,
    lost: &Notify,
    kind: Loss,
) {
    let (mut from_client, mut from_server) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut swallow = false;
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(1..) = read else { return };
                let bytes = &from_client[..read.unwrap()];
                let commits = bytes.windows(7).any(|window| window == b"COMMIT\0");
                swallow |= commits && armed.swap(false, Ordering::SeqCst);
                server.write_all(bytes).await.unwrap();
            }
            read = server.read(&mut from_server) => {
                let Ok(read @ 1..) = read else { return };
                if swallow {
                    lost.notify_one();
                    match kind {
                        Loss::Cut => return,
                        Loss::Silence => std::future::pending().await,
                    }
                }
                if client.write_all(&from_server[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}
