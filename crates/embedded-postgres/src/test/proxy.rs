//! A TCP proxy in front of Postgres that loses replies, is slow, and cuts connections.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rand::Rng;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

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
    /// Milliseconds that everything is on its way, in each direction.
    latency_ms: AtomicU32,
    /// One in so many packets breaks its connection; 0 is none.
    breaks_one_in: AtomicU32,
    silent: AtomicBool,
    eaten: Notify,
}

impl Proxy {
    /// Listens on 127.0.0.1 and forwards to this server, as long as the runtime lives.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start(server: &PgConnectOptions, kind: Loss) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port to listen on");
        let port = listener.local_addr().expect("it listens").port();
        let wire = Arc::new(Wire {
            kind,
            armed: AtomicBool::new(false),
            lost: Notify::new(),
            cuts: watch::Sender::new(()),
            latency_ms: AtomicU32::new(0),
            breaks_one_in: AtomicU32::new(0),
            silent: AtomicBool::new(false),
            eaten: Notify::new(),
        });
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

    /// Returns when something was eaten by silence.
    pub async fn eaten(&self) {
        self.wire.eaten.notified().await;
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        self.wire.cuts.send_replace(());
    }

    /// From now on everything takes this long, in each direction.
    pub fn delay(&self, latency_ms: u32) {
        self.wire.latency_ms.store(latency_ms, Ordering::SeqCst);
    }

    /// From now on one in so many packets, on average, breaks its connection; 0 ends that.
    pub fn break_one_in(&self, packets: u32) {
        self.wire.breaks_one_in.store(packets, Ordering::SeqCst);
    }

    /// From now on nothing comes through and nobody is told: a network that eats all packets. What it has eaten by the end
    /// of that is gone, and the connections with it.
    pub fn silence(&self, silent: bool) {
        self.wire.silent.store(silent, Ordering::SeqCst);
        if !silent {
            self.cut();
        }
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

async fn forward(client: TcpStream, server: impl AsyncRead + AsyncWrite, wire: &Wire) -> io::Result<()> {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = tokio::io::split(server);
    let (swallow, gone) = (AtomicBool::new(false), AtomicBool::new(false));
    let asks = |bytes: &[u8]| {
        if bytes.windows(7).any(|window| window == b"COMMIT\0") && wire.armed.swap(false, Ordering::SeqCst) {
            swallow.store(true, Ordering::SeqCst);
        }
        true
    };
    let answers = |_: &[u8]| {
        if swallow.load(Ordering::SeqCst) {
            gone.store(wire.kind == Loss::Silence, Ordering::SeqCst);
            wire.lost.notify_one();
            return wire.kind == Loss::Silence;
        }
        true
    };
    // Whichever side ends first ends both, after what it said last.
    tokio::select! {
        ended = pump(from_client, to_server, wire, &gone, asks) => ended,
        ended = pump(from_server, to_client, wire, &gone, answers) => ended,
    }
}

/// One direction, to its end, or until `passes` says no. What comes on a connection that is `gone` is eaten, its end too.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    wire: &Wire,
    gone: &AtomicBool,
    passes: impl Fn(&[u8]) -> bool,
) -> io::Result<()> {
    let (sender, mut on_the_way) = mpsc::channel::<(Instant, Vec<u8>)>(1_024);
    let reading = async move {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let read = from.read(&mut bytes).await?;
            let breaks_one_in = wire.breaks_one_in.load(Ordering::SeqCst);
            let breaks = breaks_one_in > 0 && rand::rng().random_ratio(1, breaks_one_in);
            if breaks || !passes(&bytes[..read]) {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            if gone.load(Ordering::SeqCst) || wire.silent.load(Ordering::SeqCst) {
                wire.eaten.notify_one();
                std::future::pending::<()>().await;
            }
            if read == 0 {
                return Ok(());
            }
            let arrives = Instant::now() + Duration::from_millis(wire.latency_ms.load(Ordering::SeqCst).into());
            if sender.send((arrives, bytes[..read].to_vec())).await.is_err() {
                return Ok(());
            }
        }
    };
    let writing = async {
        while let Some((arrives, bytes)) = on_the_way.recv().await {
            tokio::time::sleep_until(arrives).await;
            // Who takes nothing any more may have said why: the other direction hears that, and ends.
            let _ = to.write_all(&bytes).await;
        }
        Ok(())
    };
    tokio::try_join!(reading, writing).map(|_: ((), ())| ())
}
