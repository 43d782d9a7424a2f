//! The local relay's secrets, in `.dev.vars`, where wrangler looks for them too.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow};

const SECRET_LENGTH_BYTES: usize = 32;

/// Writes random secrets, unless the file is there already. Tells whether it wrote.
pub(crate) fn ensure(path: &Path) -> Result<bool> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error).context(format!("{} can't be made", path.display())),
    };
    file.write_all(new_secrets()?.as_bytes())
        .with_context(|| format!("{} can't be written: delete it", path.display()))?;
    Ok(true)
}

fn new_secrets() -> Result<String> {
    Ok(format!(
        "# Secrets of the local relay. Made at random, never committed.\n\
         # The signing secret of the webhook at Linear; several are separated by commas.\n\
         LINEAR_WEBHOOK_SECRET={}\n\
         # Signs edge credentials: key id and secret; several are separated by commas.\n\
         EDGE_SECRET=k1:{}\n\
         # What operators send as a bearer token.\n\
         ADMIN_TOKEN={}\n",
        random_hex()?,
        random_hex()?,
        random_hex()?
    ))
}

fn random_hex() -> Result<String> {
    let mut bytes = [0_u8; SECRET_LENGTH_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| anyhow!("this machine gives no random numbers: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::ensure;

    #[test]
    fn secrets_are_written_once_and_for_the_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".dev.vars");

        assert!(ensure(&path).unwrap());
        let first = fs::read_to_string(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(first.contains("\nEDGE_SECRET=k1:"));

        assert!(!ensure(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
    }
}
