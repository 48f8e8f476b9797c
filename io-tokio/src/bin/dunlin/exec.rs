//! A service that runs a command of this machine.

use std::ffi::OsString;
use std::pin::pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use dunlin_tokio::{Context, HandlerError, Payload, ServiceBuilder, service};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::output::Fail;

/// What is kept of standard error, in bytes: as much as an application error carries.
const STDERR_BYTES_MAX: usize = 4_096;

/// How an answer is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Answer {
    /// Bytes without a meaning
    Raw,
    /// JSON, so that typed callers can read it
    Json,
}

/// Options of `dunlin serve exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// What is called: SERVICE/ACTION
    #[arg(long)]
    path: String,
    /// Runs at one time. Calls beyond it end in OVERLOADED, unrun
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    running_max: u16,
    /// The longest answer in bytes. A command that prints more is killed
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    output_max: usize,
    /// How callers are to read the answer
    #[arg(long, value_enum, default_value_t = Answer::Raw)]
    answer: Answer,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl ExecArgs {
    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

/// The service that runs the command.
pub(crate) fn exec_service(args: ExecArgs) -> Result<ServiceBuilder, Fail> {
    let Some((service_path, action)) = args.path.rsplit_once('/') else {
        let path = &args.path;
        return Err(Fail::usage(format!(
            "--path {path}: a path is SERVICE/ACTION, for example tools/{path}"
        )));
    };
    let (service_path, action) = (service_path.to_string(), action.to_string());
    // Further calls end in OVERLOADED, unrun.
    let service = service(&service_path).capacity(usize::from(args.running_max), 0);
    let args = Arc::new(args);
    Ok(service.raw_action(&action, move |cx, argument| {
        let args = Arc::clone(&args);
        async move { run(&args, &cx, argument).await }
    }))
}

/// What a command may still print once it has exited: processes that it left behind can hold its pipes for ever.
const PIPES_GRACE: Duration = Duration::from_millis(500);

/// The process group of a run, which may have started others. All of it is killed with this, if the command has not exited
/// by itself: what that leaves behind is meant to go on.
#[cfg(unix)]
struct Group(Option<rustix::process::Pid>);

#[cfg(unix)]
impl Group {
    fn of(child: &Child) -> Group {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Group(id.and_then(rustix::process::Pid::from_raw))
    }
}

#[cfg(unix)]
impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // The group may be empty.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

async fn run(args: &ExecArgs, cx: &Context, argument: Payload) -> Result<Payload, HandlerError> {
    let (_, input) = argument.encode()?;
    let caller = cx.caller().map(|peer| peer.to_string()).unwrap_or_default();
    let token = cx.fence().map(|token| token.to_string()).unwrap_or_default();
    let mut command = Command::new(&args.command[0]);
    #[cfg(unix)]
    command.process_group(0);
    let mut child = command
        .args(&args.command[1..])
        .env("DUNLIN_CALLER", caller)
        .env("DUNLIN_PATH", cx.path().as_str())
        .env("DUNLIN_TOKEN", token)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // The handler is dropped when the caller gives up.
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| HandlerError::application("NOT_STARTED", error.to_string()))?;
    #[cfg(unix)]
    let mut group = Group::of(&child);
    let mut stdin = child.stdin.take().expect("it is piped");
    let stdout = child.stdout.take().expect("it is piped");
    let stderr = child.stderr.take().expect("it is piped");
    let feed = async move {
        // A command need not read its input to the end.
        let _ = stdin.write_all(&input).await;
    };
    let failed = |error: std::io::Error| HandlerError::application("IO", error.to_string());
    let (mut printed, mut complaint) = (Vec::new(), Vec::new());
    {
        let read = async {
            let (_, printed, complaint) = tokio::join!(
                feed,
                take(stdout, &mut printed, args.output_max, true),
                take(stderr, &mut complaint, STDERR_BYTES_MAX, false)
            );
            printed.and(complaint)
        };
        let mut read = pin!(read);
        tokio::select! {
            read = &mut read => read.map_err(failed)?,
            status = child.wait() => {
                status.map_err(failed)?;
                // What it had printed is there by now.
                if let Ok(read) = tokio::time::timeout(PIPES_GRACE, read).await {
                    read.map_err(failed)?;
                }
            }
        }
    }
    if printed.len() > args.output_max {
        return Err(HandlerError::application(
            "OUTPUT_TOO_LARGE",
            format!("the command printed more than {} bytes", args.output_max),
        ));
    }
    let status = child.wait().await.map_err(failed)?;
    #[cfg(unix)]
    {
        group.0 = None;
    }
    if !status.success() {
        let code = status.code().map_or("KILLED".to_string(), |code| format!("EXIT_{code}"));
        let complaint = String::from_utf8_lossy(&complaint).trim_end().to_string();
        let complaint = if complaint.is_empty() { status.to_string() } else { complaint };
        return Err(HandlerError::application(code, complaint));
    }
    Ok(match args.answer {
        Answer::Raw => Payload::raw(printed),
        Answer::Json => Payload::json(printed),
    })
}

/// Reads to the end, keeping at most one byte more than `bytes_max`. Stops there, or reads the rest
/// away.
async fn take(
    mut from: impl AsyncRead + Unpin,
    kept: &mut Vec<u8>,
    bytes_max: usize,
    stop: bool,
) -> std::io::Result<()> {
    (&mut from).take(bytes_max as u64 + 1).read_to_end(kept).await?;
    if !stop {
        tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    }
    Ok(())
}
