//! Who stands at the door of the API over TCP: a request that comes in has the right host, comes from the right
//! page, is not one of too many, has a token that is good for it, and is not longer or slower than it may be.
//! docs/security.md says what that is against.

use std::error::Error as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderName, ORIGIN, SEC_WEBSOCKET_PROTOCOL,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http_body_util::LengthLimitError;
use tokio::time::{sleep, timeout};
use wemixvisor_core::settings;

use super::cut::Cut;
use super::error::ApiError;
use super::tokens::{Scope, TokenFile, Tokens};
use super::{MAX_BODY, wire};

/// The other header for a token.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The addresses that a proxy has seen.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What only proxies write.
const OF_PROXIES: [HeaderName; 4] = [
    FORWARDED_FOR,
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("forwarded"),
];

/// From where the browser says that a page asks: also where it sends no Origin, as with an image.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether the answer may be shown inside a page from elsewhere.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// A browser's WebSocket has no headers of its own: the token is a subprotocol.
const TOKEN_PROTOCOL: &str = "bearer.";

/// A body has to be there within this time.
const BODY_LIMIT: Duration = Duration::from_secs(10);

/// An answer is waited for so long; an order to carry out a due upgrade verifies its program before, for up to two
/// minutes.
const ANSWER_LIMIT: Duration = Duration::from_secs(125);

/// It is looked so often whether the token of a stream is still good.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// After so many requests the clients that have asked for nothing lately are forgotten.
const FORGET_EVERY: usize = 1000;

/// Where the reasons are told only to who may read: what a probe needs is the status code.
const READY: &str = "/ready";

/// From where a request comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// The guard of one listener.
#[derive(Debug)]
pub(crate) struct Guard {
    settings: settings::Api,
    tokens: Tokens,
    rate: Option<DefaultKeyedRateLimiter<IpAddr>>,
    requests: AtomicUsize,
}

/// What a request may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Everything,
    /// How it stands, and not why.
    NoReasons,
}

impl Guard {
    pub(crate) fn new(settings: settings::Api, tokens: TokenFile) -> Self {
        let rate = NonZeroU32::new(settings.rate_limit).map(|rate| {
            let at_once = rate.saturating_add(rate.get());
            RateLimiter::keyed(Quota::per_second(rate).allow_burst(at_once))
        });
        Self { settings, tokens: Tokens::new(tokens), rate, requests: AtomicUsize::new(0) }
    }

    fn check(&self, request: &Request) -> Result<Told, ApiError> {
        let headers = request.headers();
        let host = self.host(request.uri(), headers)?;
        self.same_origin(headers, &host)?;
        let path = request.uri().path();
        let needed = needed(request.method(), path);
        if needed.is_some() {
            not_from_elsewhere(headers)?;
            self.not_by_a_proxy(headers)?;
        }
        self.not_too_many(request)?;
        let Some(needed) = needed else {
            let may_read = || token(headers).is_some_and(|token| self.tokens.scope(token).is_some());
            let reasons = path != READY || !self.settings.needs_token() || may_read();
            return Ok(if reasons { Told::Everything } else { Told::NoReasons });
        };
        match token(headers) {
            Some(token) => match self.tokens.scope(token) {
                Some(scope) if scope >= needed => Ok(Told::Everything),
                Some(scope) => Err(ApiError::forbidden(format!(
                    "this needs a token of scope {}; this one is for {}",
                    needed.as_str(),
                    scope.as_str()
                ))),
                None => {
                    Err(ApiError::unauthenticated("this token is not good: it was revoked, or never made"))
                }
            },
            None if self.settings.needs_token() => Err(ApiError::unauthenticated(
                "a token is needed: Authorization: Bearer <token>; made by: wemixvisor api token create <name>",
            )),
            None => Ok(Told::Everything),
        }
    }

    /// The host that was asked for, if it can be ours. A page from elsewhere reaches us under its own name (DNS
    /// rebinding), which is never an IP address.
    fn host(&self, uri: &Uri, headers: &HeaderMap) -> Result<String, ApiError> {
        let mut hosts = headers.get_all(HOST).iter();
        let header = match (hosts.next(), hosts.next()) {
            (Some(one), None) => one.to_str().ok(),
            _ => None,
        };
        let authority = uri.authority().map(|authority| authority.as_str()).or(header);
        let authority = authority.ok_or_else(|| ApiError::invalid("there is no Host, or more than one"))?;
        match host_of(authority) {
            Some(host) if self.is_ours(host) => Ok(authority.to_ascii_lowercase()),
            _ => {
                let host: String = authority.chars().take(100).collect();
                Err(ApiError::forbidden(format!(
                    "{host:?} is not a name of this API: ask by IP address or as localhost, or name it in api.hosts"
                )))
            }
        }
    }

