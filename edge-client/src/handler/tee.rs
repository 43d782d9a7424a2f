use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    task::JoinHandle,
    time::timeout,
};

use super::last_line::LastLine;

const OUTPUT_BYTES: usize = 8 * 1024;

/// Copies what a command prints to where it would have gone, and keeps the last line.
pub(super) struct Tee {
    last: Arc<Mutex<LastLine>>,
    copying: JoinHandle<()>,
}

impl Tee {
    pub(super) fn start(
        source: Option<impl AsyncRead + Unpin + Send + 'static>,
        target: impl AsyncWrite + Unpin + Send + 'static,
    ) -> Option<Self> {
        let last = Arc::new(Mutex::new(LastLine::default()));
        let copying = tokio::spawn(copy(source?, target, Arc::clone(&last)));
        Some(Self { last, copying })
    }

    /// What the command's children print later is still copied.
    pub(super) async fn close(self, patience: Duration) -> Option<String> {
        let _ = timeout(patience, self.copying).await;
        self.last.lock().unwrap_or_else(PoisonError::into_inner).text()
    }
}

async fn copy(
    mut source: impl AsyncRead + Unpin,
    mut target: impl AsyncWrite + Unpin,
    last: Arc<Mutex<LastLine>>,
) {
    let mut chunk = vec![0; OUTPUT_BYTES];
    while let Ok(length) = source.read(&mut chunk).await
        && length > 0
    {
        let chunk = &chunk[..length];
        last.lock().unwrap_or_else(PoisonError::into_inner).push(chunk);
        // Nobody reads our output any more: then the command is told so by its own pipe.
        if target.write_all(chunk).await.is_err() || target.flush().await.is_err() {
            return;
        }
    }
}
