use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::failure::Failure;

/// Where the lines go. A file has its name only when it is complete: before, it is `NAME.part`.
#[derive(Debug)]
pub(super) struct Destination {
    path: PathBuf,
    part: PathBuf,
}

impl Destination {
    /// Creates the part. One that is there already holds events of an export that did not end,
    /// and is left alone.
    pub(super) fn create(path: &Path) -> Result<(Self, impl Write + Send + 'static), Failure> {
        if path.is_dir() {
            return Err(Failure::Output(format!("{} is a directory", path.display())));
        }
        let mut part: OsString = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = OpenOptions::new().write(true).create_new(true).open(&part);
        let file = file.map_err(|error| Failure::Output(describe(&part, &error)))?;
        Ok((Self { path: path.to_owned(), part }, file))
    }

    /// Gives the complete file its name, after its bytes are on disk.
    pub(super) fn finish(self) -> io::Result<()> {
        File::open(&self.part)?.sync_all()?;
        fs::rename(&self.part, &self.path)
    }

    /// Leaves what is there, unless that is nothing.
    pub(super) fn abandon(self) -> Option<PathBuf> {
        let is_empty = fs::metadata(&self.part).is_ok_and(|part| part.len() == 0);
        if is_empty && fs::remove_file(&self.part).is_ok() {
            return None;
        }
        Some(self.part)
    }
}

fn describe(part: &Path, error: &io::Error) -> String {
    let part = part.display();
    if error.kind() == io::ErrorKind::AlreadyExists {
        return format!(
            "{part} is there: another export writes it, or one did not end. Move it away to keep \
             its events, or remove it"
        );
    }
    format!("{part}: {error}")
}
