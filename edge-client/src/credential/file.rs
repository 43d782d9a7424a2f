use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::stored::SignIn;

/// The version of the stored format that this client writes, and the newest that it reads.
const VERSION: u32 = 1;

/// A few relays with two tokens each are a few kilobytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The credentials file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file or its directory.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// Others may read or replace it.
    #[error("{0}")]
    Exposed(String),
    /// Not ours, or from the future.
    #[error("{0}")]
    Foreign(String),
}

/// Sign-ins in a file that only its owner can read. Whoever changes it holds the lock.
#[derive(Clone, Debug)]
pub(crate) struct CredentialsFile {
    path: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    version: u32,
    #[serde(default)]
    relays: BTreeMap<String, SignIn>,
}

impl CredentialsFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn load(&self, relay: &str) -> Result<Option<SignIn>, FileError> {
        Ok(self.read()?.relays.remove(relay))
    }

    /// Makes the entry durable: a crash before the rename leaves the earlier entry, one after it
    /// the new one.
    pub(crate) fn save(&self, relay: &str, sign_in: &SignIn) -> Result<(), FileError> {
        let mut content = self.read()?;
        content.relays.insert(relay.to_owned(), sign_in.clone());
        self.write(&content)
    }

    /// Whether there was an entry.
    pub(crate) fn forget(&self, relay: &str) -> Result<bool, FileError> {
        let mut content = self.read()?;
        let was_there = content.relays.remove(relay).is_some();
        if was_there {
            self.write(&content)?;
        }
        Ok(was_there)
    }

    fn read(&self) -> Result<Content, FileError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Content { version: VERSION, relays: BTreeMap::new() });
            }
            Err(error) => return Err(self.failed(error)),
        };
        refuse_exposed(&file, &self.path).map_err(|error| match error {
            FileError::Io(_, error) => self.failed(error),
            error => error,
        })?;
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(|error| self.failed(error))?;
        let shown = self.path.display();
        // The parser's own words could quote a token.
        let content: Content = serde_json::from_slice(&text).map_err(|_| {
            FileError::Foreign(format!("{shown} is not a credentials file: move it away"))
        })?;
        if content.version > VERSION {
            return Err(FileError::Foreign(format!(
                "{shown} has version {}, this edgerelay knows {VERSION}: update edgerelay",
                content.version
            )));
        }
        Ok(content)
    }

    fn write(&self, content: &Content) -> Result<(), FileError> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        prepare_directory(directory)?;
        let temporary = self.path.with_extension("json.new");
        let text = serde_json::to_vec_pretty(content).expect("plain fields serialise");
        let written = write_new(&temporary, &text)
            .and_then(|()| fs::rename(&temporary, &self.path))
            .and_then(|()| sync_directory(directory));
        written.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            self.failed(error)
        })
    }

    fn failed(&self, error: io::Error) -> FileError {
        FileError::Io(self.path.display().to_string(), error)
    }
}

/// Creates the directory for its owner alone; one that is there must not let others put files in.
pub(super) fn prepare_directory(directory: &Path) -> Result<(), FileError> {
    let failed = |error| FileError::Io(directory.display().to_string(), error);
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    match own_directory().create(directory) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(directory).map_err(failed)?.permissions().mode();
        if mode & 0o022 != 0 {
            let shown = directory.display();
            return Err(FileError::Exposed(format!(
                "others may put files into {shown}: chmod 700 {shown}"
            )));
        }
    }
    Ok(())
}

#[cfg(unix)]
fn own_directory() -> DirBuilder {
    let mut builder = DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

#[cfg(not(unix))]
fn own_directory() -> DirBuilder {
    DirBuilder::new()
}

#[cfg(unix)]
fn refuse_exposed(file: &File, path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata =
        file.metadata().map_err(|error| FileError::Io(path.display().to_string(), error))?;
    let shown = path.display();
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(FileError::Exposed(format!(
            "others may read {shown}, which holds credentials: chmod 600 {shown}, and if they may \
             have read it, edgerelay logout and login"
        )));
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_exposed(_file: &File, _path: &Path) -> Result<(), FileError> {
    Ok(())
}

/// Never readable by others, not even for a moment.
fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

/// The rename itself survives a power cut only when the directory is written, too.
fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}
