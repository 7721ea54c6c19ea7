//! The operator's token, kept in a file.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use access::{Token, TokenKind};

use crate::random;

/// The token's file, where it is nowhere else.
pub(crate) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("operator-token")
}

/// The token in the file at `path`, and whether it was made just now.
///
/// # Errors
/// With the path, where the file cannot be read or written, or does not hold a token.
pub(crate) fn load_or_create(path: &Path) -> Result<(String, bool), String> {
    if path.exists() {
        return read(path).map(|token| (token, false));
    }
    let token = Token::generate_operator(random::bytes()?);
    if let Some(folder) = path.parent() {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|e| format!("{} cannot be made: {e}", folder.display()))?;
    }
    let cannot = |e: std::io::Error| format!("{} cannot be written: {e}", path.display());
    // The name appears only once its content is safe, so that a crash leaves no half token.
    let draft = path.with_added_extension("new");
    let _ = fs::remove_file(&draft);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(cannot)?;
    writeln!(file, "{token}").and_then(|()| file.sync_all()).map_err(cannot)?;
    fs::rename(&draft, path).map_err(cannot)?;
    Ok((token, true))
}

/// The token in the file at `path`.
///
/// # Errors
/// With the path, where the file cannot be read or does not hold a token.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    let text =
        fs::read_to_string(path).map_err(|e| format!("{} cannot be read: {e}", path.display()))?;
    let token = text.trim().to_owned();
    if Token::kind(&token) != Some(TokenKind::Operator) {
        return Err(format!(
            "{} holds no operator token; remove it to have a new one made",
            path.display()
        ));
    }
    Ok(token)
}
