use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    task::{Poll, Waker},
};

/// Tells the alarm's work that a command has come.
#[derive(Default)]
pub(super) struct Kick {
    is_kicked: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Kick {
    /// Something has come.
    pub(super) fn kick(&self) {
        self.is_kicked.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Waits until something has come since the last time.
    pub(super) async fn wait(&self) {
        poll_fn(|context| {
            if self.is_kicked.take() {
                return Poll::Ready(());
            }
            self.waker.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}
