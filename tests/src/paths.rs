use std::path::{Path, PathBuf};

/// The checkout.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::env::var_os("EDGERELAY_ROOT").map_or_else(|| manifest.parent().unwrap().into(), Into::into)
}

/// The pinned Node.js.
pub fn node_binary() -> PathBuf {
    let path: PathBuf = std::env::var_os("EDGERELAY_NODE")
        .map_or_else(|| root().join("node_modules/node/bin/node"), Into::into);
    assert!(path.exists(), "{} is missing: run 'cargo xtask test'", path.display());
    path
}

/// The real client.
pub fn client_binary() -> PathBuf {
    let path: PathBuf = std::env::var_os("EDGERELAY_BIN")
        .map_or_else(|| root().join("target/debug/edgerelay"), Into::into);
    assert!(path.exists(), "{} is missing: run 'cargo xtask test'", path.display());
    path
}
