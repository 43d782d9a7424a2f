//! The relay's end of a stream, over either transport, and the ways in which it can break.

use futures::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::CloseFrame},
};

/// The connection is gone.
pub(crate) struct Broken;

pub(crate) enum Out {
    Ndjson(TcpStream),
    WebSocket(Box<WebSocketStream<TcpStream>>),
}

impl Out {
    pub(crate) fn is_websocket(&self) -> bool {
        matches!(self, Self::WebSocket(_))
    }

    pub(crate) async fn text(&mut self, line: &str) -> Result<(), Broken> {
        let is_sent = match self {
            Self::Ndjson(stream) => stream.write_all(format!("{line}\n").as_bytes()).await.is_ok(),
            Self::WebSocket(socket) => socket.send(Message::text(line)).await.is_ok(),
        };
        if is_sent { Ok(()) } else { Err(Broken) }
    }

    pub(crate) async fn part(&mut self, line: &str) {
        let part = &line.as_bytes()[..line.len() / 2];
        match self {
            Self::Ndjson(stream) => {
                let _ = stream.write_all(part).await;
            }
            Self::WebSocket(socket) => {
                // A text message whose length of 65,000 bytes never comes.
                let stream = socket.get_mut();
                let _ = stream.write_all(&[0x81, 126, 0xfd, 0xe8]).await;
                let _ = stream.write_all(part).await;
            }
        }
    }

    pub(crate) async fn close(&mut self, code: u16) {
        if let Self::WebSocket(socket) = self {
            let frame = CloseFrame { code: code.into(), reason: "".into() };
            let _ = socket.send(Message::Close(Some(frame))).await;
            while let Some(Ok(_)) = socket.next().await {}
        }
    }

    /// The next message; an NDJSON reader only ever goes away.
    pub(crate) async fn message(&mut self) -> Option<Message> {
        match self {
            Self::Ndjson(stream) => {
                let mut byte = [0];
                let _ = stream.read(&mut byte).await;
                None
            }
            Self::WebSocket(socket) => socket.next().await.and_then(Result::ok),
        }
    }
}
