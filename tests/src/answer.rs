use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::Semaphore,
    time::sleep,
};

/// How a receiver treats one request.
#[derive(Clone)]
pub struct Answer {
    gate: Option<Gate>,
    delay: Duration,
    manner: Manner,
}

#[derive(Clone)]
enum Manner {
    Respond {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// `first`, then `again` every few milliseconds for ever.
    Drip {
        first: Vec<u8>,
        again: Vec<u8>,
    },
    Raw(Vec<u8>),
    Hang,
}

impl From<u16> for Answer {
    fn from(status: u16) -> Self {
        Self::status(status)
    }
}

impl Answer {
    /// This status, an empty body.
    pub fn status(status: u16) -> Self {
        Self::manner(Manner::Respond { status, headers: Vec::new(), body: Vec::new() })
    }

    /// A redirect to there.
    pub fn redirect(status: u16, to: &str) -> Self {
        Self::status(status).header("Location", to)
    }

    /// Reads the request and never says a word.
    pub fn hang() -> Self {
        Self::manner(Manner::Hang)
    }

    /// Reads the request and closes the connection.
    pub fn close() -> Self {
        Self::raw("")
    }

    /// Writes exactly these bytes and closes the connection.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self::manner(Manner::Raw(bytes.into()))
    }

    /// Starts an answer whose head never ends: a byte now and then.
    pub fn drip_head() -> Self {
        Self::drip("HTTP/1.1 200 OK\r\nX-Drip: ", "a")
    }

    /// A complete 200 head, then a body that never ends: a byte now and then.
    pub fn drip_body() -> Self {
        Self::drip("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", "b")
    }

    /// `103 Early Hints` for ever, never a final answer.
    pub fn endless_hints() -> Self {
        Self::drip("", "HTTP/1.1 103 Early Hints\r\n\r\n")
    }

    /// With this header. Only for an answer with a status.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let Manner::Respond { headers, .. } = &mut self.manner else {
            panic!("this answer has no headers");
        };
        headers.push((name.into(), value.into()));
        self
    }

    /// With this body. Only for an answer with a status.
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        let Manner::Respond { body, .. } = &mut self.manner else {
            panic!("this answer has no body");
        };
        *body = bytes.into();
        self
    }

    /// Held back until the gate lets it through.
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// Held back for this long.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    fn drip(first: &str, again: &str) -> Self {
        Self::manner(Manner::Drip { first: first.into(), again: again.into() })
    }

    fn manner(manner: Manner) -> Self {
        Self { gate: None, delay: Duration::ZERO, manner }
    }

    /// Gives the answer; false when the connection is not to be used again.
    pub(crate) async fn give(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> bool {
        if let Some(gate) = &self.gate {
            gate.pass().await;
        }
        sleep(self.delay).await;
        match &self.manner {
            Manner::Respond { status, headers, body } => {
                let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
                for (name, value) in headers {
                    head += &format!("{name}: {value}\r\n");
                }
                head += &format!("Content-Length: {}\r\n\r\n", body.len());
                let whole = [head.as_bytes(), body].concat();
                stream.write_all(&whole).await.is_ok()
            }
            Manner::Raw(bytes) => {
                // The peer may be gone; there is nobody to tell.
                let _ = stream.write_all(bytes).await;
                let _ = stream.shutdown().await;
                false
            }
            Manner::Drip { first, again } => {
                let mut next = first;
                while stream.write_all(next).await.is_ok() && stream.flush().await.is_ok() {
                    sleep(Duration::from_millis(20)).await;
                    next = again;
                }
                false
            }
            Manner::Hang => {
                let mut byte = [0];
                let _ = stream.read(&mut byte).await;
                false
            }
        }
    }
}

/// Holds answers back until the test opens it.
#[derive(Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    /// A closed gate.
    pub fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets all answers through from now on.
    pub fn open(&self) {
        self.0.close();
    }

    /// Lets one answer through.
    pub fn let_one_pass(&self) {
        self.0.add_permits(1);
    }

    pub(crate) async fn pass(&self) {
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}
