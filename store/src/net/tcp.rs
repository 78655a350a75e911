//! Real sockets. With TLS both ends prove themselves with a certificate of the cluster's CA.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use transport::tls::{AllowedNames, ClientIdentity, ServerTls};

use super::{Connection, Listener, Net};

/// A peer that does not finish its handshake in this time is not there.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Both ends of mutual TLS between members.
#[derive(Clone)]
pub struct PeerTls {
    pub server: ServerTls,
    pub client: ClientIdentity,
    /// Whose certificate a member that is called must show; the server end has its own rule for those who call.
    pub called: Option<AllowedNames>,
}

impl PeerTls {
    /// Refuses a caller without a certificate, or with one that was not made for members.
    fn check_caller(&self, certificates: Option<&[CertificateDer<'_>]>) -> io::Result<()> {
        match certificates {
            Some(certificates) if self.server.admits(certificates) => Ok(()),
            Some(_) => refused("a peer's certificate was not made for members"),
            None => refused("a peer showed no certificate"),
        }
    }

    fn check_called(&self, certificates: Option<&[CertificateDer<'_>]>) -> io::Result<()> {
        let leaf = certificates.and_then(<[_]>::first);
        match (&self.called, leaf) {
            (None, _) => Ok(()),
            (Some(names), Some(leaf)) if names.admit(leaf) => Ok(()),
            (Some(_), _) => refused("a peer's certificate was not made for members"),
        }
    }
}

fn refused(reason: &str) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
}

/// TCP, with TLS when an identity is given.
#[derive(Clone, Default)]
pub struct TcpNet {
    tls: Option<Arc<PeerTls>>,
}

impl TcpNet {
    /// Returns a network that speaks plain text, or TLS with the given identity.
    #[must_use]
    pub fn new(tls: Option<PeerTls>) -> Self {
        Self { tls: tls.map(Arc::new) }
    }
}

struct Accepting {
    listener: TcpListener,
    tls: Option<Arc<PeerTls>>,
}

impl Listener for Accepting {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<BoxFuture<'static, io::Result<Connection>>>> {
        Box::pin(async move {
            let (stream, _) = self.listener.accept().await?;
            let tls = self.tls.clone();
            let finish: BoxFuture<'static, io::Result<Connection>> = Box::pin(async move {
                stream.set_nodelay(true)?;
                let Some(tls) = tls else { return Ok(Connection::new(stream)) };
                let handshake = TlsAcceptor::from(tls.server.config()).accept(stream);
                let stream = in_time(handshake).await?;
                tls.check_caller(stream.get_ref().1.peer_certificates())?;
                Ok(Connection::new(stream))
            });
            Ok(finish)
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Net for TcpNet {
    fn listen(&self, address: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let address = address.to_owned();
        let tls = self.tls.clone();
        Box::pin(async move {
            let listener = TcpListener::bind(&address).await?;
            let accepting: Box<dyn Listener> = Box::new(Accepting { listener, tls });
            Ok(accepting)
        })
    }

    fn connect(&self, address: &str) -> BoxFuture<'static, io::Result<Connection>> {
        let address = address.to_owned();
        let tls = self.tls.clone();
        Box::pin(async move {
            let stream = in_time(TcpStream::connect(&address)).await?;
            stream.set_nodelay(true)?;
            let Some(tls) = tls else { return Ok(Connection::new(stream)) };
            let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
            let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "not a host name"))?;
            let connector = TlsConnector::from(tls.client.config_with_alpn(&[b"h2"]));
            let stream = in_time(connector.connect(name, stream)).await?;
            tls.check_called(stream.get_ref().1.peer_certificates())?;
            Ok(Connection::new(stream))
        })
    }
}

/// Waits for a step of a handshake, but not for ever.
async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(HANDSHAKE_TIMEOUT, work)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use transport::tls::{ClientCertificates, Pem, ServerTlsSource, TlsPolicy};

    use super::*;

    struct Authority(CertifiedIssuer<'static, KeyPair>);

    impl Authority {
        fn new() -> Self {
            transport::install_crypto();
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
        }

        fn net(&self, organization: &str) -> TcpNet {
            let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, "m");
            params.distinguished_name.push(DnType::OrganizationName, organization);
            let key = KeyPair::generate().unwrap();
            let certificate = Pem::from(params.signed_by(&key, &self.0).unwrap().pem());
            let (key, ca) = (Pem::from(key.serialize_pem()), Pem::from(self.0.pem()));
            let client = ClientIdentity::new(ca.clone(), certificate.clone(), key.clone()).unwrap();
            let members = AllowedNames::Organization("members".to_owned());
            let policy = TlsPolicy { allowed: Some(members.clone()), ..TlsPolicy::default() };
            let clients = ClientCertificates::Required(ca);
            let server = ServerTls::new(ServerTlsSource { certificate, key, clients, policy }).unwrap();
            TcpNet::new(Some(PeerTls { server, client, called: Some(members) }))
        }
    }

    /// Lets `caller` send a byte to `called`; both ends must agree to it.
    async fn meet(called: &TcpNet, caller: &TcpNet) -> io::Result<u8> {
        let mut listener = called.listen("127.0.0.1:0").await?;
        let address = listener.local_address()?.to_string();
        let serving = tokio::spawn(async move { listener.accept().await?.await?.read_u8().await });
        let calling = async {
            let mut connection = caller.connect(&address).await?;
            connection.write_u8(7).await?;
            connection.flush().await?;
            Ok(connection)
        };
        let _connection: io::Result<Connection> = calling.await;
        serving.await.unwrap()
    }

    #[tokio::test]
    async fn only_members_of_the_same_authority_and_organization_meet() {
        let (authority, other) = (Authority::new(), Authority::new());
        let member = authority.net("members");
        assert_eq!(meet(&member, &authority.net("members")).await.unwrap(), 7);
        assert!(meet(&member, &authority.net("nodes")).await.is_err(), "made for something else");
        assert!(meet(&authority.net("nodes"), &member).await.is_err(), "an impostor listens");
        assert!(meet(&member, &other.net("members")).await.is_err(), "another authority");
        assert!(meet(&member, &TcpNet::default()).await.is_err(), "plain text");
    }
}
