//! Certificates for servers, users and nodes.

use std::net::IpAddr;

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use super::bundle::{Bundle, PkiError};

/// Clocks of two machines may differ by this much and certificates still work at once.
const BACKDATE_HOURS: i64 = 1;
/// A year; servers and agents renew long before.
const LEAF_DAYS: i64 = 365;

/// Organization of the store members' certificates.
pub const MEMBERS: &str = "keelson:members";

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Issued {
    pub certificate_pem: String,
    pub key_pem: String,
}

/// Names that a server is reached by.
#[derive(Clone, Debug, Default)]
pub struct ServerNames {
    pub dns: Vec<String>,
    pub addresses: Vec<IpAddr>,
}

/// Sets when a certificate is valid: from yesterday's or today's midnight for `days`.
pub(super) fn set_validity(params: &mut CertificateParams, days: i64) {
    let now = jiff::Timestamp::now();
    let midnight = |hours: i64| {
        let date = now.checked_add(jiff::SignedDuration::from_hours(hours)).unwrap_or(now);
        let date = date.to_zoned(jiff::tz::TimeZone::UTC).date();
        let month = u8::try_from(date.month()).expect("a month is 1 to 12");
        let day = u8::try_from(date.day()).expect("a day is 1 to 31");
        rcgen::date_time_ymd(i32::from(date.year()), month, day)
    };
    params.not_before = midnight(-BACKDATE_HOURS);
    params.not_after = midnight(days.saturating_mul(24));
}

impl Bundle {
    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, PkiError> {
        Ok(Issuer::from_ca_cert_pem(&self.ca_certificate_pem, KeyPair::from_pem(&self.ca_key_pem)?)?)
    }

    /// Issues a server's certificate; it also works as client certificate between servers.
    ///
    /// # Errors
    /// When a name is not valid in a certificate.
    pub fn issue_server(&self, common_name: &str, names: &ServerNames) -> Result<Issued, PkiError> {
        self.issue_for_names(common_name, None, names)
    }

    /// Issues the certificate of a store member, which serves and asks the other members. Its organization sets it apart
    /// from everything else that the CA signs.
    ///
    /// # Errors
    /// When a name is not valid in a certificate.
    pub fn issue_member(&self, name: &str, names: &ServerNames) -> Result<Issued, PkiError> {
        self.issue_for_names(name, Some(MEMBERS), names)
    }

    fn issue_for_names(
        &self,
        common_name: &str,
        group: Option<&str>,
        names: &ServerNames,
    ) -> Result<Issued, PkiError> {
        let mut params = CertificateParams::new(names.dns.clone())?;
        params.subject_alt_names.extend(names.addresses.iter().copied().map(SanType::IpAddress));
        params.distinguished_name = subject(common_name, group);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params)
    }

    /// Issues a client certificate: user `common_name` in `group`.
    ///
    /// # Errors
    /// When the crypto library fails.
    pub fn issue_client(&self, common_name: &str, group: Option<&str>) -> Result<Issued, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(common_name, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params)
    }

    fn issue(&self, mut params: CertificateParams) -> Result<Issued, PkiError> {
        set_validity(&mut params, LEAF_DAYS);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer()?)?;
        Ok(Issued { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// Signs a node's request; the subject is decided here, only the public key is taken from the request.
    ///
    /// # Errors
    /// [`PkiError::Request`] when the text is no certificate request.
    pub fn sign_node_request(&self, node: &str, csr_pem: &str) -> Result<String, PkiError> {
        let mut request = CertificateSigningRequestParams::from_pem(csr_pem)
            .map_err(|error| PkiError::Request(error.to_string()))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&format!("system:node:{node}"), Some("system:nodes"));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        set_validity(&mut params, LEAF_DAYS);
        request.params = params;
        Ok(request.signed_by(&self.issuer()?)?.pem())
    }
}

fn subject(common_name: &str, group: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(group) = group {
        name.push(DnType::OrganizationName, group);
    }
    name.push(DnType::CommonName, common_name);
    name
}
