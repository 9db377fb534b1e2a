//! The limit: how fast a bare loop of reqwest posts the same bodies to the same receiver, in a process of its own, whose CPU
//! time counts like the host's.

use std::{
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use reqwest::{Certificate, Client, header::CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use tokio::{process::Command, task::JoinSet};

use crate::{generator, process};

/// Requests under way at once.
const CONNECTIONS: usize = 64;

/// What to do.
#[derive(Serialize, Deserialize)]
pub(crate) struct Job {
    /// Each in turn.
    pub(crate) urls: Vec<String>,
    pub(crate) authority: PathBuf,
    pub(crate) time: Duration,
}

/// What it came to.
#[derive(Serialize, Deserialize)]
pub(crate) struct Limit {
    /// Requests a second.
    pub(crate) rate: f64,
    /// CPU-ms of 1,000 requests.
    pub(crate) cpu: f64,
}

impl Limit {
    pub(crate) async fn of(job: &Job) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("limit").arg(serde_json::to_string(job).unwrap()).stderr(Stdio::inherit()).kill_on_drop(true);
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "the bare loop fails");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Half of both: one before and one after what is compared with them.
    pub(crate) fn mean(self, other: Self) -> Self {
        Self { rate: (self.rate + other.rate) / 2.0, cpu: (self.cpu + other.cpu) / 2.0 }
    }
}

/// What the process does.
pub(crate) async fn run(job: &str) {
    let job: Job = serde_json::from_str(job).unwrap();
    let authority = Certificate::from_pem(&std::fs::read(&job.authority).unwrap()).unwrap();
    let client = Client::builder().no_proxy().tcp_nodelay(true).tls_certs_only([authority]).build().unwrap();
    let job = Arc::new(job);
    let body = Bytes::from(generator::delivered_body());
    // Connections are made before the time counts.
    post(&client, &job, &body, Duration::from_millis(500)).await;
    let before = process::cpu_of(&[std::process::id()]);
    let began = Instant::now();
    let requests = post(&client, &job, &body, job.time).await as f64;
    let (took, cpu) = (began.elapsed(), process::cpu_of(&[std::process::id()]) - before);
    let limit = Limit { rate: requests / took.as_secs_f64(), cpu: cpu.as_secs_f64() * 1e6 / requests };
    println!("{}", serde_json::to_string(&limit).unwrap());
}

async fn post(client: &Client, job: &Arc<Job>, body: &Bytes, time: Duration) -> usize {
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let mut posting = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (client, job, body, next) = (client.clone(), job.clone(), body.clone(), next.clone());
        posting.spawn(async move {
            while began.elapsed() < time {
                let url = &job.urls[next.fetch_add(1, Ordering::Relaxed) % job.urls.len()];
                let request = client.post(url).header(CONTENT_TYPE, "application/json").body(body.clone());
                let answer = request.send().await.unwrap().error_for_status().unwrap();
                answer.bytes().await.unwrap();
            }
        });
    }
    posting.join_all().await;
    next.load(Ordering::Relaxed)
}
