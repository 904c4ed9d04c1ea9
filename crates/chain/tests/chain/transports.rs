//! Single questions over every transport, to nodes that answer in every wrong way.

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::Instant;
use wemixvisor_chain::{Client, Endpoint, RpcError};

use crate::node::{Door, Fault, Node, hash};
use crate::soon;

const LIMIT: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(100);

/// A node behind each of the three transports.
async fn everywhere(height: u64) -> (TempDir, Vec<(Arc<Node>, Door)>) {
    let folder = TempDir::new_in("/tmp").unwrap();
    let nodes = [Node::new(height), Node::new(height), Node::new(height)];
    let doors = [nodes[0].http().await, nodes[1].ws().await, nodes[2].ipc(&folder.path().join("geth.ipc"))];
    (folder, nodes.into_iter().zip(doors).collect())
}

#[tokio::test]
async fn every_transport_answers_many_questions_over_one_connection() {
    let (_folder, nodes) = everywhere(0x330_c0d8).await;
    for (node, door) in &nodes {
        let client = Client::new(door.endpoint.clone());
        for _ in 0..50 {
            assert_eq!(client.block_number(LIMIT).await.unwrap(), 0x330_c0d8);
        }
        let head = client.head(LIMIT).await.unwrap();
        assert_eq!((head.height, head.hash.unwrap().to_string()), (0x330_c0d8, hash(0x330_c0d8)));
        assert!(head.block_time.is_some());
        assert_eq!(client.block_hash(0, LIMIT).await.unwrap().unwrap().to_string(), hash(0));
        assert_eq!(client.block_hash(u64::MAX, LIMIT).await.unwrap(), None);
        assert_eq!(client.chain_id(LIMIT).await.unwrap(), 1111);
        assert!(client.client_version(LIMIT).await.unwrap().starts_with("gwemix/"));
        assert_eq!(node.tally().opened, 1, "{}", door.endpoint);
    }
}

#[tokio::test]
async fn a_wrong_answer_is_an_error_of_its_kind_and_the_next_good_one_is_taken() {
    let (_folder, nodes) = everywhere(7).await;
    for (node, door) in &nodes {
        let client = Client::new(door.endpoint.clone());
        for fault in [
            Fault::Html,
            Fault::Status500,
            Fault::ErrorObject,
            Fault::TenMegabytes,
            Fault::Nonsense,
            Fault::OtherJson,
            Fault::DropMidway,
        ] {
            node.set_fault(fault);
            let error = client.block_number(LIMIT).await.unwrap_err();
            let as_expected = match fault {
                Fault::ErrorObject => matches!(&error, RpcError::Node { code: -32000, .. }),
                Fault::TenMegabytes => matches!(&error, RpcError::TooLarge { .. }),
                Fault::DropMidway => matches!(&error, RpcError::Unreachable { .. }),
                _ => matches!(&error, RpcError::Malformed { .. }),
            };
            assert!(as_expected, "{} {fault:?}: {error:?}", door.endpoint);
            assert!(error.full_text().len() < 400, "{error}");
            node.set_fault(Fault::None);
            assert_eq!(client.block_number(LIMIT).await.unwrap(), 7, "{} {fault:?}", door.endpoint);
        }
    }
}

