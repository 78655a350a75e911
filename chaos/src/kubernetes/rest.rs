//! Plain HTTP: one request, one answer, on connections that one client keeps for itself.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{CALL_TIMEOUT, Dial};
use crate::etcd::Failure;

/// A request as it is sent.
pub(super) struct Sent {
    pub method: Method,
    pub path: String,
    /// JSON.
    pub body: String,
    pub content_type: &'static str,
}

impl Sent {
    pub(super) fn get(path: String) -> Self {
        Self { method: Method::GET, path, body: String::new(), content_type: "application/json" }
    }
}

/// A client of one server.
pub(super) struct Rest {
    /// `host:port`.
    address: String,
    dial: Arc<dyn Dial>,
    /// Connections that wait for their next request.
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    /// What drives the connections.
    drivers: Mutex<JoinSet<()>>,
}

impl Rest {
    pub(super) fn new(address: &str, dial: Arc<dyn Dial>) -> Self {
        Self {
            address: address.to_owned(),
            dial,
            idle: Mutex::new(Vec::new()),
            drivers: Mutex::new(JoinSet::new()),
        }
    }

    /// Sends a request; returns the status and the whole body.
    ///
    /// # Errors
    /// [`Failure`] says whether the server may have got it.
    pub(super) async fn ask(&self, sent: Sent) -> Result<(StatusCode, Bytes), Failure> {
        let mut connection = self.connection().await?;
        let exchange = async {
            let (status, body) = respond(&mut connection, self.request(sent)?).await?;
            let body = body.collect().await.map_err(|error| unknown(&error))?.to_bytes();
            Ok((status, body))
        };
        let answer =
            timeout(CALL_TIMEOUT, exchange).await.map_err(|_| Failure::Unknown("no answer".to_owned()))?;
        if answer.is_ok() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        answer
    }

    /// Sends a request whose answer does not end by itself, on a connection of its own.
    ///
    /// # Errors
    /// As [`Rest::ask`].
    pub(super) async fn stream(&self, path: String) -> Result<(StatusCode, Incoming), Failure> {
        let mut connection = self.connect().await?;
        let exchange = async { respond(&mut connection, self.request(Sent::get(path))?).await };
        timeout(CALL_TIMEOUT, exchange).await.map_err(|_| Failure::Unknown("no answer".to_owned()))?
    }

    fn request(&self, sent: Sent) -> Result<Request<Full<Bytes>>, Failure> {
        let request = Request::builder()
            .method(sent.method)
            .uri(sent.path)
            .header("host", &self.address)
            .header("content-type", sent.content_type)
            .header("accept", "application/json")
            .body(Full::from(sent.body));
        request.map_err(|error| Failure::NotApplied(error.to_string()))
    }

    async fn connection(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match idle {
                Some(connection) if connection.is_closed() => {}
                Some(connection) => return Ok(connection),
                None => return self.connect().await,
            }
        }
    }

    /// Nothing has been sent when this fails.
    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let refused = |error: &dyn std::fmt::Display| Failure::NotApplied(format!("no connection: {error}"));
        let connecting = async {
            let stream = self.dial.dial().await.map_err(|error| refused(&error))?;
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| refused(&error))
        };
        let (sender, connection) =
            timeout(CALL_TIMEOUT, connecting).await.map_err(|_| refused(&"it takes too long"))??;
        let mut drivers = self.drivers.lock().unwrap_or_else(PoisonError::into_inner);
        while drivers.try_join_next().is_some() {}
        drivers.spawn(async move {
            // Whoever waits for an answer hears how it ended.
            let _told = connection.await;
        });
        Ok(sender)
    }
}

async fn respond(
    connection: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Incoming), Failure> {
    let response: Response<Incoming> =
        connection.send_request(request).await.map_err(|error| unknown(&error))?;
    Ok((response.status(), response.into_body()))
}

fn unknown(error: &dyn std::fmt::Display) -> Failure {
    Failure::Unknown(error.to_string())
}
