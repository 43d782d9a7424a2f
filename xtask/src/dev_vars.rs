//! The local relay's secrets, in `.dev.vars`, where wrangler looks for them too.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use base64::{Engine, engine::general_purpose::STANDARD};

const SECRET_LENGTH_BYTES: usize = 32;

/// Each secret: what it is for, its name, and what stands before the random part.
const SECRETS: [(&str, &str, &str); 4] = [
    (
        "The signing secret of the webhook at Linear; several are separated by commas.",
        "LINEAR_WEBHOOK_SECRET",
        "",
    ),
    (
        "Signs edge credentials: key id and secret; several are separated by commas.",
        "EDGE_SECRET",
        "k1:",
    ),
    ("What operators send as a bearer token.", "ADMIN_TOKEN", ""),
    (
        "Encrypts Linear's tokens: key id and 32 bytes in base64; several are separated by commas.",
        "TOKEN_ENCRYPTION_KEY",
        "k1:",
    ),
];

/// Writes random secrets, as far as they aren't there already. Tells whether it made the file.
pub(crate) fn ensure(path: &Path) -> Result<bool> {
    let unwritten = || format!("{} can't be written: delete it", path.display());
    let is_new = !path.exists();
    let known = if is_new { String::new() } else { read(path)? };
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .with_context(unwritten)?;
    if is_new {
        let head = b"# Secrets of the local relay. Made at random, never committed.\n";
        file.write_all(head).with_context(unwritten)?;
    }
    if !is_new && !known.ends_with('\n') {
        file.write_all(b"\n").with_context(unwritten)?;
    }
    for (purpose, name, prefix) in SECRETS {
        if value_in(&known, name).is_none() {
            let secret = random_base64()?;
            let lines = format!("# {purpose}\n{name}={prefix}{secret}\n");
            file.write_all(lines.as_bytes()).with_context(unwritten)?;
        }
    }
    Ok(is_new)
}

/// The value of one of the secrets.
pub(crate) fn value(path: &Path, name: &str) -> Result<Option<String>> {
    Ok(value_in(&read(path)?, name).map(str::to_owned))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))
}

fn value_in<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim()).filter(|value| !value.is_empty())
}

fn random_base64() -> Result<String> {
    let mut bytes = [0_u8; SECRET_LENGTH_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| anyhow!("this machine gives no random numbers: {error}"))?;
    Ok(STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::{ensure, value};

    #[test]
    fn secrets_are_written_once_and_for_the_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".dev.vars");

        assert!(ensure(&path).unwrap());
        let first = fs::read_to_string(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(value(&path, "EDGE_SECRET").unwrap().unwrap().starts_with("k1:"));

        assert!(!ensure(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
    }

    #[test]
    fn what_an_older_file_lacks_is_added() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".dev.vars");
        fs::write(&path, "EDGE_SECRET=\nADMIN_TOKEN=mine").unwrap();

        assert!(!ensure(&path).unwrap());
        assert_eq!(value(&path, "ADMIN_TOKEN").unwrap().as_deref(), Some("mine"));
        assert!(value(&path, "TOKEN_ENCRYPTION_KEY").unwrap().is_some());
        assert!(fs::read_to_string(&path).unwrap().contains("\nEDGE_SECRET=k1:"));
        assert_eq!(value(&path, "LINEAR_CLIENT_ID").unwrap(), None);
    }
}