#[tokio::test]
async fn a_missing_method_is_unsupported() {
    let (_folder, nodes) = everywhere(7).await;
    for (_, door) in &nodes {
        let client = Client::new(door.endpoint.clone());
        for method in ["net_peerCount", "anvil_none"] {
            let error = client.call(method, json!([]), LIMIT).await.unwrap_err();
            assert!(matches!(error, RpcError::Unsupported { .. }), "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_hung_node_is_given_up_in_time_and_answers_again_later() {
    let (_folder, nodes) = everywhere(7).await;
    for (node, door) in &nodes {
        let client = Client::new(door.endpoint.clone());
        node.set_fault(Fault::Hang);
        let began = Instant::now();
        let error = client.block_number(SHORT).await.unwrap_err();
        assert!(matches!(error, RpcError::Timeout { .. }), "{error:?}");
        assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
        node.set_fault(Fault::None);
        assert_eq!(client.block_number(LIMIT).await.unwrap(), 7);
        node.until("the hung connection is closed", |tally| tally.open == 1).await;
    }
}

#[tokio::test]
async fn a_question_that_hangs_holds_up_no_other() {
    let (_folder, nodes) = everywhere(7).await;
    for (node, door) in &nodes {
        let client = Client::new(door.endpoint.clone());
        node.set(|state| (state.fault, state.only) = (Fault::Hang, Some("web3_clientVersion")));
        let slow = client.client_version(LIMIT);
        let quick = async {
            node.until("the slow question is there", |tally| tally.asked.contains_key("web3_clientVersion"))
                .await;
            let height = client.block_number(LIMIT).await;
            node.set_fault(Fault::None);
            height
        };
        let (slow, quick) = tokio::join!(slow, quick);
        assert_eq!(quick.unwrap(), 7);
        slow.unwrap();
    }
}

#[tokio::test]
async fn a_node_that_was_restarted_is_asked_again_without_an_error() {
    let folder = TempDir::new_in("/tmp").unwrap();
    let path = folder.path().join("geth.ipc");
    let node = Node::new(7);
    let (http, ipc) = (node.http().await, node.ipc(&path));
    let Endpoint::Http(address) = &http.endpoint else { unreachable!() };
    let port = address.port();
    let clients = [Client::new(http.endpoint.clone()), Client::new(ipc.endpoint.clone())];
    for client in &clients {
        client.block_number(LIMIT).await.unwrap();
    }
    http.close().await;
    ipc.close().await;
    for client in &clients {
        // The socket's file is still there, but nobody listens.
        let error = client.block_number(LIMIT).await.unwrap_err();
        assert!(matches!(error, RpcError::Unreachable { .. }), "{error:?}");
    }
    let _doors = (node.http_at(port).await, node.ipc(&path));
    for client in &clients {
        assert_eq!(client.block_number(LIMIT).await.unwrap(), 7);
    }
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_the_text_says_where() {
    let folder = TempDir::new_in("/tmp").unwrap();
    for endpoint in
        [Endpoint::Ipc(folder.path().join("none.ipc")), "http://u:secret@127.0.0.1:1".parse().unwrap()]
    {
        let error = Client::new(endpoint.clone()).block_number(LIMIT).await.unwrap_err();
        assert!(matches!(error, RpcError::Unreachable { .. }), "{error:?}");
        let text = format!("{} {error:?}", error.full_text());
        assert!(text.contains(&endpoint.to_string()) && !text.contains("secret"), "{text}");
    }
}

#[tokio::test]
async fn credentials_and_path_are_sent() {
    let node = Node::new(7);
    for door in [node.http().await, node.ws().await] {
        let with = door.endpoint.to_string().replace("://", "://Aladdin:open%20sesame@") + "/rpc?k=1";
        Client::new(with.parse().unwrap()).block_number(LIMIT).await.unwrap();
        let tally = node.tally();
        assert_eq!(tally.authorization.as_deref(), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        assert_eq!(tally.path.as_deref(), Some("/rpc?k=1"));
    }
}

#[tokio::test]
async fn localhost_needs_no_resolver() {
    let door = Node::new(7).http().await;
    let named = door.endpoint.to_string().replace("127.0.0.1", "localhost");
    assert_eq!(Client::new(named.parse().unwrap()).block_number(LIMIT).await.unwrap(), 7);
}

#[tokio::test]
async fn a_socket_path_beyond_the_kernels_limit_is_reached() {
    let folder = TempDir::new_in("/tmp").unwrap();
    let deep = folder.path().join("d".repeat(100)).join("e".repeat(100));
    std::fs::create_dir_all(&deep).unwrap();
    let path = deep.join("gwemix.ipc");
    assert!(path.as_os_str().as_bytes().len() > 107);
    // The listener needs the same way round: through a link that is short.
    let short = folder.path().join("s");
    std::os::unix::fs::symlink(&deep, &short).unwrap();
    let node = Node::new(7);
    let _door = node.ipc_at(&path, UnixListener::bind(short.join("gwemix.ipc")).unwrap());
    assert_eq!(Client::new(Endpoint::Ipc(path)).block_number(LIMIT).await.unwrap(), 7);
}

/// Answers every connection with `bytes`, then with `tail` for as long as the other side takes it.
async fn raw(bytes: Vec<u8>, tail: Vec<u8>) -> (String, tokio::task::AbortHandle) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(&bytes).await;
            while !tail.is_empty() && stream.write_all(&tail).await.is_ok() {}
        }
    });
    (place, task.abort_handle())
}

#[tokio::test]
async fn endless_answers_are_cut_off() {
    let chunk = [b"2000\r\n".as_slice(), &[b' '; 0x2000], b"\r\n"].concat();
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let until_closed = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    for (head, tail) in [(chunked, chunk), (until_closed, vec![b'x'; 0x2000])] {
        let (place, server) = raw(head, tail).await;
        let client = Client::new(format!("http://{place}").parse().unwrap());
        let error = soon("an endless body is refused", client.block_number(LIMIT)).await.unwrap_err();
        assert!(matches!(error, RpcError::TooLarge { .. }), "{error:?}");
        server.abort();
    }
    for head in ["HTTP/1.1 200 OK\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "SSH-2.0-OpenSSH_9.6\r\n"] {
        let (place, server) = raw(head.into(), b"x-padding: 0123456789\r\n".to_vec()).await;
        for scheme in ["http", "ws"] {
            let client = Client::new(format!("{scheme}://{place}").parse().unwrap());
            let error = soon("an endless head is refused", client.block_number(LIMIT)).await.unwrap_err();
            assert!(matches!(error, RpcError::Malformed { .. }), "{scheme} {head:?}: {error:?}");
        }
        server.abort();
    }
}

#[tokio::test]
async fn tls_does_not_fall_back_to_plain_text() {
    let (place, server) = raw(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Vec::new()).await;
    for scheme in ["https", "wss"] {
        let error = Client::new(format!("{scheme}://{place}").parse().unwrap())
            .block_number(LIMIT)
            .await
            .unwrap_err();
        assert!(matches!(error, RpcError::Unreachable { .. }), "{error:?}");
    }
    server.abort();
}

#[tokio::test]
async fn parameters_and_null_arrive_as_they_are() {
    let node = Node::new(7);
    node.answer("debug_setHead", json!(null));
    let door = node.http().await;
    let client = Client::new(door.endpoint.clone());
    assert_eq!(client.call("debug_setHead", json!(["0x5"]), LIMIT).await.unwrap(), json!(null));
}
