use std::{ops::Range, path::PathBuf, sync::Arc};

use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ConfigBuilder, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{PrivateKeyDer, pem::PemObject},
        server::{ResolvesServerCertUsingSni, WantsServerCert},
        sign::CertifiedKey,
    },
};

/// A certificate authority that nobody knows until a host is told with `extra_ca`.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

impl Authority {
    /// A new one.
    #[expect(clippy::new_without_default, reason = "each is another authority")]
    pub fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, dir }
    }

    /// Its certificate as a PEM file, for `REVNOXA_EXTRA_CA`.
    pub fn pem_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// TLS for a server of these names, HTTP/1.1 only.
    pub fn acceptor(&self, names: &[&str]) -> TlsAcceptor {
        self.acceptor_speaking(b"http/1.1", names)
    }

    /// TLS for a server of these names that speaks this protocol (ALPN, RFC 7301).
    pub fn acceptor_speaking(&self, protocol: &[u8], names: &[&str]) -> TlsAcceptor {
        let (key, certificate) = self.issue(&params(names));
        acceptor(always(&key, &certificate), protocol)
    }

    /// TLS for a server of these names with a certificate that is good from the first day of a year to that of another.
    pub fn acceptor_valid_in(&self, years: Range<i32>, names: &[&str]) -> TlsAcceptor {
        let mut params = params(names);
        params.not_before = date_time_ymd(years.start, 1, 1);
        params.not_after = date_time_ymd(years.end, 1, 1);
        let (key, certificate) = self.issue(&params);
        acceptor(always(&key, &certificate), b"http/1.1")
    }

    /// TLS for a server of this name that has no certificate for whoever does not ask for it by name (SNI, RFC 6066 §3).
    pub fn acceptor_by_name(&self, name: &str) -> TlsAcceptor {
        let (key, certificate) = self.issue(&params(&[name]));
        let chain = vec![certificate.der().clone()];
        let certified = CertifiedKey::from_der(chain, private(&key), &aws_lc_rs::default_provider()).unwrap();
        let mut by_name = ResolvesServerCertUsingSni::new();
        by_name.add(name, certified).unwrap();
        acceptor(server().with_cert_resolver(Arc::new(by_name)), b"http/1.1")
    }

    /// TLS for a server of these names that vouches for itself.
    pub fn self_signed(names: &[&str]) -> TlsAcceptor {
        let mut params = params(names);
        // By its usual name it would be taken for one that an authority of this file has signed.
        params.distinguished_name.push(DnType::CommonName, "itself");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        acceptor(always(&key, &certificate), b"http/1.1")
    }

    fn issue(&self, params: &CertificateParams) -> (KeyPair, Certificate) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (key, certificate)
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
    CertificateParams::new(names).unwrap()
}

fn server() -> ConfigBuilder<ServerConfig, WantsServerCert> {
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
}

/// Shows this certificate to everybody.
fn always(key: &KeyPair, certificate: &Certificate) -> ServerConfig {
    server().with_single_cert(vec![certificate.der().clone()], private(key)).unwrap()
}

fn private(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap()
}

fn acceptor(mut config: ServerConfig, protocol: &[u8]) -> TlsAcceptor {
    config.alpn_protocols = vec![protocol.to_vec()];
    TlsAcceptor::from(Arc::new(config))
}