    fn is_ours(&self, host: &str) -> bool {
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost")
            || address.parse::<IpAddr>().is_ok()
            || self.settings.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
    }

    /// A page may only ask the host that it is from.
    fn same_origin(&self, headers: &HeaderMap, host: &str) -> Result<(), ApiError> {
        for origin in headers.get_all(ORIGIN) {
            let from = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
            if from.is_none_or(|(_, from)| !from.eq_ignore_ascii_case(host)) {
                return Err(ApiError::forbidden("a page from elsewhere may not use this API"));
            }
        }
        Ok(())
    }

    /// Where no token is needed, a proxy would let everybody in who reaches it.
    fn not_by_a_proxy(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let handed_on = OF_PROXIES.iter().any(|name| headers.contains_key(name));
        if self.settings.needs_token() || !handed_on {
            return Ok(());
        }
        Err(ApiError::forbidden(
            "this comes through a proxy, and here everybody may do everything: set api.behind_proxy, and use a token",
        ))
    }

    fn not_too_many(&self, request: &Request) -> Result<(), ApiError> {
        let (Some(rate), Some(client)) = (&self.rate, self.client(request)) else { return Ok(()) };
        if self.requests.fetch_add(1, Ordering::Relaxed).is_multiple_of(FORGET_EVERY) {
            rate.retain_recent();
        }
        rate.check_key(&one_client(client)).map_err(|_| ApiError::too_many_requests())
    }

    fn client(&self, request: &Request) -> Option<IpAddr> {
        let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
        if !self.settings.behind_proxy {
            return peer;
        }
        let seen = request.headers().get_all(FORWARDED_FOR).iter().next_back();
        let last = seen.and_then(|seen| seen.to_str().ok()).and_then(|seen| seen.rsplit(',').next());
        last.and_then(|last| last.trim().parse().ok()).or(peer)
    }
}

/// A page from elsewhere may not even ask for what it cannot read.
fn not_from_elsewhere(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(FETCH_SITE).map(HeaderValue::as_bytes) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => Err(ApiError::forbidden("a page from elsewhere may not use this API")),
    }
}

/// Whoever has an IPv6 network has all its 2^64 addresses.
fn one_client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

/// The host of `host` or `host:port`, with the brackets of an IPv6 address.
fn host_of(authority: &str) -> Option<&str> {
    let end = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(end);
    let is_port = |port: &str| port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    (!host.is_empty() && (port.is_empty() || is_port(port))).then_some(host)
}

/// What a request needs; `None`: nothing, it is the same for everybody.
pub(super) fn needed(method: &Method, path: &str) -> Option<Scope> {
    if path != "/metrics" && !path.starts_with("/api/") {
        return None;
    }
    Some(match (method, path) {
        (&Method::GET | &Method::HEAD | &Method::OPTIONS, _) => Scope::Read,
        (_, "/api/v1/config/validate") => Scope::Read,
        (_, path) if path.starts_with("/api/v1/config") || path.starts_with("/api/v1/supervisor") => {
            Scope::Admin
        }
        _ => Scope::Operate,
    })
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let bearer = || {
        let (kind, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        kind.eq_ignore_ascii_case("bearer").then(|| token.trim())
    };
    let key = || headers.get(API_KEY)?.to_str().ok().map(str::trim);
    let protocol = || {
        let named = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|named| named.to_str().ok());
        named.flat_map(|named| named.split(',')).find_map(|one| one.trim().strip_prefix(TOKEN_PROTOCOL))
    };
    bearer().or_else(key).or_else(protocol)
}

