//! The processes of a command, on either kind of system.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(super) use self::unix::{end, shell};
#[cfg(windows)]
pub(super) use self::windows::{end, shell};
