//! Where a node answers: a Unix socket, a WebSocket or an HTTP address.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use hyper::Uri;

use crate::base64;

/// Where a node answers JSON-RPC. Read from text: `ipc:/path`, `/abs/path` or anything ending in `.ipc`;
/// `ws://`, `wss://`, `http://`, `https://`. Written without the credentials it may carry.
#[derive(Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix socket. Its path may be longer than the 107 bytes that the kernel takes.
    Ipc(PathBuf),
    /// A WebSocket.
    Ws(Address),
    /// HTTP/1.1 with connections kept alive.
    Http(Address),
}

/// The address of a WebSocket or HTTP endpoint.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    tls: bool,
    host: String,
    port: u16,
    path: String,
    authorization: Option<String>,
}

/// A text that names no endpoint. The text itself is not repeated: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEndpoint {
    /// None of the known beginnings.
    #[error(
        "an endpoint is ipc:/path, /path, a name ending in .ipc, or a ws://, wss://, http:// or https:// address"
    )]
    UnknownKind,
    /// `ipc:` with nothing behind it.
    #[error("ipc: must be followed by the path of the socket")]
    EmptyPath,
    /// Not an address.
    #[error("not an address that can be called")]
    BadAddress,
    /// The port is 0, too large or not a number.
    #[error("the port of an address must be 1–65535")]
    BadPort,
}

impl Endpoint {
    /// Whether the node is on this machine: a Unix socket, or a loopback address.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Ipc(_) => true,
            Self::Ws(address) | Self::Http(address) => {
                address.host == "localhost" || address.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
            }
        }
    }
}

impl Address {
    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Name or IP address, without the brackets of IPv6.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, the scheme's own where none was given.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query; at least `/`.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Host and port as in a `Host` header.
    pub(crate) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// The value of the `Authorization` header, where the address had a user name or password.
    pub(crate) fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    fn parse(text: &str, tls: bool) -> Result<Self, BadEndpoint> {
        let uri: Uri = text.parse().map_err(|_| BadEndpoint::BadAddress)?;
        let authority = uri.authority().ok_or(BadEndpoint::BadAddress)?;
        let (credentials, place) = match authority.as_str().rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials), place),
            None => (None, authority.as_str()),
        };
        let host = authority.host();
        let port = match place.strip_prefix(host).ok_or(BadEndpoint::BadAddress)? {
            "" => {
                if tls {
                    443
                } else {
                    80
                }
            }
            rest => rest.strip_prefix(':').and_then(port_number).ok_or(BadEndpoint::BadPort)?,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(BadEndpoint::BadAddress);
        }
        Ok(Self {
            tls,
            host: host.to_owned(),
            port,
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            authorization: credentials.map(basic_authorization).transpose()?,
        })
    }
}

fn port_number(digits: &str) -> Option<u16> {
    digits.parse().ok().filter(|port| *port != 0 && !digits.starts_with('+'))
}

/// The header for `user:password`, both percent-decoded first.
fn basic_authorization(credentials: &str) -> Result<String, BadEndpoint> {
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let mut plain = percent_decoded(user)?;
    plain.push(b':');
    plain.extend(percent_decoded(password)?);
    Ok(format!("Basic {}", base64::encode(&plain)))
}

fn percent_decoded(text: &str) -> Result<Vec<u8>, BadEndpoint> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|c| (c as char).to_digit(16)).ok_or(BadEndpoint::BadAddress);
        bytes.push((digit()? << 4 | digit()?) as u8);
    }
    Ok(bytes)
}

impl FromStr for Endpoint {
    type Err = BadEndpoint;

    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        let text = text.trim();
        if let Some(path) = text.strip_prefix("ipc:") {
            return match path.strip_prefix("//").unwrap_or(path) {
                "" => Err(BadEndpoint::EmptyPath),
                path => Ok(Self::Ipc(path.into())),
            };
        }
        let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        match scheme.as_deref() {
            Some("ws") => Address::parse(text, false).map(Self::Ws),
            Some("wss") => Address::parse(text, true).map(Self::Ws),
            Some("http") => Address::parse(text, false).map(Self::Http),
            Some("https") => Address::parse(text, true).map(Self::Http),
            None if text.starts_with('/') || text.ends_with(".ipc") => Ok(Self::Ipc(text.into())),
            _ => Err(BadEndpoint::UnknownKind),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (plain, secure, address) = match self {
            Self::Ipc(path) => return write!(f, "ipc:{}", path.display()),
            Self::Ws(address) => ("ws", "wss", address),
            Self::Http(address) => ("http", "https", address),
        };
        write!(f, "{}://{}", if address.tls { secure } else { plain }, address.authority())?;
        if address.path == "/" { Ok(()) } else { f.write_str(&address.path) }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_and_written() {
        for (text, written) in [
            ("ipc:/data/gwemix.ipc", "ipc:/data/gwemix.ipc"),
            ("ipc:///data/gwemix.ipc", "ipc:/data/gwemix.ipc"),
            ("/data/geth/socket", "ipc:/data/geth/socket"),
            ("data/geth.ipc", "ipc:data/geth.ipc"),
            ("ws://127.0.0.1:8598", "ws://127.0.0.1:8598"),
            ("WSS://node.example/v1?key=1", "wss://node.example:443/v1?key=1"),
            ("http://localhost", "http://localhost:80"),
            ("https://[::1]:8545/", "https://[::1]:8545"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), written);
            assert_eq!(written.parse::<Endpoint>(), Ok(endpoint));
        }
    }

    #[test]
    fn what_names_no_endpoint_is_refused() {
        for (text, error) in [
            ("", BadEndpoint::UnknownKind),
            ("localhost:8545", BadEndpoint::UnknownKind),
            ("ftp://x", BadEndpoint::UnknownKind),
            ("ipc:", BadEndpoint::EmptyPath),
            ("http://", BadEndpoint::BadAddress),
            ("http://:8545", BadEndpoint::BadAddress),
            ("http://a b", BadEndpoint::BadAddress),
            ("http://u%zz@host", BadEndpoint::BadAddress),
            ("http://host:0", BadEndpoint::BadPort),
            ("http://host:65536", BadEndpoint::BadPort),
            ("http://host:", BadEndpoint::BadPort),
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(error), "{text}");
        }
    }

    #[test]
    fn credentials_become_a_header_and_are_never_shown() {
        let endpoint: Endpoint = "http://alice:s%3Acret@host:1/x".parse().unwrap();
        let Endpoint::Http(address) = &endpoint else { panic!("{endpoint}") };
        assert_eq!(address.authorization(), Some("Basic YWxpY2U6czpjcmV0"));
        assert_eq!(endpoint.to_string(), "http://host:1/x");
        assert_eq!(format!("{endpoint:?} {address:?}"), "http://host:1/x host:1/x");
    }

    #[test]
    fn local_is_this_machine_only() {
        for text in ["/a.ipc", "http://localhost:1", "ws://127.0.0.2:1", "http://[::1]:1"] {
            assert!(text.parse::<Endpoint>().unwrap().is_local(), "{text}");
        }
        for text in ["http://10.0.0.1", "wss://node.example", "http://0.0.0.0:1", "http://127.0.0.1.example"]
        {
            assert!(!text.parse::<Endpoint>().unwrap().is_local(), "{text}");
        }
    }
}
