//! Logs and exec through an agent's outbound stream.

use futures::{SinkExt, StreamExt};
use proto::keelson::node_channel_client::NodeChannelClient;
use proto::keelson::{Channel, Data, Finish, Frame, Hello, frame, open};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::Message;
use transport::spdy;

use crate::harness::{DEADLINE, TestServer, pod};

/// An agent whose logs say "line" and whose processes echo their input in upper case and exit with 3.
async fn agent(server: &TestServer) -> tokio::task::JoinHandle<()> {
    let mut client = NodeChannelClient::new(server.channel("system:node:n1", Some("system:nodes")));
    let (sender, frames) = mpsc::channel(16);
    let hello = Frame { stream_id: 0, body: Some(frame::Body::Hello(Hello::default())) };
    sender.send(hello).await.unwrap();
    let mut incoming = client.open(ReceiverStream::new(frames)).await.unwrap().into_inner();
    tokio::spawn(async move {
        while let Ok(Some(frame)) = incoming.message().await {
            let id = frame.stream_id;
            let answer = |body| Frame { stream_id: id, body: Some(body) };
            let data = |text: Vec<u8>| {
                frame::Body::Data(Data { channel: Channel::Stdout.into(), payload: text.into() })
            };
            let finish =
                |exit_code| frame::Body::Finish(Finish { http_code: 200, message: String::new(), exit_code });
            let answers = match frame.body {
                Some(frame::Body::Open(open)) => match open.request {
                    Some(open::Request::Logs(_)) => vec![data(b"line\n".to_vec()), finish(None)],
                    _ => vec![],
                },
                Some(frame::Body::Data(input)) => vec![data(input.payload.to_ascii_uppercase())],
                Some(frame::Body::HalfClose(_)) => vec![finish(Some(3))],
                _ => vec![],
            };
            for body in answers {
                if sender.send(answer(body)).await.is_err() {
                    return;
                }
            }
        }
    })
}

async fn server_with_pod() -> TestServer {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.namespace("e").await;
    admin.post("/api/v1/nodes", &json!({"metadata": {"name": "n1"}})).await.expect(201);
    let mut bound = pod("p", "1m");
    bound["spec"]["nodeName"] = json!("n1");
    admin.post("/api/v1/namespaces/e/pods", &bound).await.expect(201);
    server
}

const EXEC: &str = "/api/v1/namespaces/e/pods/p/exec?command=sh&stdin=true&stdout=true";

#[tokio::test]
async fn logs_come_over_the_agents_stream() {
    let server = server_with_pod().await;
    let admin = server.admin();
    let unreachable = admin.get("/api/v1/namespaces/e/pods/p/log").await;
    assert_eq!(unreachable.code, 502);
    assert!(unreachable.message().contains("node n1 has no channel to this server"));
    let agent = agent(&server).await;
    assert_eq!(admin.get("/api/v1/namespaces/e/pods/p/log").await.expect(200), "line\n");
    server.stop().await;
    agent.abort();
}

#[tokio::test]
async fn exec_over_websocket_carries_input_output_and_exit_code() {
    let server = server_with_pod().await;
    let agent = agent(&server).await;
    let mut request = format!("wss://localhost{EXEC}").into_client_request().unwrap();
    let protocol = "v5.channel.k8s.io,v4.channel.k8s.io".parse().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocol);
    let (mut socket, response) =
        tokio_tungstenite::client_async(request, server.admin().connect().await).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    socket.send(Message::Binary(b"\x00hello".to_vec().into())).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().into_data().as_ref(), b"\x01HELLO");
    socket.send(Message::Binary(b"\xff\x00".to_vec().into())).await.unwrap();
    let last = socket.next().await.unwrap().unwrap().into_data();
    assert_eq!(last[0], 3);
    let status: Value = serde_json::from_slice(&last[1..]).unwrap();
    assert_eq!(status["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
    server.stop().await;
    agent.abort();
}

#[tokio::test]
async fn exec_over_spdy_carries_input_output_and_exit_code() {
    let server = server_with_pod().await;
    let agent = agent(&server).await;
    let offer = spdy::handshake::Offer { host: "localhost", path: EXEC, protocols: &["v4.channel.k8s.io"] };
    let (upgraded, protocol) =
        spdy::handshake::connect(server.admin().connect().await, &offer).await.unwrap();
    assert_eq!(protocol, "v4.channel.k8s.io");
    let (session, _none, run) = spdy::Session::client(upgraded);
    let run = tokio::spawn(run);
    let open = |kind: &str| session.open(vec![("streamType".to_owned(), kind.to_owned())]);
    let exchange = async {
        let (mut error, _) = open("error").await.unwrap().split();
        let (_, stdin) = open("stdin").await.unwrap().split();
        let (mut stdout, _) = open("stdout").await.unwrap().split();
        stdin.write(bytes::Bytes::from_static(b"hello")).await.unwrap();
        assert_eq!(stdout.read().await.unwrap().unwrap(), "HELLO");
        stdin.finish().await.unwrap();
        let status = error.read().await.unwrap().unwrap();
        let status: Value = serde_json::from_slice(&status).unwrap();
        assert_eq!(status["details"]["causes"][0]["message"], "3");
    };
    tokio::time::timeout(DEADLINE, exchange).await.expect("the exchange ends in time");
    run.abort();
    server.stop().await;
    agent.abort();
}
