//! A certificate authority of one test, and what it has signed, as files.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use transport::tls::{ClientCertificates, ClientIdentity, Pem, ServerTls, ServerTlsSource, TlsPolicy};

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
        self.write(name, Some(name));
    }

    /// The same for somebody without a common name: he may connect, and is no user.
    pub fn issue_nameless(&self, file: &str) {
        self.write(file, None);
    }

    fn write(&self, file: &str, common_name: Option<&str>) {
        let places = ["127.0.0.1", "localhost"].map(str::to_owned);
        let mut params = CertificateParams::new(places).unwrap();
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        std::fs::write(self.file(&format!("{file}.crt")), certificate.pem()).unwrap();
        std::fs::write(self.file(&format!("{file}.key")), key.serialize_pem()).unwrap();
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
        let clients = ClientCertificates::Optional(Pem::File(self.file("ca.crt")));
        let policy = TlsPolicy::default();
        ServerTls::new(ServerTlsSource { certificate: pem("crt"), key: pem("key"), clients, policy }).unwrap()
    }

    /// Returns a client that shows no certificate.
    pub fn anonymous(&self) -> ClientIdentity {
        ClientIdentity::anonymous(Pem::File(self.file("ca.crt"))).unwrap()
    }
}
