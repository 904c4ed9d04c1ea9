//! The control port: JSON over HTTP, for the one who directs the play.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::death::{End, end};
use crate::node::Node;
use crate::noise;
use crate::serve::response;

/// The most bytes of an order.
const ORDER_LIMIT: usize = 1024 * 1024;
/// How long the end that was ordered waits, so that its order can be answered.
const ANSWER_FIRST: Duration = Duration::from_millis(5);

/// Serves the port as long as the process lives, also while the node stops.
pub(crate) async fn serve(node: Rc<Node>, listener: TcpListener) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::task::spawn_local(connection(Rc::clone(&node), stream));
        }
    }
}

async fn connection(node: Rc<Node>, stream: TcpStream) {
    let service = service_fn(move |request| {
        let node = Rc::clone(&node);
        async move { Ok::<_, Infallible>(answer(node, request).await) }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(node: Rc<Node>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let body = Limited::new(request.into_body(), ORDER_LIMIT).collect().await.map(|body| body.to_bytes());
    let order = match body {
        Ok(body) if body.is_empty() => Value::Null,
        Ok(body) => serde_json::from_slice(&body).unwrap_or_default(),
        Err(_) => Value::Null,
    };
    let result = match (method, path.as_str()) {
        (Method::GET, "/state") => Ok(()),
        (Method::POST, path) => obey(&node, path, &order),
        _ => Err("GET /state, POST /set, /mine, /set-head, /reorg, /exit".to_owned()),
    };
    let (status, answer) = match result {
        Ok(()) => (StatusCode::OK, node.state()),
        Err(error) => (StatusCode::BAD_REQUEST, json!({"error": error})),
    };
    response(status, "application/json", answer.to_string())
}

fn obey(node: &Rc<Node>, path: &str, order: &Value) -> Result<(), String> {
    let number = |name: &str| order.get(name).and_then(Value::as_u64);
    let needed =
        |name: &str| number(name).ok_or_else(|| format!("{name:?} is missing or not a number: {order}"));
    match path {
        "/set" => {
            let faults = node.faults().with(order).map_err(|error| error.to_string())?;
            noise::burst(number("log-burst"), number("log-long-line"));
            node.set_faults(faults);
        }
        "/mine" => {
            let blocks = number("blocks").unwrap_or(1);
            node.order(|chain, forks, now| chain.burst(blocks, now, forks));
        }
        "/set-head" => {
            let height = needed("height")?;
            node.order(|chain, forks, now| {
                if height > chain.head {
                    chain.burst(height - chain.head, now, forks);
                } else {
                    chain.rewind(height);
                }
            });
        }
        "/reorg" => {
            let depth = needed("depth")?;
            node.order(|chain, _, _| chain.reorganise(depth));
        }
        "/exit" => {
            let how = match (number("code"), number("signal")) {
                (Some(code), None) => End::Exit(u8::try_from(code).map_err(|error| error.to_string())?),
                (None, Some(signal)) => {
                    End::Signal(i32::try_from(signal).map_err(|error| error.to_string())?)
                }
                _ => return Err("{\"code\": n} or {\"signal\": n}".to_owned()),
            };
            let node = Rc::clone(node);
            tokio::task::spawn_local(async move {
                tokio::time::sleep(ANSWER_FIRST).await;
                end(&node, how)
            });
        }
        _ => return Err(format!("no such order: {path}")),
    }
    Ok(())
}
