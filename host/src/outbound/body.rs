//! A request's body that asks, before it is begun, whether it still may be.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};

use super::under_way::UnderWay;

/// hyper writes a request's head out together with the beginning of its body, and ends the connection, or the stream of HTTP/2, where
/// the body fails: there is no whole request then.
pub(super) struct Guarded {
    whole: Full<Bytes>,
    request: Option<Arc<UnderWay>>,
}

impl Guarded {
    pub(super) fn new(body: Bytes, request: Arc<UnderWay>) -> Self {
        Self { whole: Full::new(body), request: Some(request) }
    }
}

impl Body for Guarded {
    type Data = Bytes;
    type Error = TooLate;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, TooLate>>> {
        if let Some(request) = self.request.take()
            && !request.begins()
        {
            return Poll::Ready(Some(Err(TooLate)));
        }
        Pin::new(&mut self.whole).poll_frame(context).map_err(|error: Infallible| match error {})
    }

    fn is_end_stream(&self) -> bool {
        self.request.is_none() && self.whole.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.whole.size_hint()
    }
}

/// It may not be begun any more.
#[derive(Debug)]
pub(super) struct TooLate;

impl fmt::Display for TooLate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it may not be begun any more")
    }
}

impl std::error::Error for TooLate {}
