//! Compiling, in a process of its own: a small component can ask the compiler for gigabytes and minutes. The child takes its
//! limits before it reads a byte; what it runs into kills it alone.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, Command};
use wasmtime::component::Component;

use super::{Refused, engine};
use crate::config::PluginSettings;

/// Bytes of an artifact at most. JavaScript's and Python's have 37 MB.
const ARTIFACT: u64 = 128 << 20;
/// Bytes of the compiler's complaint that are kept.
const COMPLAINT: u64 = 2 << 10;
/// Wall time granted for each second of CPU time, and besides: compiling runs at a low priority.
const WALL_FACTOR: u32 = 6;
const WALL_BESIDES: Duration = Duration::from_secs(60);
/// The child's exit code for a component that it refuses; the reason is on its standard error.
const REFUSED: i32 = 65;
/// How much less than the host the child insists on the CPU, of 19: about a tenth of it on a machine that is busy.
const NICENESS: i32 = 10;

/// Compiles in child processes, `program plugin compile`.
pub(super) struct Compiler {
    program: PathBuf,
    memory: u64,
    time: Duration,
}

impl Compiler {
    pub(super) fn new(program: &Path, settings: &PluginSettings) -> Self {
        Self { program: program.to_owned(), memory: settings.compile_memory as u64, time: settings.compile_time }
    }

    /// The artifact that this component compiles to. Dropping the future ends the child.
    pub(super) async fn compile(&self, component: &[u8]) -> Result<Vec<u8>, Refused> {
        let failed = |error: std::io::Error| Refused::Compiler(error.to_string());
        let mut child = Command::new(&self.program)
            .args(["plugin", "compile"])
            .args([self.memory.to_string(), self.time.as_secs().to_string()])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (stdin, stdout, stderr) = (stdin.expect("piped"), stdout.expect("piped"), stderr.expect("piped"));
        let talk = async {
            // Each pipe is closed as soon as we are done with it: the child must not wait for us to read more.
            let (_, artifact, complaint) =
                tokio::join!(write_all(stdin, component), read(stdout, ARTIFACT + 1), read(stderr, COMPLAINT));
            (artifact, complaint, child.wait().await)
        };
        let ended = tokio::time::timeout(self.time * WALL_FACTOR + WALL_BESIDES, talk).await;
        let (artifact, complaint, status) = ended.map_err(|_| Refused::Busy)?;
        let status = status.map_err(failed)?;
        match status.code() {
            _ if artifact.len() as u64 > ARTIFACT => Err(Refused::ArtifactSize),
            Some(0) => Ok(artifact),
            Some(REFUSED) => Err(Refused::Invalid(String::from_utf8_lossy(&complaint).trim().to_owned())),
            _ => Err(self.killed(status, &complaint)),
        }
    }

    fn killed(&self, status: ExitStatus, complaint: &[u8]) -> Refused {
        const SIGKILL: i32 = 9;
        const SIGXCPU: i32 = 24;
        const SIGABRT: i32 = 6;
        let complaint = String::from_utf8_lossy(complaint);
        match status.signal() {
            // At its second limit the kernel does not ask any more.
            Some(SIGXCPU | SIGKILL) => Refused::CompileTime(self.time),
            Some(SIGABRT) if complaint.contains("memory allocation") => Refused::CompileMemory(self.memory),
            // Deep nesting exhausts the compiler's stack; a mapping that was refused makes it panic.
            _ => Refused::CompilerEnded(status.to_string()),
        }
    }
}

/// What comes, up to so many bytes. What breaks off is told by how the child ends.
async fn read(pipe: impl AsyncRead + Unpin, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    drop(pipe.take(limit).read_to_end(&mut bytes).await);
    bytes
}

async fn write_all(mut stdin: ChildStdin, component: &[u8]) -> std::io::Result<()> {
    stdin.write_all(component).await?;
    stdin.shutdown().await
}

/// The child: compiles what comes in and writes out the artifact. Gives its exit code.
#[must_use]
pub fn child(memory: u64, seconds: u64) -> i32 {
    let limit = |resource, limit| {
        let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
        setrlimit(resource, limit)
    };
    let limited = limit(Resource::As, memory)
        .and_then(|()| limit(Resource::Cpu, seconds))
        // It writes to pipes only, and leaves nothing behind.
        .and_then(|()| limit(Resource::Fsize, 0))
        .and_then(|()| limit(Resource::Core, 0))
        .and_then(|()| rustix::process::setpriority_process(None, NICENESS));
    if let Err(error) = limited {
        eprintln!("cannot take the limits: {error}");
        return 1;
    }
    let mut component = Vec::new();
    let done = std::io::stdin().read_to_end(&mut component).map_err(|error| (1, error.to_string())).and_then(|_| {
        let artifact = compile(&component).map_err(|error| (REFUSED, error))?;
        drop(component);
        std::io::stdout().write_all(&artifact).map_err(|error| (1, error.to_string()))
    });
    match done {
        Ok(()) => 0,
        Err((code, reason)) => {
            // No more than is read, or the pipe would be closed under it.
            eprintln!("{}", &reason[..reason.floor_char_boundary(COMPLAINT as usize - 1)]);
            code
        }
    }
}

fn compile(component: &[u8]) -> Result<Vec<u8>, String> {
    let said = |error: wasmtime::Error| error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let engine = engine::compiling().map_err(said)?;
    Component::from_binary(&engine, component).and_then(|component| component.serialize()).map_err(said)
}
