//! A receiver that answers 200 at once and counts what arrives.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// How often each event arrived.
pub(crate) type Arrivals = Arc<Mutex<HashMap<String, u32>>>;

pub(crate) struct Counter {
    pub(crate) url: String,
    pub(crate) arrivals: Arrivals,
}

impl Counter {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let arrivals = Arrivals::default();
        let counted = arrivals.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, counted.clone()));
            }
        });
        Self { url, arrivals }
    }
}

async fn serve(mut stream: TcpStream, arrivals: Arrivals) {
    let _ = stream.set_nodelay(true);
    let mut unread = Vec::with_capacity(8 * 1024);
    loop {
        let (length, event) = loop {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut request = httparse::Request::new(&mut headers);
            if let Ok(httparse::Status::Complete(head)) = request.parse(&unread) {
                let value = |name: &str| {
                    let header = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
                    header.map_or("", |header| std::str::from_utf8(header.value).unwrap())
                };
                let body: usize = value("content-length").parse().unwrap();
                if unread.len() >= head + body {
                    break (head + body, value("webhook-id").to_owned());
                }
            }
            match stream.read_buf(&mut unread).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
        };
        unread.drain(..length);
        *arrivals.lock().unwrap().entry(event).or_default() += 1;
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.is_err() {
            return;
        }
    }
}
