//! How a command is started and ended on either kind of system: with everything that it starts.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(super) use self::unix::{end, shell};
#[cfg(windows)]
pub(super) use self::windows::{end, shell};
