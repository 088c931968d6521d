//! TLS over real sockets, with a client that checks whom it speaks to.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;

use super::{PATIENCE, Reply, Server, connect, exchange, head, post};
use crate::models::{Kind, path};
use crate::program::owlet;

/// Certificates for localhost of an authority of their own, good until 2120; what signed them is not kept.
fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Sends `bytes` over TLS to whoever is `name` at `address`; yields what comes, and the certificate that was shown.
fn ask(address: SocketAddr, name: &str, bytes: &[u8]) -> Result<(Reply, Vec<u8>), String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(data("ca.pem")).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_string()).unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, connect(address));
    stream.write_all(bytes).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    // Whoever ends a connection says so: else anybody could have cut it.
    stream.read_to_end(&mut answer).map_err(|error| error.to_string())?;
    let shown = stream.conn.peer_certificates().unwrap()[0].to_vec();
    Ok((Reply::of(&answer), shown))
}

fn certificate(name: &str) -> Vec<u8> {
    CertificateDer::from_pem_file(data(name)).unwrap().to_vec()
}

#[test]
fn answers_are_encrypted_for_who_asks_by_tls() {
    let (cert, key) = (data("server.pem"), data("server.key"));
    let flags = ["--tls-cert", text(&cert), "--tls-key", text(&key), "--peer-timeout", "2"];
    let server = Server::start_on(&path(Kind::Story), &flags);
    let body = json!({"messages": [{"role": "user", "content": "What?"}]});
    for name in ["localhost", "127.0.0.1"] {
        let (reply, shown) =
            ask(server.address, name, &post("/v1/chat/completions", &body.to_string(), &[])).unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.json()["choices"][0]["message"]["content"], crate::models::STORY);
        assert_eq!(shown, certificate("server.pem"));
    }
    let streamed = json!({"messages": body["messages"], "stream": true});
    let (reply, _) =
        ask(server.address, "localhost", &post("/v1/chat/completions", &streamed.to_string(), &[])).unwrap();
    assert!(reply.body.ends_with("data: [DONE]\n\n"), "{reply:?}");
    assert!(ask(server.address, "example.org", b"").is_err(), "a name that is not in the certificate");
    // Whoever speaks otherwise, or does not speak, is not answered and holds nothing for long.
    assert_eq!(exchange(server.address, &head("GET", "/livez", &[], None)).status, 0);
    let mut silent: TcpStream = connect(server.address);
    let started = Instant::now();
    assert_eq!(silent.read(&mut [0; 1]).unwrap_or(0), 0);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert_eq!(ask(server.address, "localhost", &head("GET", "/livez", &[], None)).unwrap().0.status, 200);
}

#[cfg(unix)]
#[test]
fn a_new_certificate_is_taken_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let put = |name: &str| {
        fs::copy(data(&format!("{name}.pem")), &cert).unwrap();
        fs::copy(data(&format!("{name}.key")), &key).unwrap();
    };
    put("server");
    let server = Server::start_on(&path(Kind::Story), &["--tls-cert", text(&cert), "--tls-key", text(&key)]);
    let live = head("GET", "/livez", &[], None);
    let shown = || ask(server.address, "localhost", &live).unwrap().1;
    assert_eq!(shown(), certificate("server.pem"));
    put("other");
    assert_eq!(shown(), certificate("server.pem"), "not told yet");
    let hang_up = |word: &str| {
        server.signal("-HUP");
        let started = Instant::now();
        while !server.log().contains(word) {
            assert!(started.elapsed() < PATIENCE, "{}", server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    hang_up("read again");
    assert_eq!(shown(), certificate("other.pem"));
    // With something that is none, all stays as it was.
    fs::write(&cert, "rubbish").unwrap();
    hang_up("as it was");
    assert!(server.log().contains("expected certificates in PEM, found none"), "{}", server.log());
    assert_eq!(shown(), certificate("other.pem"));
}

#[test]
fn what_is_wrong_with_certificate_and_key_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken.pem");
    fs::write(&broken, "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n").unwrap();
    let no_certificate = dir.path().join("none.pem");
    fs::write(&no_certificate, "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n").unwrap();
    let (cert, key, other) = (data("server.pem"), data("server.key"), data("other.key"));
    let gone = dir.path().join("gone.pem");
    for (cert, key, of, problem) in [
        (&gone, &key, &gone, "No such file or directory (os error 2)".to_string()),
        (&cert, &gone, &gone, "No such file or directory (os error 2)".to_string()),
        (&key, &key, &key, "expected certificates in PEM, found none".to_string()),
        (&cert, &cert, &cert, "expected a private key in PEM, found none".to_string()),
        (&broken, &key, &broken, "expected certificates in PEM: ".to_string()),
        (&no_certificate, &key, &no_certificate, "expected a certificate, found something else".to_string()),
        (&cert, &other, &other, format!("not the key of the certificate in {}", cert.display())),
    ] {
        let model = path(Kind::Story);
        let flags = ["--tls-cert", text(cert), "--tls-key", text(key)];
        let ran = owlet(&[&["serve", "-m", text(&model), "--port", "0"], &flags[..]].concat());
        assert_eq!(ran.code, Some(1), "{}", ran.err);
        let expected = format!("owlet: {}: {problem}", of.display());
        assert!(ran.err.starts_with(&expected) && ran.err.lines().count() == 1, "{expected}: {}", ran.err);
    }
    let ran = owlet(&["serve", "--tls-cert", text(&cert)]);
    assert_eq!(ran.code, Some(2));
    // Clients that look at the date will not come; the others are served.
    let expired = data("expired.pem");
    let flags = ["--tls-cert", text(&expired), "--tls-key", text(&key)];
    let server = Server::start_on(&path(Kind::Story), &flags);
    let warning = format!("{}: the certificate has expired on 2001-01-01", expired.display());
    assert!(server.log().contains(&warning), "{}", server.log());
    let refused = ask(server.address, "localhost", &head("GET", "/livez", &[], None)).unwrap_err();
    assert!(refused.contains("expired"), "{refused}");
    // A certificate is no key: who may ask is another question.
    let ran = owlet(&[&["serve", "--host", "0.0.0.0"], &flags[..]].concat());
    assert!(ran.code == Some(2) && ran.err.contains("could ask without a key"), "{}", ran.err);
}