/// Lets a request in, or says why not.
pub(crate) async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let is_api = request.uri().path().starts_with("/api/");
    let good_for =
        token(request.headers()).map(str::to_owned).zip(request.extensions().get::<Cut>().cloned());
    let mut response = match admitted(&guard, request).await {
        Ok((request, told)) => match timeout(ANSWER_LIMIT, next.run(request)).await {
            Ok(response) if told == Told::NoReasons => without_reasons(response.status()),
            Ok(response) => response,
            Err(_) => ApiError::no_answer().into_response(),
        },
        Err(error) => error.into_response(),
    };
    if let Some((token, cut)) = good_for.filter(|_| is_stream(&response)) {
        tokio::spawn(cut_when_revoked(guard.clone(), token, cut));
    }
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    if is_api {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

fn is_stream(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    response.status() == StatusCode::SWITCHING_PROTOCOLS
        || kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"))
}

/// A stream does not outlive its token.
async fn cut_when_revoked(guard: Arc<Guard>, token: String, Cut(cut): Cut) {
    while guard.tokens.scope(&token).is_some() {
        tokio::select! {
            () = cut.cancelled() => return,
            () = sleep(LOOK_EVERY) => {}
        }
    }
    cut.cancel();
}

/// The answer of `/ready` for everybody.
fn without_reasons(status: StatusCode) -> Response {
    match status {
        StatusCode::OK => Json(wire::Ready { headline: "ready".into() }).into_response(),
        _ => ApiError::unfit("not ready; why is told to whoever has a token").into_response(),
    }
}

async fn admitted(guard: &Guard, request: Request) -> Result<(Request, Told), ApiError> {
    let told = guard.check(&request)?;
    let (parts, body) = request.into_parts();
    // Whole before it is handed on: a slow one holds up nothing but itself.
    let body = timeout(BODY_LIMIT, to_bytes(body, MAX_BODY)).await.map_err(|_| ApiError::too_slow())?;
    let body = body.map_err(|error| match error.source() {
        Some(source) if source.is::<LengthLimitError>() => ApiError::too_large(),
        _ => ApiError::invalid("the body of the request is broken off, or not what its head says"),
    })?;
    Ok((Request::from_parts(parts, Body::from(body)), told))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_cut_from_their_ports() {
        for (authority, host) in [
            ("localhost", Some("localhost")),
            ("127.0.0.1:8080", Some("127.0.0.1")),
            ("[::1]:80", Some("[::1]")),
            ("[::1]", Some("[::1]")),
            ("", None),
            (":80", None),
            ("[::1", None),
            ("a:b", None),
            ("[::1]x", None),
        ] {
            assert_eq!(host_of(authority), host, "{authority}");
        }
    }

    #[test]
    fn each_request_has_its_scope() {
        for (method, path, scope) in [
            (Method::GET, "/", None),
            (Method::GET, "/health", None),
            (Method::GET, "/openapi.json", None),
            (Method::GET, "/metrics", Some(Scope::Read)),
            (Method::GET, "/api/v1/status", Some(Scope::Read)),
            (Method::GET, "/api/v1/ws", Some(Scope::Read)),
            (Method::POST, "/api/v1/upgrades", Some(Scope::Operate)),
            (Method::DELETE, "/api/v1/upgrades/v2", Some(Scope::Operate)),
            (Method::POST, "/api/v1/node/stop", Some(Scope::Operate)),
            (Method::POST, "/api/v1/config/validate", Some(Scope::Read)),
            (Method::PUT, "/api/v1/config", Some(Scope::Admin)),
            (Method::POST, "/api/v1/supervisor/stop", Some(Scope::Admin)),
            (Method::POST, "/api/v1/what/ever", Some(Scope::Operate)),
        ] {
            assert_eq!(needed(&method, path), scope, "{method} {path}");
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_client_and_an_address_of_ipv4_is_one_however_it_is_written() {
        let client = |text: &str| one_client(text.parse().unwrap());
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:1:2:3"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
    }

    fn request(headers: &[(&'static str, &str)]) -> Request {
        let mut request = Request::builder().uri("/api/v1/status");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    /// The code of the answer to a request with these headers.
    fn code(guard: &Guard, headers: &[(&'static str, &str)]) -> String {
        guard.check(&request(headers)).map_or_else(|error| error.body().code, |_| "in".into())
    }

    fn guard_with(change: impl FnOnce(&mut settings::Api)) -> (Guard, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let home = wemixvisor_host::home::Home::new(dir.path(), None, None, "node").unwrap();
        let mut settings = settings::Settings::default().api;
        change(&mut settings);
        (Guard::new(settings, TokenFile::of(&home)), dir)
    }

    #[test]
    fn a_proxy_makes_everybody_show_a_token_whether_it_was_announced_or_not() {
        let (guard, _dir) = guard_with(|_| {});
        assert_eq!(code(&guard, &[("host", "localhost")]), "in");
        for header in ["x-forwarded-for", "x-forwarded-proto", "x-real-ip", "forwarded"] {
            assert_eq!(code(&guard, &[("host", "localhost"), (header, "")]), "forbidden");
        }
        let (guard, _dir) = guard_with(|api| api.behind_proxy = true);
        assert_eq!(code(&guard, &[("host", "localhost")]), "unauthenticated");
        assert_eq!(
            code(&guard, &[("host", "localhost"), ("x-forwarded-for", "192.0.2.1")]),
            "unauthenticated"
        );
    }

    #[test]
    fn what_a_page_from_elsewhere_asks_for_does_not_count_against_others() {
        let (guard, _dir) = guard_with(|api| api.rate_limit = 1);
        for _ in 0..100 {
            let mut image = request(&[("host", "localhost"), ("sec-fetch-site", "cross-site")]);
            image.extensions_mut().insert(Peer("127.0.0.1:1".parse().unwrap()));
            assert_eq!(guard.check(&image).unwrap_err().body().code, "forbidden");
        }
        let mut own = request(&[("host", "localhost")]);
        own.extensions_mut().insert(Peer("127.0.0.1:1".parse().unwrap()));
        assert!(guard.check(&own).is_ok());
    }
}
