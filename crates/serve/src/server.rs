//! Accepting connections and serving them, within bounds.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::PrometheusHandle;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

use crate::routes::router;
use crate::watch::Watch;
use crate::{Error, Settings};

/// Whoever needs longer for the headers of a request, or keeps a connection without a request, is cut off.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// Whoever takes so little of an answer that nothing more could be sent for so long is cut off. What was sent waits in a buffer of
/// the kernel, of which a third has to be taken before more can be: with the size below five kilobytes a second are enough.
const TAKEN_WITHIN: Duration = Duration::from_mins(1);
/// Left alone, the kernel would let it grow to megabytes for each connection.
const SEND_BUFFER_BYTES: usize = 64 << 10;
const MAX_HEADERS: usize = 64;
/// Of the request line and the headers together.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// The next ones wait in the kernel's queue until one of these is done or cut off. Well below the 1,024 open files that a
/// process has by default, because the rest of this one needs some too.
const MAX_CONNECTIONS: usize = 400;
/// Requests under way when the server stops have this long to end.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);
/// What was read is noted in the audit log within this time after the last request, if the database answers.
const AUDIT_WITHIN: Duration = Duration::from_secs(2);
/// Pause after the process or the machine ran out of something.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Opens the listener for [`serve`]; apart from it so that an address in use is found out before anything else starts.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|error| Error::Listen { address, error })
}

/// Serves until `cancel`, then closes idle connections, lets requests under way end for a few seconds, and returns.
pub async fn serve(
    listener: TcpListener,
    settings: Settings,
    metrics: PrometheusHandle,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let watch = Arc::new(Watch::new(settings.database.clone(), settings.setup.clone()));
    let watching = tokio::spawn({
        let (watch, cancel) = (watch.clone(), cancel.clone());
        async move { watch.run(cancel).await }
    });
    let (router, audit) = router(settings, metrics, watch, cancel.clone());
    let cut_off = CancellationToken::new();
    let audit = tokio::spawn(audit.run(cut_off.clone()));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let accepted = accept(&listener, &router, &graceful, &mut connections, &cancel).await;
    drop(listener);
    if tokio::time::timeout(DRAIN_WITHIN, graceful.shutdown()).await.is_err() {
        tracing::info!(connections = connections.len(), "cutting off requests that do not end");
    }
    connections.shutdown().await;
    drop(router);
    let stopping = tokio::spawn(async move {
        tokio::time::sleep(AUDIT_WITHIN).await;
        cut_off.cancel();
    });
    // It panics no more than it is aborted: it ends.
    let _ = audit.await;
    watching.abort();
    stopping.abort();
    accepted
}

async fn accept(
    listener: &TcpListener,
    router: &Router,
    graceful: &GracefulShutdown,
    connections: &mut JoinSet<()>,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    let http = builder();
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let next = async || {
        // Never closed, so there is always a permit in the end.
        let permit = permits.clone().acquire_owned().await.ok();
        (permit, listener.accept().await)
    };
    while let Some((permit, accepted)) = cancel.run_until_cancelled(next()).await {
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let service = TowerToHyperService::new(router.clone());
                let connection = http.serve_connection(TokioIo::new(bounded(stream)), service).into_owned();
                let served = graceful.watch(connection);
                connections.spawn(async move {
                    // Errors are the client's: cut off, gone, or not speaking HTTP.
                    if let Err(error) = served.await {
                        tracing::debug!(%error, "a connection ended early");
                    }
                    drop(permit);
                });
            }
            Err(error) if is_broken(&error) => return Err(Error::Accept(error)),
            Err(error) => {
                tracing::debug!(%error, "could not accept a connection");
                cancel.run_until_cancelled(tokio::time::sleep(EXHAUSTED_PAUSE)).await;
            }
        }
    }
    Ok(())
}

/// Cut off when nothing can be sent any more.
fn bounded(stream: TcpStream) -> Pin<Box<TimeoutStream<TcpStream>>> {
    if let Err(error) = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES) {
        tracing::debug!(%error, "a connection keeps the kernel's send buffer");
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(TAKEN_WITHIN));
    Box::pin(stream)
}

/// Only HTTP/1.1: what looks for the version first waits for it without a timer. A proxy in front speaks the others.
fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES);
    builder
}

/// Whether accepting can never work again; anything else is one connection's or passes.
fn is_broken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}
