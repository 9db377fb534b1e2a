//! Another process of this program, beside the one that posts: it does as it is told, an order a line, and answers each
//! with a line.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// The process, as the others see it; ends with this.
pub(crate) struct Companion {
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Companion {
    /// Starts it with these arguments; gives the first line that it says, unasked.
    pub(crate) async fn start(arguments: &[&str]) -> (Self, String) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut companion = Self { orders, answers, _child: child };
        let first = companion.answer().await;
        (companion, first)
    }

    /// Its answer to an order.
    pub(crate) async fn ask(&mut self, order: &str) -> String {
        self.orders.write_all(format!("{order}\n").as_bytes()).await.unwrap();
        self.answer().await
    }

    async fn answer(&mut self) -> String {
        self.answers.next_line().await.unwrap().expect("an answer")
    }
}
