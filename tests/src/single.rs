//! One connection, traced and captured.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::{
    capture::Capture,
    comparison::{self, Pair},
    flow::Flow,
    lab::Lab,
    recording::Record,
    server::{Script, Server},
    session::{Session, SocketKind},
    tracer::{Run, Tracer},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Traces and captures one connection to a server that plays `script`. `prepare` may set options on its
/// socket; `work` makes it end.
pub fn trace(
    lab: &Lab,
    script: Script,
    prepare: impl FnOnce(&socket2::Socket) -> std::io::Result<()> + Send,
    work: impl FnOnce(Session),
) -> Result<(Record, Flow)> {
    let (run, flow) = trace_with(lab, &[], script, prepare, work)?;
    Ok((run.recording.single()?.clone(), flow))
}

/// The same, with more arguments of smtptrace.
pub fn trace_with(
    lab: &Lab,
    arguments: &[&str],
    script: Script,
    prepare: impl FnOnce(&socket2::Socket) -> std::io::Result<()> + Send,
    work: impl FnOnce(Session),
) -> Result<(Run, Flow)> {
    let _server = Server::start(&lab.server, lab.server_v4(), script)?;
    let capture = Capture::start(&lab.client, "c0", lab.port(), &lab.file("c0.pcap"))?;
    let tracer = Tracer::start_with(lab, arguments)?;
    let kind = SocketKind::Native;
    work(Session::connect_with(&lab.client, lab.server_v4(), kind, prepare)?);
    lab.wait_for_ends(PATIENCE)?;
    let run = tracer.stop_cleanly()?;
    let flows = capture.stop()?;
    let pairs = comparison::pair(&run.recording.connections, &flows)?;
    let [Pair { flow, .. }] = pairs.as_slice() else { bail!("not one connection: {pairs:?}") };
    let flow = (*flow).clone();
    Ok((run, flow))
}
