//! The operator's token: made at the first start, kept in a file of the data directory.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use access::{Token, TokenKind};

/// The token's file under the data directory.
pub(crate) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("operator-token")
}

/// The token in `data_dir`, and whether it was made just now.
///
/// # Errors
/// With the path, where the file cannot be read or written, or does not hold a token.
pub(crate) fn load_or_create(data_dir: &Path) -> Result<(String, bool), String> {
    let path = path(data_dir);
    if path.exists() {
        return read(&path).map(|token| (token, false));
    }
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|e| format!("no randomness from the system: {e}"))?;
    let token = Token::generate_operator(random);
    let cannot = |e: std::io::Error| format!("{} cannot be written: {e}", path.display());
    // The name appears only once its content is safe, so that a crash leaves no half token.
    let draft = data_dir.join("operator-token.new");
    let _ = fs::remove_file(&draft);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(cannot)?;
    writeln!(file, "{token}").and_then(|()| file.sync_all()).map_err(cannot)?;
    fs::rename(&draft, &path).map_err(cannot)?;
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
            "{} holds no operator token; remove it and start again to have a new one made",
            path.display()
        ));
    }
    Ok(token)
}
