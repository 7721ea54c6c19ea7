//! Response bodies, and reading request bodies within bounds.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Frame, SizeHint};

use crate::BoxError;

/// A response body: all at once, or a stream.
pub type Body = Either<Full<Bytes>, UnsyncBoxBody<Bytes, BoxError>>;

/// A body that is there as a whole.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Either::Left(Full::new(bytes.into()))
}

/// No bytes.
pub fn empty() -> Body {
    full(Bytes::new())
}

/// A body of any other kind.
pub fn boxed<B>(body: B) -> Body
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    Either::Right(body.map_err(Into::into).boxed_unsync())
}

/// Why a request body was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is longer than allowed: 413.
    #[error("the body is longer than {max} bytes")]
    TooLarge {
        /// What was allowed, in bytes.
        max: usize,
    },
    /// It did not arrive in time: 408.
    #[error("the body did not arrive within {} s", timeout.as_secs_f32())]
    TooSlow {
        /// What was allowed.
        timeout: Duration,
    },
    /// The connection broke, or the framing was wrong: 400, if anyone still listens.
    #[error("the body was cut off or badly framed")]
    Broken(#[source] BoxError),
}

/// Reads a whole body of at most `max` bytes that arrives within `timeout`.
///
/// A body that came in one piece is not copied.
///
/// # Errors
/// [`ReadError`], as soon as it is certain; what was read by then is dropped.
pub async fn read<B>(body: B, max: usize, timeout: Duration) -> Result<Bytes, ReadError>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    if body.size_hint().lower() > max as u64 {
        return Err(ReadError::TooLarge { max });
    }
    match tokio::time::timeout(timeout, collect(body, max)).await {
        Ok(result) => result,
        Err(_elapsed) => Err(ReadError::TooSlow { timeout }),
    }
}

async fn collect<B>(mut body: B, max: usize) -> Result<Bytes, ReadError>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ReadError::Broken(error.into()))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + whole.len() + data.len() > max {
            return Err(ReadError::TooLarge { max });
        }
        if first.is_empty() && whole.is_empty() {
            first = data;
            continue;
        }
        if whole.is_empty() {
            let rest = usize::try_from(body.size_hint().lower()).unwrap_or(max).min(max);
            whole.reserve(first.len() + data.len() + rest);
            whole.extend_from_slice(&std::mem::take(&mut first));
        }
        whole.extend_from_slice(&data);
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// A [`Body`] whose error has a name.
///
/// With a boxed error in its type, rustc cannot see that a connection's future is `Send` (rust-lang
/// issue 102211).
pub(crate) struct Outgoing(pub(crate) Body);

/// A streamed body failed; the answer is cut off.
#[derive(Debug, thiserror::Error)]
#[error("the body of the answer failed")]
pub(crate) struct OutgoingError(#[source] BoxError);

impl hyper::body::Body for Outgoing {
    type Data = Bytes;
    type Error = OutgoingError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, OutgoingError>>> {
        let frame = Pin::new(&mut self.0).poll_frame(cx);
        frame.map(|frame| frame.map(|frame| frame.map_err(OutgoingError)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    const SECOND: Duration = Duration::from_secs(1);

    /// A body that comes in the pieces between the bars.
    fn pieces(
        text: &'static str,
    ) -> impl hyper::body::Body<Data = Bytes, Error = Infallible> + Unpin {
        let frames = text.split('|').map(|piece| Ok(Frame::data(Bytes::from(piece))));
        http_body_util::StreamBody::new(futures_util::stream::iter(frames))
    }

    #[tokio::test]
    async fn joins_what_fits() {
        for (sent, want) in [
            ("", Some("")),
            ("abcd", Some("abcd")),
            ("|ab|c|d", Some("abcd")),
            ("ab||cd", Some("abcd")),
            ("abcde", None),
            ("abc|d|e", None),
        ] {
            let got = read(pieces(sent), 4, SECOND).await.ok();
            assert_eq!(got.as_deref(), want.map(str::as_bytes), "{sent}");
        }
    }

    #[tokio::test]
    async fn a_known_length_is_refused_before_reading() {
        let body = Full::new(Bytes::from_static(b"abcde"));
        assert!(matches!(read(body, 4, SECOND).await, Err(ReadError::TooLarge { max: 4 })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_is_given_up() {
        let never = http_body_util::StreamBody::new(futures_util::stream::pending::<
            Result<Frame<Bytes>, Infallible>,
        >());
        assert!(matches!(read(never, 4, SECOND).await, Err(ReadError::TooSlow { .. })));
    }
}
