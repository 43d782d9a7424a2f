use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

/// How much of what was written a reader has yet to take. Whoever reads history for it waits here
/// for room, so that the buffer is bounded, however slow the reader is.
#[derive(Clone, Default)]
pub(crate) struct Flow {
    state: Rc<FlowState>,
}

#[derive(Default)]
struct FlowState {
    unread_bytes: Cell<usize>,
    is_closed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Flow {
    /// So much was written.
    pub(crate) fn written(&self, bytes: usize) {
        self.state.unread_bytes.set(self.state.unread_bytes.get() + bytes);
    }

    /// The reader has taken so much.
    pub(crate) fn taken(&self, bytes: usize) {
        self.state.unread_bytes.set(self.state.unread_bytes.get().saturating_sub(bytes));
        self.wake();
    }

    /// The reader is gone.
    pub(crate) fn close(&self) {
        self.state.is_closed.set(true);
        self.wake();
    }

    /// Whether the reader is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.is_closed.get()
    }

    fn wake(&self) {
        if let Some(waker) = self.state.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Waits until less than `bytes_max` is unread. `false` when the reader is gone.
    pub(crate) async fn room(&self, bytes_max: usize) -> bool {
        poll_fn(|context| {
            if self.state.is_closed.get() {
                return Poll::Ready(false);
            }
            if self.state.unread_bytes.get() < bytes_max {
                return Poll::Ready(true);
            }
            self.state.waker.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await
    }
}
