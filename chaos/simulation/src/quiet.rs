//! Connections that are given up when nothing comes over them for long.
//!
//! Messages that the simulated network loses are not sent again, so the stream behind one stands still for good. HTTP/2 finds that out by
//! its pings; over HTTP/1.1 nobody asks, and a real machine's kernel would have mended the stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A connection that is read until it is quiet.
pub(crate) struct Impatient<S> {
    stream: S,
    patience: Duration,
    ends: Pin<Box<Sleep>>,
}

impl<S> Impatient<S> {
    pub(crate) fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, ends: Box::pin(sleep(patience)) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, patience, ends } = &mut *self;
        if let Poll::Ready(read) = Pin::new(stream).poll_read(context, buffer) {
            ends.as_mut().reset(Instant::now() + *patience);
            return Poll::Ready(read);
        }
        ends.as_mut().poll(context).map(|()| Err(io::Error::from(io::ErrorKind::TimedOut)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_given_up_when_it_is_quiet_and_not_before() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = Impatient::new(near, Duration::from_secs(5));
        for _ in 0..3 {
            sleep(Duration::from_secs(4)).await;
            far.write_u8(7).await.unwrap();
            assert_eq!(near.read_u8().await.unwrap(), 7);
        }
        let began = Instant::now();
        assert_eq!(near.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), 5);
    }
}
