//! TLS: a certificate and its key from PEM files, read when the server starts and again when it is told to. What is wrong with them is
//! said in one line; a server that is running keeps what it had.

use super::validity::{self, Validity};
use super::{log, time};
use crate::error::{Error, Result};
use serde_json::json;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{InconsistentKeys, ServerConfig};

/// Who the server is to clients that connect by TLS.
#[derive(Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// With the chain of certificates in the file `certificate`, the server's own first, and the key in the file `key`.
    ///
    /// # Errors
    /// `Io`; `Format` where a file holds something else, or the two do not belong together.
    pub fn read(certificate: PathBuf, key: PathBuf) -> Result<Tls> {
        let config = RwLock::new(Arc::new(config(&certificate, &key)?));
        Ok(Tls { certificate, key, config })
    }

    /// Reads both files again; connections that there are stay as they are.
    ///
    /// # Errors
    /// As [`Tls::read`]; nothing changes then.
    pub fn read_again(&self) -> Result<()> {
        let new = Arc::new(config(&self.certificate, &self.key)?);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// For a connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

fn config(certificate: &PathBuf, key: &PathBuf) -> Result<ServerConfig> {
    let wrong = |path: &PathBuf, problem: &str| Error::format(path.display(), problem);
    let refused = |path: &PathBuf, what: &str, error: pem::Error| match error {
        pem::Error::Io(cause) => Error::io(path, cause),
        pem::Error::NoItemsFound => wrong(path, &format!("expected {what} in PEM, found none")),
        error => wrong(path, &format!("expected {what} in PEM: {error}")),
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|error| refused(certificate, "certificates", error))?;
    let Some(own) = chain.first() else {
        return Err(wrong(certificate, "expected certificates in PEM, found none"));
    };
    let validity = Validity::of(own)
        .ok_or_else(|| wrong(certificate, "expected a certificate, found something else"))?;
    if let Some(problem) = validity.problem(&validity::digits(&time::rfc3339(time::now_s()))) {
        log::write(
            "warning",
            json!({"text": format!("{}: the certificate {problem}", certificate.display())}),
        );
    }
    let own_key = PrivateKeyDer::from_pem_file(key).map_err(|error| refused(key, "a private key", error))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Backend(format!("TLS: {error}")))?;
    let config = builder.with_no_client_auth().with_single_cert(chain, own_key);
    let mut config = config.map_err(|error| match error {
        tokio_rustls::rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            wrong(key, &format!("not the key of the certificate in {}", certificate.display()))
        }
        error => wrong(key, &format!("certificate and key cannot be used: {error}")),
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
