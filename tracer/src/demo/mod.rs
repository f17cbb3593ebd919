//! `smtptrace demo`: mail servers, a box that forgets sessions and a client, traced for half a minute, in
//! network namespaces that vanish with it.
//!
//! The scene is a process of its own, so that what it costs is not taken for what tracing costs. The trace
//! is the normal one; it knows nothing of what the verdicts should be.

mod destinations;
mod device;
mod middlebox;
mod outcome;
mod scene;
mod sender;
mod server;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result, bail};
use clap::{Parser as _, ValueEnum as _};
use tracer_analysis::report::Report;

use crate::{
    cli::{Cli, DemoArgs, TraceArgs},
    sink::safe_text::wrap,
    status::Status,
    trace,
};
use destinations::{DESTINATIONS, PORT};
use scene::Message;
use server::Count;

/// Runs the command.
pub(crate) fn run(args: &DemoArgs) -> Result<Status> {
    if args.scene {
        scene::run();
    }
    trace::preflight(None)?;
    let (scene, netns) = Scene::start()?;
    let trace_args = trace_args(args, netns)?;
    introduce();
    let (report, end) = scene.trace(&trace_args)?;
    match end {
        None => {
            eprintln!("smtptrace: the demo was stopped early; nothing is checked");
            Ok(Status::Done)
        }
        Some(Message::Done { counts, undelivered }) => check(&report, &counts, undelivered),
        Some(Message::Failed(why)) => bail!("the demo could not go on: {why}"),
        Some(Message::Ready { .. }) => bail!("the demo did not go on; please try again"),
    }
}

/// A trace of the client's namespace.
fn trace_args(args: &DemoArgs, netns: u32) -> Result<TraceArgs> {
    let format = args.format.to_possible_value().context("unknown format")?;
    let (port, netns) = (PORT.to_string(), netns.to_string());
    let fixed =
        ["smtptrace", "--dport", &port, "--netns", &netns, "--group-by", "host", "--format"];
    let mut words: Vec<OsString> = fixed.iter().map(Into::into).collect();
    words.push(format.get_name().into());
    for (option, path) in [("--output", &args.output), ("--record", &args.record)] {
        if let Some(path) = path {
            words.extend([option.into(), path.into()]);
        }
    }
    Ok(Cli::try_parse_from(words).context("cannot make the arguments of the trace")?.trace)
}

/// The process in which mail is sent. It is ended when this is dropped.
struct Scene {
    process: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Scene {
    /// Starts it, and returns when it stands, with the namespace of its client.
    fn start() -> Result<(Self, u32)> {
        let mut command = Command::new("/proc/self/exe");
        command.args(["demo", "--scene"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        // Ctrl-C is for this process, which then ends the other one.
        let mut process = command.process_group(0).spawn().context("cannot start the demo")?;
        let stdin = process.stdin.take();
        let stdout = BufReader::new(process.stdout.take().context("no pipe from the demo")?);
        let mut scene = Self { process, stdin, stdout };
        match next(&mut scene.stdout)? {
            Message::Ready { netns } => Ok((scene, netns)),
            Message::Failed(why) => bail!("cannot set up the demo: {why}"),
            Message::Done { .. } => bail!("cannot set up the demo: it ended at once"),
        }
    }

    /// Traces what happens there to its end. Returns the report and how it ended; `None` if the trace was
    /// stopped before.
    fn trace(mut self, args: &TraceArgs) -> Result<(Report, Option<Message>)> {
        let (end, has_ended) = (Mutex::new(None), AtomicBool::new(false));
        thread::scope(|scope| {
            let (stdout, end, has_ended) = (&mut self.stdout, &end, &has_ended);
            let listen = move || {
                let last =
                    next(stdout).unwrap_or_else(|error| Message::Failed(format!("{error:#}")));
                *end.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
                has_ended.store(true, Ordering::SeqCst);
            };
            let stdin = &mut self.stdin;
            // By then the trace has given up its privileges, of which a thread has its own.
            let begin = || {
                let thread = thread::Builder::new().spawn_scoped(scope, listen);
                thread.context("cannot start a thread")?;
                let to = stdin.as_mut().context("no pipe to the demo")?;
                to.write_all(b"\n").context("the demo has ended before it began")
            };
            let report = trace::run_beside(args, begin, || has_ended.load(Ordering::SeqCst));
            let last = end.lock().unwrap_or_else(PoisonError::into_inner).take();
            // The scene ends, and with it what the thread reads.
            self.stdin.take();
            Ok((report?, last))
        })
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.stdin.take();
        // Its end of the pipe says that it may go; it fails only if the process is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn next(stdout: &mut BufReader<ChildStdout>) -> Result<Message> {
    let mut line = String::new();
    stdout.read_line(&mut line).context("cannot read from the demo")?;
    serde_json::from_str(&line).context("its process has ended")
}

/// Says on stderr what is there.
fn introduce() {
    eprintln!("smtptrace: a demo in network namespaces of its own; it takes about half a minute");
    for destination in DESTINATIONS {
        let host = format!("  {:<20}", destination.host);
        eprint!("{}", wrap(&host, 22, destination.is));
    }
}

/// Says on stderr whether the report is right; it is an error if it is not.
fn check(report: &Report, counts: &BTreeMap<String, Count>, undelivered: u64) -> Result<Status> {
    let mut wrong = 0_u32;
    eprintln!("smtptrace: what was built, and whether the report says so:");
    for (destination, findings) in outcome::findings(report, counts) {
        eprint!("{}", wrap("  ", 4, &format!("{}: {}", destination.host, destination.is)));
        for finding in findings {
            let head = if finding.holds { "    yes   " } else { "    WRONG " };
            eprint!("{}", wrap(head, 10, &finding.text));
            wrong += u32::from(!finding.holds);
        }
    }
    if undelivered > 0 {
        eprintln!("  {undelivered} messages were not delivered; this machine is very busy");
    }
    if wrong > 0 {
        bail!("{wrong} findings of the demo are not as they must be; please report this as a bug");
    }
    Ok(Status::Done)
}
