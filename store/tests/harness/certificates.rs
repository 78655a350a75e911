//! A certificate authority of one test, and what it has signed, as files.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use transport::tls::{ClientIdentity, Pem, ServerTls, ServerTlsSource};

pub struct Certificates {
    directory: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    pub fn new() -> Self {
        transport::install_crypto();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.crt"), authority.pem()).unwrap();
        Self { directory, authority }
    }

    /// Writes `<name>.crt` and `<name>.key` of whoever is called so, good for either end of a connection on this machine.
    pub fn issue(&self, name: &str) {
        let places = ["127.0.0.1", "localhost"].map(str::to_owned);
        let mut params = CertificateParams::new(places).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        std::fs::write(self.file(&format!("{name}.crt")), certificate.pem()).unwrap();
        std::fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap()
    }

    /// Returns what a server shows that was issued a certificate; it knows clients by those of the same authority.
    pub fn server(&self, name: &str) -> ServerTls {
        let pem = |end: &str| Pem::File(self.file(&format!("{name}.{end}")));
        let client_ca = Some(Pem::File(self.file("ca.crt")));
        ServerTls::new(ServerTlsSource { certificate: pem("crt"), key: pem("key"), client_ca }).unwrap()
    }

    /// Returns a client that shows no certificate.
    pub fn anonymous(&self) -> ClientIdentity {
        ClientIdentity::anonymous(Pem::File(self.file("ca.crt"))).unwrap()
    }
}
