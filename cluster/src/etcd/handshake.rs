//! A TLS handshake made to learn why connections break.
//!
//! With TLS 1.3 a client has done its part before the server has looked at its certificate. What the server says of it then
//! meets a connection that already carries a request, and is lost more often than not. So where connections break without a
//! word, one is made that carries nothing, and listens.

use std::io::{ErrorKind, Read as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, StreamOwned, WantsVerifier};
use twill_conf::node::TlsFiles;

/// For each step: to connect, and each word of the server's.
const PATIENCE: Duration = Duration::from_millis(700);

/// Why TLS with `url` does not come to be; `None` where it does, or where that cannot be told.
pub(super) async fn refusal(url: String, files: TlsFiles) -> Option<rustls::Error> {
    tokio::task::spawn_blocking(move || shake_hands(&url, config(&files)?)).await.ok().flatten()
}

/// Whether a server that was spoken to in clear would rather have TLS: it shows a certificate.
pub(super) async fn is_secure(url: String) -> bool {
    let looked = tokio::task::spawn_blocking(move || {
        let config = builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        shake_hands(&url, config)
    });
    matches!(looked.await, Ok(Some(rustls::Error::InvalidCertificate(_))))
}

fn shake_hands(url: &str, config: ClientConfig) -> Option<rustls::Error> {
    let (_, authority) = url.trim_end_matches('/').split_once("://")?;
    let (host, port) = authority.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let address = (host.as_str(), port.parse().ok()?).to_socket_addrs().ok()?.next()?;
    let stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from(host).ok()?).ok()?;
    let mut stream = StreamOwned::new(connection, stream);
    // A server that is content waits for us to speak.
    match stream.read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()).cloned()
        }
        _ => None,
    }
}

fn builder() -> Option<ConfigBuilder<ClientConfig, WantsVerifier>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()
}

fn config(files: &TlsFiles) -> Option<ClientConfig> {
    let read = |path| CertificateDer::pem_file_iter(path).ok()?.collect::<Result<Vec<_>, _>>().ok();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(read(&files.ca)?);
    let builder = builder()?.with_root_certificates(roots);
    let mut config = match &files.identity {
        Some(identity) => {
            let key = PrivateKeyDer::from_pem_file(&identity.key).ok()?;
            builder.with_client_auth_cert(read(&identity.cert)?, key).ok()?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Some(config)
}
