//! Opens the byte stream to an endpoint: TCP, TLS over TCP, or a Unix socket. No proxy, no redirects.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustix::fs::{Mode, OFlags};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::endpoint::{Address, Endpoint};

/// What HTTP, WebSocket and IPC are spoken over.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// A connected byte stream of any kind.
pub(crate) type Stream = Box<dyn ByteStream>;

/// The longest path of a Unix socket, in bytes: `sun_path` has 108, the last of which is 0.
const MAX_SOCKET_PATH: usize = 107;

/// What `localhost` is (RFC 6761 section 6.3).
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Opens the stream to `endpoint`. Has no time limit of its own.
pub(crate) async fn connect(endpoint: &Endpoint) -> io::Result<Stream> {
    match endpoint {
        Endpoint::Ipc(path) => Ok(Box::new(connect_unix(path).await?)),
        Endpoint::Ws(address) | Endpoint::Http(address) => connect_tcp(address).await,
    }
}

async fn connect_tcp(address: &Address) -> io::Result<Stream> {
    let tcp = match address.host() {
        // Known without asking: the system's resolver would need a thread of its own.
        "localhost" => {
            TcpStream::connect(&LOOPBACK.map(|ip| SocketAddr::new(ip, address.port()))[..]).await?
        }
        host => TcpStream::connect((host, address.port())).await?,
    };
    // Small questions and small answers: waiting for more to send would only add delay.
    tcp.set_nodelay(true)?;
    if !address.is_tls() {
        return Ok(Box::new(tcp));
    }
    let name = ServerName::try_from(address.host().to_owned()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(tls_config()?);
    Ok(Box::new(connector.connect(name, tcp).await?))
}

/// Built on first use only: the roots take memory that a supervisor of a local node never needs.
fn tls_config() -> io::Result<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(CONFIG.get_or_init(|| Arc::new(config)).clone())
}

/// A path that is too long for the kernel is reached through a descriptor of its directory.
async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    if path.as_os_str().len() <= MAX_SOCKET_PATH {
        return UnixStream::connect(path).await;
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the path of a socket"));
    };
    let directory =
        rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    UnixStream::connect(short).await
}
