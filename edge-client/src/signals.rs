use std::io;

use futures::{Stream, stream};

/// One item for each request to end: Ctrl-C, and on Unix SIGTERM. SIGHUP is left as it is, so that
/// `nohup` works.
#[cfg(unix)]
pub fn shutdown_signals() -> io::Result<impl Stream<Item = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(stream::unfold(signals, |mut signals| async move {
        tokio::select! {
            _ = signals.0.recv() => {}
            _ = signals.1.recv() => {}
        }
        Some(((), signals))
    }))
}

/// One item for each Ctrl-C.
#[cfg(not(unix))]
pub fn shutdown_signals() -> io::Result<impl Stream<Item = ()> + Send + 'static> {
    Ok(stream::unfold((), |()| async {
        tokio::signal::ctrl_c().await.ok()?;
        Some(((), ()))
    }))
}
