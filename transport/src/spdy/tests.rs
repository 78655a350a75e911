//! Frames survive the wire, foreign bytes end the session without a panic, and two sessions talk to each other.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::frame::{Frame, encode, take};
use super::headers::{HeaderDecoder, HeaderEncoder};
use super::*;

fn pairs(list: &[(&str, &str)]) -> Headers {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn first_header_block_begins_with_the_dictionary_of_spdy_3() {
    let block = HeaderEncoder::default().encode(&pairs(&[("streamtype", "stdin")])).unwrap();
    assert_eq!(block.get(2..6), Some([0xe3, 0xc6, 0xa7, 0xc2].as_slice()));
}

#[test]
fn frames_survive_the_wire_in_order() {
    let (mut encoder, mut decoder) = (HeaderEncoder::default(), HeaderDecoder::default());
    let frames = [
        Frame::SynStream { id: 1, headers: pairs(&[("streamtype", "error"), ("port", "80")]), fin: false },
        Frame::SynStream { id: 3, headers: pairs(&[("streamtype", "stdin"), ("port", "80")]), fin: true },
        Frame::SynReply { id: 1, headers: Headers::new(), fin: false },
        Frame::Data { id: 3, bytes: Bytes::from_static(b"hello"), fin: true },
        Frame::Reset { id: 1, status: 5 },
        Frame::Settings(vec![(4, 100)]),
        Frame::Ping(1),
        Frame::WindowUpdate { id: 1, delta: 65_536 },
        Frame::GoAway { last_id: 3, status: 0 },
    ];
    let mut wire = BytesMut::new();
    for frame in &frames {
        encode(frame, &mut encoder, &mut wire).unwrap();
    }
    // One byte at a time: a frame appears only when it is whole.
    let mut read = Vec::new();
    let mut buffer = BytesMut::new();
    for byte in wire {
        buffer.extend_from_slice(&[byte]);
        read.extend(take(&mut buffer, &mut decoder).unwrap());
    }
    assert_eq!(read, frames);
}

proptest! {
    #[test]
    fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let mut buffer = BytesMut::from(bytes.as_slice());
        let mut decoder = HeaderDecoder::default();
        while let Ok(Some(_)) = take(&mut buffer, &mut decoder) {}
    }

    #[test]
    fn header_blocks_of_any_content_survive(blocks in proptest::collection::vec(
        proptest::collection::vec(("[a-z]{1,12}", "[ -~]{0,3000}"), 0..8), 1..6))
    {
        let (mut encoder, mut decoder) = (HeaderEncoder::default(), HeaderDecoder::default());
        for block in blocks {
            prop_assert_eq!(decoder.decode(&encoder.encode(&block).unwrap()).unwrap(), block);
        }
    }
}

#[tokio::test]
async fn streams_carry_bytes_both_ways_and_end_on_their_own() {
    let (left, right) = tokio::io::duplex(4 * 1024);
    let (client, _none, client_run) = Session::client(left);
    let (server, mut incoming, server_run) = Session::server(right);
    let runs = [tokio::spawn(client_run), tokio::spawn(server_run)];
    let echo = tokio::spawn(async move {
        let stream = incoming.next().await.unwrap();
        assert_eq!(headers::get(stream.headers(), "streamType"), Some("stdin"));
        let (mut reader, writer) = stream.split();
        while let Some(bytes) = reader.read().await.unwrap() {
            writer.write(bytes).await.unwrap();
        }
        writer.finish().await.unwrap();
    });
    let (mut reader, writer) = client.open(pairs(&[("streamType", "stdin")])).await.unwrap().split();
    let sent = Bytes::from(vec![7_u8; 200_000]);
    let send = async {
        writer.write(sent.clone()).await.unwrap();
        writer.finish().await.unwrap();
    };
    let receive = async {
        let mut received = BytesMut::new();
        while let Some(bytes) = reader.read().await.unwrap() {
            received.extend_from_slice(&bytes);
        }
        received.freeze()
    };
    let ((), received) = tokio::join!(send, receive);
    assert_eq!(received, sent);
    echo.await.unwrap();
    drop((client, server, writer));
    for run in runs {
        run.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn reset_reaches_the_reader() {
    let (left, right) = tokio::io::duplex(4 * 1024);
    let (client, _none, client_run) = Session::client(left);
    let (_server, mut incoming, server_run) = Session::server(right);
    let runs = [tokio::spawn(client_run), tokio::spawn(server_run)];
    let (mut reader, _writer) = client.open(Headers::new()).await.unwrap().split();
    let (_, writer) = incoming.next().await.unwrap().split();
    writer.reset().await.unwrap();
    assert!(matches!(reader.read().await, Err(SpdyError::Reset(5))));
    for run in runs {
        run.abort();
    }
}
