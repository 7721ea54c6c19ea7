//! Randomness from the operating system.

/// 64 bits.
///
/// # Errors
/// Where the system has none.
pub(crate) fn number() -> Result<u64, String> {
    getrandom::u64().map_err(unavailable)
}

/// 256 bits, enough for a secret.
///
/// # Errors
/// Where the system has none.
pub(crate) fn bytes() -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(unavailable)?;
    Ok(bytes)
}

fn unavailable(error: getrandom::Error) -> String {
    format!("no randomness from the system: {error}")
}
