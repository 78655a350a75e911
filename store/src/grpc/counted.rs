//! Counts how every call ends. A unary call has ended when its answer is there; a stream says at its end how it went.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::{Either, Join, Map, Ready, join};
use http::{HeaderMap, Request, Response};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::metrics::{Calls, Ongoing};

/// Puts the counting before a service.
#[derive(Clone)]
pub(crate) struct CountCalls {
    pub(crate) calls: Arc<Calls>,
}

impl<S> Layer<S> for CountCalls {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, calls: Arc::clone(&self.calls) }
    }
}

/// A service whose calls are counted.
#[derive(Clone)]
pub(crate) struct Counted<S> {
    inner: S,
    calls: Arc<Calls>,
}

type Answer = Result<Response<Body>, Infallible>;
/// Named, so that no call needs a box for it.
type Counting<F> = Map<Join<F, Ready<Ongoing>>, fn((Answer, Ongoing)) -> Answer>;

impl<S, A> Service<Request<A>> for Counted<S>
where
    S: Service<Request<A>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Counting<S::Future>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let row = self.calls.row(request.uri().path());
        let answering = self.inner.call(request);
        match row {
            Some(row) => {
                let ongoing = futures::future::ready(Ongoing::begin(row));
                let answered: fn((Answer, Ongoing)) -> Answer = answered;
                Either::Left(join(answering, ongoing).map(answered))
            }
            None => Either::Right(answering),
        }
    }
}

fn answered((answer, ongoing): (Answer, Ongoing)) -> Answer {
    let Ok(answer) = answer;
    match code(answer.headers()) {
        Some(code) => ongoing.end(code),
        None if ongoing.row.streams_answers => {
            return Ok(answer.map(|inner| Body::new(Stream { inner, ongoing: Some(ongoing) })));
        }
        // The status behind an answer to one question is that all went well.
        None => ongoing.end(Code::Ok),
    }
    Ok(answer)
}

fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get(Status::GRPC_STATUS).map(|status| Code::from_bytes(status.as_bytes()))
}

/// The answers of a stream, with the status behind them.
struct Stream {
    inner: Body,
    ongoing: Option<Ongoing>,
}

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        let ended = match &frame {
            Some(Ok(frame)) => frame.trailers_ref().map(|trailers| code(trailers).unwrap_or(Code::Unknown)),
            Some(Err(_)) => Some(Code::Unknown),
            None => Some(Code::Ok),
        };
        if let Some((code, ongoing)) = ended.zip(self.ongoing.take_if(|_| ended.is_some())) {
            ongoing.end(code);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
