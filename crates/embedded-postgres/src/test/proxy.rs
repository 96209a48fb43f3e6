//! A TCP proxy in front of Postgres that loses replies and cuts connections.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Notify, watch};

/// What happens to the reply to the next COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It is swallowed, and both sides are cut.
    Cut,
    /// It is swallowed, and nothing comes any more: a network that eats packets.
    Silence,
}

/// Forwards until a COMMIT comes while it is armed: that one Postgres gets and answers, and its answer is lost.
///
/// It asks for the server anew with every connection, so the server may be away for a while.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    wire: Arc<Wire>,
}

#[derive(Debug)]
struct Wire {
    kind: Loss,
    armed: AtomicBool,
    lost: Notify,
    cuts: watch::Sender<()>,
}

impl Proxy {
    /// Listens on 127.0.0.1 and forwards to this server, as long as the runtime lives.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start(server: &PgConnectOptions, kind: Loss) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port to listen on");
        let port = listener.local_addr().expect("it listens").port();
        let (armed, lost, cuts) = (AtomicBool::new(false), Notify::new(), watch::Sender::new(()));
        let wire = Arc::new(Wire { kind, armed, lost, cuts });
        let proxy = Self { port, wire: wire.clone() };
        let server = server.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, wire) = (server.clone(), wire.clone());
                // However it ends, both ends are closed.
                tokio::spawn(async move {
                    let mut cuts = wire.cuts.subscribe();
                    tokio::select! {
                        ended = connect(client, &server, &wire) => ended,
                        _ = cuts.changed() => Ok(()),
                    }
                });
            }
        });
        proxy
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The options of the server, but through the proxy, for a role without a password.
    pub fn through(&self, database: &str, server: &PgConnectOptions) -> PgConnectOptions {
        // A socket wins over host and port, so these begin anew.
        let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(self.port);
        options.username(server.get_username()).database(database).ssl_mode(PgSslMode::Disable)
    }

    /// The reply to the next COMMIT of anybody will be lost.
    pub fn lose_the_next_commit(&self) {
        self.wire.armed.store(true, Ordering::SeqCst);
    }

    /// Returns when a reply was lost, which is after Postgres has committed.
    pub async fn lost(&self) {
        self.wire.lost.notified().await;
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        self.wire.cuts.send_replace(());
    }
}

async fn connect(client: TcpStream, server: &PgConnectOptions, wire: &Wire) -> io::Result<()> {
    if let Some(directory) = server.get_socket() {
        let path = PathBuf::from(directory).join(format!(".s.PGSQL.{}", server.get_port()));
        forward(client, UnixStream::connect(path).await?, wire).await
    } else {
        forward(client, TcpStream::connect((server.get_host(), server.get_port())).await?, wire).await
    }
}

async fn forward(
    mut client: TcpStream,
    mut server: impl AsyncRead + AsyncWrite + Unpin,
    wire: &Wire,
) -> io::Result<()> {
    let (mut from_client, mut from_server) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut swallow = false;
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                let bytes = &from_client[..read];
                let commits = bytes.windows(7).any(|window| window == b"COMMIT\0");
                swallow |= commits && wire.armed.swap(false, Ordering::SeqCst);
                server.write_all(bytes).await?;
            }
            read = server.read(&mut from_server) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                if swallow {
                    wire.lost.notify_one();
                    match wire.kind {
                        Loss::Cut => return Ok(()),
                        Loss::Silence => std::future::pending().await,
                    }
                }
                client.write_all(&from_server[..read]).await?;
            }
        }
    }
}
