//! The page at `/` and the viewer of the API's description at `/docs`: plain files, built into the program.
//!
//! They are served to everybody, also where the API needs a token: they hold nothing of the node. The policy lets the
//! browser run and fetch only what comes from here, and forbids to make markup out of text.

use axum::Router;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::error::ApiError;

/// What the browser may do with a page from here. `connect-src 'self'` holds for the WebSocket too.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The files under `/assets/`: name, kind, content.
const ASSETS: [(&str, &str, &str); 11] = [
    ("page.css", CSS, include_str!("assets/page.css")),
    ("page.js", SCRIPT, include_str!("assets/page.js")),
    ("connection.js", SCRIPT, include_str!("assets/connection.js")),
    ("dom.js", SCRIPT, include_str!("assets/dom.js")),
    ("log.js", SCRIPT, include_str!("assets/log.js")),
    ("orders.js", SCRIPT, include_str!("assets/orders.js")),
    ("state.js", SCRIPT, include_str!("assets/state.js")),
    ("upgrades.js", SCRIPT, include_str!("assets/upgrades.js")),
    ("views.js", SCRIPT, include_str!("assets/views.js")),
    ("docs.js", SCRIPT, include_str!("assets/docs.js")),
    ("docs.css", CSS, include_str!("assets/docs.css")),
];

/// The routes of the pages and of what belongs to them.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(async || file(HTML, include_str!("assets/index.html"))))
        .route("/docs", get(async || file(HTML, include_str!("assets/docs.html"))))
        .route("/assets/{file}", get(asset))
}

async fn asset(name: Result<Path<String>, PathRejection>) -> Response {
    // Bytes that are no text name no file either.
    let found = name.ok().and_then(|Path(name)| ASSETS.iter().find(|(known, ..)| *known == name));
    match found {
        Some((_, kind, content)) => file(kind, content),
        None => ApiError::not_found("there is no such file").into_response(),
    }
}

/// A file, which the browser asks for again each time: the program may have been replaced meanwhile.
fn file(kind: &'static str, content: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, content).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::http::StatusCode;
    use axum::http::header::HeaderName;

    use super::*;

    fn header(answer: &Response, name: HeaderName) -> &str {
        answer.headers().get(name).unwrap().to_str().unwrap()
    }

    fn pages() -> [&'static str; 2] {
        [include_str!("assets/index.html"), include_str!("assets/docs.html")]
    }

    #[tokio::test]
    async fn every_file_comes_with_its_kind_and_the_policy() {
        for (name, kind, content) in ASSETS {
            let answer = asset(Ok(Path(name.into()))).await;
            assert_eq!((answer.status(), header(&answer, CONTENT_TYPE)), (StatusCode::OK, kind), "{name}");
            assert_eq!(header(&answer, X_CONTENT_TYPE_OPTIONS), "nosniff");
            assert_eq!(header(&answer, REFERRER_POLICY), "no-referrer");
            assert_eq!(header(&answer, CACHE_CONTROL), "no-cache");
            let policy = header(&answer, CONTENT_SECURITY_POLICY);
            assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{policy}");
            assert!(!policy.contains("unsafe") && !policy.contains("  "), "{policy}");
            assert!(!content.is_empty());
        }
        for name in ["", "page", "../page.rs", "PAGE.CSS", "index.html"] {
            assert_eq!(asset(Ok(Path(name.into()))).await.status(), StatusCode::NOT_FOUND, "{name}");
        }
    }

    #[test]
    fn every_file_of_the_folder_is_built_in() {
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/api/assets")).unwrap();
        let there: BTreeSet<String> =
            folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let known = ASSETS.iter().map(|(name, ..)| *name).chain(["index.html", "docs.html"]);
        assert_eq!(there, known.map(str::to_owned).collect());
    }

    #[test]
    fn what_is_referred_to_is_there_and_nothing_comes_from_elsewhere() {
        let quoted = |text: &'static str, before: &'static str| {
            text.match_indices(before).map(move |(at, _)| {
                let rest = &text[at + before.len()..];
                &rest[..rest.find('"').unwrap()]
            })
        };
        let is_asset = |name: &str| ASSETS.iter().any(|(known, ..)| *known == name);
        for page in pages() {
            for name in quoted(page, "=\"assets/") {
                assert!(is_asset(name), "{name}");
            }
            // A style or a handler in the text would be refused by the policy.
            assert!(!page.contains(" style=") && !page.contains(" onclick=") && !page.contains("<style"));
        }
        for (name, kind, content) in ASSETS {
            if kind == SCRIPT {
                for import in quoted(content, "from \"./") {
                    assert!(is_asset(import), "{name}: {import}");
                }
                for sink in [
                    "innerHTML",
                    "outerHTML",
                    "insertAdjacentHTML",
                    "document.write",
                    "eval(",
                    "new Function",
                ] {
                    assert!(!content.contains(sink), "{name}: {sink}");
                }
                for store in ["localStorage", "sessionStorage", "document.cookie", "indexedDB"] {
                    assert!(!content.contains(store), "{name}: the token is kept in memory only");
                }
            }
        }
        for text in ASSETS.iter().map(|(.., content)| *content).chain(pages()) {
            let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!elsewhere.contains("http://") && !elsewhere.contains("https://"));
        }
    }
}
