//! Connections: taken up to a number, each with limits of time, and let go when the program is to end.
//!
//! A peer has so long for a request's head, for its body and to read on; one that closes its side is gone, and what it asked for
//! is cancelled.

use super::app::App;
use super::patient::Patient;
use super::tls::Tls;
use super::{log, routes};
use crate::error::{Error, Result};
use axum::Router;
use ggml::Cancel;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// Bytes of a request's head.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Lines of it.
const MAX_HEADERS: usize = 100;

/// Connections to where metrics have a listener of their own.
const N_OBSERVERS: usize = 8;

/// How often `stop` is looked at.
const STOP_CHECK: Duration = Duration::from_millis(100);

/// For telling clients that their answer was cut off.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// When the system has no place for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where a server is to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub server: SocketAddr,
    /// Where metrics have a listener of their own.
    pub metrics: Option<SocketAddr>,
}

/// Serves until told to end, then until what is under way is done or the time for that is over.
///
/// # Errors
/// `Backend` where the address is not to be had.
pub async fn serve(app: Arc<App>, stop: &Cancel, tell: impl FnOnce(&Addresses)) -> Result<()> {
    let (listener, server) = listen(app.options.address).await?;
    let metrics = match app.options.metrics {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let mut told = Told::new(app.options.tls.clone())?;
    tell(&Addresses { server, metrics: metrics.as_ref().map(|(_, address)| *address) });
    let (leave, leaving) = watch::channel(false);
    let places = Arc::new(Semaphore::new(app.limits().n_connections as usize));
    let mut connections = JoinSet::new();
    // Whoever looks at figures is there until the end, and nobody waits for them.
    let mut observers = JoinSet::new();
    if let Some((listener, _)) = metrics {
        let (app, leaving) = (Arc::clone(&app), leaving.clone());
        observers.spawn(observe(app, listener, leaving));
    }
    observers.spawn(Arc::clone(&app.keeper).tend());
    let router = routes::router(&app);
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = told.until_end(stop) => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, place)) = accepted else { continue };
        app.metrics.saw_connection();
        let tls = app.options.tls.as_ref().map(|tls| tls.acceptor());
        let connection = connection(Arc::clone(&app), (stream, tls), router.clone(), leaving.clone());
        connections.spawn(async move {
            connection.await;
            drop(place);
        });
    }
    drop(listener);
    app.leave();
    log::write("leaving", json!({"connections": connections.len()}));
    // Whoever is gone needs no telling.
    let _ = leave.send(true);
    let all_gone = async { while connections.join_next().await.is_some() {} };
    if timeout(app.limits().drain, all_gone).await.is_ok() {
        return Ok(());
    }
    log::write("cut off", json!({"connections": connections.len()}));
    app.cancel_all();
    let all_told = async { while connections.join_next().await.is_some() {} };
    // Who does not listen is not waited for.
    let _ = timeout(LAST_WORDS, all_told).await;
    Ok(())
}

async fn listen(wanted: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let refused = |cause: std::io::Error| Error::Backend(format!("{wanted}: {cause}"));
    let listener = TcpListener::bind(wanted).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    Ok((listener, address))
}

/// Lets metrics and health be read at `listener`.
async fn observe(app: Arc<App>, listener: TcpListener, leaving: watch::Receiver<bool>) {
    let router = routes::observers_router(&app);
    let places = Arc::new(Semaphore::new(N_OBSERVERS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Some((stream, place)) = accept(&listener, &places).await else { continue };
        let connection = connection(Arc::clone(&app), (stream, None), router.clone(), leaving.clone());
        connections.spawn(async move {
            connection.await;
            drop(place);
        });
    }
}

/// The next connection, once there is a place for it; none where the system refused it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(_) => {
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection(
    app: Arc<App>,
    (stream, tls): (TcpStream, Option<TlsAcceptor>),
    router: Router,
    leaving: watch::Receiver<bool>,
) {
    // Small pieces of an answer are sent as they are written.
    let _ = stream.set_nodelay(true);
    let patience = app.limits().peer;
    let stream = Patient::new(stream, patience);
    match tls {
        None => answer(stream, patience, router, leaving).await,
        Some(tls) => {
            // Who speaks no TLS, or takes too long for it, has asked nothing.
            if let Ok(Ok(stream)) = timeout(patience, tls.accept(stream)).await {
                answer(stream, patience, router, leaving).await;
            }
        }
    }
}

/// Answers the requests that come over `stream`.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    patience: Duration,
    router: Router,
    mut leaving: watch::Receiver<bool>,
) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(served);
    // How a connection ends is up to its peer: there is nothing to say about it.
    tokio::select! {
        _ = served.as_mut() => {}
        () = until_told(&mut leaving) => {
            served.as_mut().graceful_shutdown();
            let _ = served.await;
        }
    }
}

async fn until_told(leaving: &mut watch::Receiver<bool>) {
    // Whoever would tell is gone only when all is over.
    let _ = leaving.wait_for(|leaving| *leaving).await;
}

/// What tells the program to end; and, by SIGHUP, to read certificate and key again.
struct Told {
    #[cfg(unix)]
    terminate: Signal,
    /// Where there is a certificate.
    #[cfg(unix)]
    renew: Option<(Signal, Arc<Tls>)>,
    check: tokio::time::Interval,
}

impl Told {
    fn new(tls: Option<Arc<Tls>>) -> Result<Told> {
        #[cfg(unix)]
        let handler = |kind: SignalKind| {
            signal(kind).map_err(|error| Error::Backend(format!("handler of a signal: {error}")))
        };
        #[cfg(not(unix))]
        drop(tls);
        Ok(Told {
            #[cfg(unix)]
            terminate: handler(SignalKind::terminate())?,
            #[cfg(unix)]
            renew: tls.map(|tls| Ok::<_, Error>((handler(SignalKind::hangup())?, tls))).transpose()?,
            check: interval(STOP_CHECK),
        })
    }

    /// Waits until the certificate is to be read again, and does it.
    #[cfg(unix)]
    async fn renewed(renew: &mut Option<(Signal, Arc<Tls>)>) {
        let Some((hangup, tls)) = renew else { return std::future::pending().await };
        hangup.recv().await;
        match tls.read_again() {
            Ok(()) => log::write("certificate", json!({"is": "read again"})),
            Err(error) => log::write("certificate", json!({"is": "as it was", "problem": error.to_string()})),
        }
    }

    async fn until_end(&mut self, stop: &Cancel) {
        loop {
            #[cfg(unix)]
            tokio::select! {
                _ = self.terminate.recv() => return,
                () = Told::renewed(&mut self.renew) => {}
                _ = self.check.tick() => {}
            }
            #[cfg(not(unix))]
            self.check.tick().await;
            if stop.is_cancelled() {
                return;
            }
        }
    }
}
