use std::{collections::VecDeque, sync::Arc};

use futures::{FutureExt, SinkExt, StreamExt};
use relay_schemas::ClientMessage;
use reqwest::Upgraded;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message, protocol::Role, protocol::WebSocketConfig},
};

use super::{Outgoing, Received};
use crate::{
    fault::Fault,
    limits::{LINE_BYTES_MAX, LINES_PER_READ_MAX},
};

/// What the transport itself buffers of what comes in; one line may be longer.
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// One frame a message, straight to the stream's object.
#[derive(Debug)]
pub struct WebSocketConnection {
    socket: WebSocketStream<Upgraded>,
    end: Option<Fault>,
}

impl WebSocketConnection {
    /// Speaks WebSocket on an upgraded connection.
    pub(super) async fn new(stream: Upgraded) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(LINE_BYTES_MAX))
            .max_frame_size(Some(LINE_BYTES_MAX));
        let socket = WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await;
        Self { socket, end: None }
    }

    /// See [`super::Connection::receive`].
    pub(super) async fn receive(&mut self, inbox: &mut VecDeque<Received>) -> Result<(), Fault> {
        if let Some(fault) = self.end.take() {
            return Err(fault);
        }
        let first = self.socket.next().await;
        self.take(first, inbox)?;
        for _ in 1..LINES_PER_READ_MAX {
            let Some(next) = self.socket.next().now_or_never() else { break };
            if let Err(fault) = self.take(next, inbox) {
                // What came before the end comes first.
                self.end = Some(fault);
                break;
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        message: Option<Result<Message, Error>>,
        inbox: &mut VecDeque<Received>,
    ) -> Result<(), Fault> {
        match message {
            Some(Ok(Message::Text(text))) if text.as_str() == "pong" => {
                inbox.push_back(Received::Alive);
            }
            Some(Ok(Message::Text(text))) => {
                inbox.push_back(Received::Line(Arc::from(text.as_str())));
            }
            Some(Ok(Message::Close(Some(close)))) => {
                return Err(Fault::of_close(close.code.into(), &close.reason));
            }
            Some(Ok(Message::Close(None))) | None => {
                return Err(Fault::passing("the relay ended the connection"));
            }
            Some(Ok(
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_),
            )) => inbox.push_back(Received::Alive),
            Some(Err(error)) => return Err(Fault::passing(error)),
        }
        Ok(())
    }

    /// See [`super::Connection::send`].
    pub(super) async fn send(&mut self, message: Outgoing) -> Result<(), Fault> {
        let text = match message {
            Outgoing::Ping => "ping".to_owned(),
            Outgoing::Grant { bytes } => {
                serde_json::to_string(&ClientMessage::Credit { bytes }).map_err(Fault::passing)?
            }
        };
        self.socket.send(Message::text(text)).await.map_err(Fault::passing)
    }
}
