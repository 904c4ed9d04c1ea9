//! The endpoints: HTTP, WebSocket and the IPC socket.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use std::{fs, io};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream, UnixListener};

use crate::faults::Faults;
use crate::node::Node;
use crate::rpc::{Reply, Served, Session, respond};
use crate::session::{Wire, converse};

/// The most bytes of a request (geth: 5 MB).
const BODY_LIMIT: usize = 5 * 1024 * 1024;
/// The most bytes of a Unix socket's path.
const SOCKET_PATH_LIMIT: usize = 107;
/// geth's ports.
const HTTP_PORT: u16 = 8545;
const WS_PORT: u16 = 8546;
/// How long until a port that was given back is tried again.
const REBIND: Duration = Duration::from_millis(20);

/// Where the node listens: `D/testnode/ports.json`. An endpoint that is not open is `null`.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Ports {
    /// `IP:port` of HTTP.
    pub(crate) http: Option<SocketAddr>,
    /// `IP:port` of WebSocket.
    pub(crate) ws: Option<SocketAddr>,
    /// The IPC socket, absolute.
    pub(crate) ipc: Option<PathBuf>,
    /// `IP:port` of the control port.
    pub(crate) control: Option<SocketAddr>,
    /// The process.
    pub(crate) pid: u32,
}

/// An endpoint that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("Error starting protocol stack: listen {what}: {source}")]
pub(crate) struct ListenError {
    what: String,
    source: io::Error,
}

/// Listens on a TCP port.
pub(crate) async fn listen(address: &str, port: u16) -> Result<TcpListener, ListenError> {
    TcpListener::bind((address, port))
        .await
        .map_err(|source| ListenError { what: format!("tcp {address}:{port}"), source })
}

/// Opens all endpoints and begins to serve them. The control port stays as `ports` has it.
pub(crate) async fn open(node: &Rc<Node>, mut ports: Ports) -> Result<Ports, ListenError> {
    let at = &node.flags.endpoints;
    if at.http || at.http_port.is_some() {
        let listener = listen(&at.http_addr, at.http_port.unwrap_or(HTTP_PORT)).await?;
        ports.http = listener.local_addr().ok();
        let served = Served::list(&at.http_api);
        let node = Rc::clone(node);
        let serve = {
            let node = Rc::clone(&node);
            move |stream| serve_http(Rc::clone(&node), served.clone(), stream)
        };
        tokio::task::spawn_local(port(node, listener, |faults| faults.http_refuse, serve));
    }
    if at.ws || at.ws_port.is_some() {
        let listener = listen(&at.ws_addr, at.ws_port.unwrap_or(WS_PORT)).await?;
        ports.ws = listener.local_addr().ok();
        let served = Served::list(&at.ws_api);
        let node = Rc::clone(node);
        let serve = {
            let node = Rc::clone(&node);
            move |stream| serve_ws(Rc::clone(&node), served.clone(), stream)
        };
        tokio::task::spawn_local(port(node, listener, |faults| faults.ws_refuse, serve));
    }
    if !at.ipcdisable {
        let (listener, path) = listen_ipc(node)?;
        ports.ipc = Some(path);
        tokio::task::spawn_local(ipc(Rc::clone(node), listener));
    }
    Ok(ports)
}

/// Closes what is open; connections end by themselves when the node stops.
pub(crate) async fn close(node: &Node) {
    node.store.remove_ports();
    if !node.flags.endpoints.ipcdisable {
        let _ = fs::remove_file(ipc_path(node));
    }
    // Lets the tasks that hold listeners and connections see that the node stops.
    tokio::task::yield_now().await;
}

/// Accepts connections until the node stops; closes the port while the fault says so.
async fn port<F: Future<Output = ()> + 'static>(
    node: Rc<Node>,
    listener: TcpListener,
    refuses: fn(&Faults) -> bool,
    serve: impl Fn(TcpStream) -> F,
) {
    let Ok(address) = listener.local_addr() else { return };
    let mut listener = Some(listener);
    let mut changes = node.changes();
    loop {
        if refuses(&node.faults()) {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(address).await.ok();
        }
        let retry = (listener.is_none() && !refuses(&node.faults())).then_some(REBIND);
        tokio::select! {
            () = node.stopping.cancelled() => return,
            _ = changes.changed() => {}
            () = crate::node::sleep(retry) => {}
            stream = accept(listener.as_ref()) => {
                if let Ok((stream, _)) = stream {
                    let _ = stream.set_nodelay(true);
                    let (talk, node) = (serve(stream), Rc::clone(&node));
                    tokio::task::spawn_local(async move {
                        tokio::select! {
                            () = talk => {}
                            () = node.stopping.cancelled() => {}
                            () = until(&node, refuses) => {}
                        }
                    });
                }
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn until(node: &Node, refuses: fn(&Faults) -> bool) {
    let mut changes = node.changes();
    while !refuses(&node.faults()) {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Serves one connection of HTTP.
async fn serve_http(node: Rc<Node>, served: Served, stream: TcpStream) {
    let service = service_fn(move |request| {
        let (node, served) = (Rc::clone(&node), served.clone());
        async move { Ok::<_, Infallible>(http(&node, served, request).await) }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn http(node: &Node, served: Served, request: Request<Incoming>) -> Response<Full<Bytes>> {
    match *request.method() {
        Method::POST => {}
        Method::GET => return response(StatusCode::OK, "text/plain", String::new()),
        _ => {
            return response(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "method not allowed\n".to_owned());
        }
    }
    let Ok(body) = Limited::new(request.into_body(), BODY_LIMIT).collect().await else {
        return response(
            StatusCode::PAYLOAD_TOO_LARGE,
            "text/plain",
            "content length too large\n".to_owned(),
        );
    };
    let mut session = Session { served, subscriptions: None };
    match respond(node, &mut session, &body.to_bytes()).await {
        Reply::Json(text) => response(StatusCode::OK, "application/json", text),
        Reply::Html(text) => response(StatusCode::OK, "text/html", text),
        Reply::Nothing => response(StatusCode::OK, "application/json", String::new()),
    }
}

/// A response with a body of text.
pub(crate) fn response(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

async fn serve_ws(node: Rc<Node>, served: Served, stream: TcpStream) {
    if let Ok(stream) = tokio_tungstenite::accept_async(stream).await {
        converse(&node, served, Wire::WebSocket(Box::new(stream))).await;
    }
}

fn ipc_path(node: &Node) -> PathBuf {
    node.flags.network.datadir.join(&node.flags.endpoints.ipcpath)
}

fn listen_ipc(node: &Node) -> Result<(UnixListener, PathBuf), ListenError> {
    let path = ipc_path(node);
    let failed = |source| ListenError { what: format!("unix {}", path.display()), source };
    if path.as_os_str().len() > SOCKET_PATH_LIMIT {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "path longer than 107 bytes")));
    }
    // A killed node leaves its socket behind; the lock of the data directory says that nobody listens there.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    Ok((listener, std::path::absolute(&path).unwrap_or(path)))
}

async fn ipc(node: Rc<Node>, listener: UnixListener) {
    loop {
        tokio::select! {
            () = node.stopping.cancelled() => return,
            stream = listener.accept() => {
                if let Ok((stream, _)) = stream {
                    let node = Rc::clone(&node);
                    tokio::task::spawn_local(async move {
                        tokio::select! {
                            () = converse(&node, Served::All, Wire::Ipc(stream, Vec::new())) => {}
                            () = node.stopping.cancelled() => {}
                        }
                    });
                }
            }
        }
    }
}
