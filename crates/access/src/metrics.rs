//! Names of what the gate counts.

/// Authentications, by `result`: `hit` (from the cache), `loaded` (from the catalog), `operator`,
/// `refused` (401 or 400), `failed` (the catalog was out of reach).
pub const AUTHENTICATIONS: &str = "aktvator_access_authentications_total";
/// Requests refused by a rate limit, by `class`: `ingest`, `requests`.
pub const REFUSALS: &str = "aktvator_access_rate_limit_refusals_total";
