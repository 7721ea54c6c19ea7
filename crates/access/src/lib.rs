//! Who is calling, what they may do, and how much of it.
//!
//! What it is not: nothing here knows a route or writes a response. [`Gate`] turns request headers
//! into a [`Caller`] with one hash and one cache look-up, says whether the caller may do a thing
//! ([`require`]), and counts their requests ([`Gate::admit`]); what it answers goes into the
//! response's headers by [`Admission::headers`].
//!
//! Invariants: tokens are known by their SHA-256 alone; a key that was revoked or changed in this
//! process stops at the next request, and one that could not be read again for 30 s is not served.
//! Start reading at [`Gate`].

mod admission;
mod caller;
mod gate;
pub mod metrics;
mod token;

pub use admission::{Admission, Class};
pub use caller::{Caller, Principal, SCOPES, require};
pub use gate::Gate;
pub use token::{Token, TokenKind};
