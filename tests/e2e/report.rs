//! Reports from recordings.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tests::{
    lab::{self, Lab},
    needs, report,
    server::{Script, Server},
    session::{Session, failing_connect},
    tracer::{self, Run, Tracer},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(5);

/// Traces some sessions to two destinations and a failed connect.
fn trace(lab: &Lab, arguments: &[&str]) -> Run {
    let second = (lab::server_v4(1), lab.port()).into();
    let script = Script::mail_server("220 server.test ESMTP");
    let _first = Server::start(&lab.server, lab.server_v4(), script.clone()).unwrap();
    let _second = Server::start(&lab.server, second, script).unwrap();
    let tracer = Tracer::start_with(lab, arguments).unwrap();
    for (to, messages) in [(lab.server_v4(), 2), (lab.server_v4(), 0), (second, 1)] {
        let mut session = Session::connect(&lab.client, to).unwrap();
        session.begin().unwrap();
        for _ in 0..messages {
            session.message(1_000).unwrap();
        }
        session.quit().unwrap();
    }
    failing_connect(&lab.client, lab.server_v6()).unwrap();
    lab.wait_for_ends(PATIENCE).unwrap();
    tracer.stop_cleanly().unwrap()
}

fn report_on(files: &[&str]) -> Value {
    let arguments = [&["report", "--format", "json"], files].concat();
    let output = tracer::command(arguments).unwrap();
    assert!(output.status.success(), "{output:?}");
    report::parse(&String::from_utf8(output.stdout).unwrap()).unwrap()
}

fn connections(report: &Value) -> u64 {
    let destinations = report::destinations(report).unwrap();
    destinations.iter().map(|destination| destination["connections"].as_u64().unwrap()).sum()
}

#[test]
fn a_recording_gives_the_report_of_the_live_run() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let live = lab.file("live.json");
    let run = trace(&lab, &["--format", "json", "--output", live.to_str().unwrap()]);
    assert_eq!(run.stdout, "", "the report went to the file");
    let live = report::read(&live).unwrap();
    let later = report_on(&[run.file.to_str().unwrap()]);
    assert_eq!(report::destinations(&live).unwrap(), report::destinations(&later).unwrap());
    assert_eq!(live["verdicts"], later["verdicts"]);
    assert_eq!(live["trust"]["events_lost"], 0);

    let first = report::destination(&later, "10.71.2.2").unwrap();
    assert_eq!(first["connections"], 2, "{first}");
    assert_eq!(first["connect_failures"], 0, "{first}");
    assert_eq!(first["transactions"], 2, "{first}");
    assert_eq!(first["unused_connections"], 1, "{first}");
    assert_eq!(first["reuse_ratio"], 0.5, "{first}");
    let refused = report::destination(&later, "fd71:2::2").unwrap();
    assert_eq!(refused["connect_failures"], 1, "{refused}");
}

#[test]
fn two_recordings_add_up() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let first = trace(&lab, &[]);
    let copy = lab.file("first.jsonl");
    fs::rename(&first.file, &copy).unwrap();
    let second = trace(&lab, &[]);
    let (first, second) = (copy.to_str().unwrap(), second.file.to_str().unwrap());
    let both = report_on(&[first, second]);
    assert_eq!(connections(&both), connections(&report_on(&[first])) * 2);
    let counted = report::destination(&both, "10.71.2.2").unwrap();
    let histogram = &counted["histograms"]["lifetime_us"];
    assert_eq!(histogram["count"], 4, "{counted}");
    assert!(histogram["max"].as_u64() >= histogram["p50"].as_u64(), "{counted}");
}

#[test]
fn a_recording_cut_short_is_read_as_far_as_it_goes() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let run = trace(&lab, &[]);
    let text = fs::read_to_string(&run.file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    // The trailer is gone and the last connection ends in the middle.
    let (whole, last) = (&lines[..lines.len() - 2], lines[lines.len() - 2]);
    let cut = lab.file("cut.jsonl");
    fs::write(&cut, format!("{}\n{}", whole.join("\n"), &last[..last.len() / 2])).unwrap();
    let report = report_on(&[cut.to_str().unwrap()]);
    let expected = run.recording.connections.len() as u64 - 1;
    assert_eq!(connections(&report), expected);
    // The cut is told by the missing trailer.
    assert_eq!(report["trust"]["unfinished_recordings"], 1, "{}", report["trust"]);

    // A line that is broken in the middle of the file is told by itself.
    let broken = lab.file("broken.jsonl");
    fs::write(&broken, text.replacen("\"kind\":\"connection\"", "\"kind\":\"conn", 1)).unwrap();
    let report = report_on(&[broken.to_str().unwrap()]);
    assert_eq!(connections(&report), expected);
    assert_eq!(report["trust"]["unreadable_lines"], 1, "{}", report["trust"]);
    assert_eq!(report["trust"]["unfinished_recordings"], 0, "{}", report["trust"]);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    needs!(Tracer);
    let missing = "/nonexistent/recording.jsonl";
    let directory = env!("CARGO_MANIFEST_DIR");
    for file in [missing, directory] {
        let output = tracer::command(["report", file]).unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(message.contains(file), "{message}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn a_closed_pipe_is_no_failure() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let run = trace(&lab, &[]);
    for format in ["text", "json"] {
        let mut command = Command::new(tracer::binary());
        command.arg("report").arg(&run.file).args(["--format", format]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        drop(process.stdout.take());
        wait::until("the report", PATIENCE, || Ok(process.try_wait()?)).unwrap();
        let output = process.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{format}: {output:?}");
        assert!(output.stderr.is_empty(), "{format}: {output:?}");
    }
}

/// Connections by the keys of destinations.
fn keys(report: &Value) -> BTreeMap<&str, u64> {
    let destinations = report::destinations(report).unwrap().iter();
    destinations
        .map(|it| (it["key"].as_str().unwrap(), it["connections"].as_u64().unwrap()))
        .collect()
}

#[test]
fn destinations_are_grouped_and_their_number_is_bounded() {
    needs!(Namespaces, Tracer);
    // Two hosts of one provider, whose domain is under a public suffix of two labels.
    let hosts = ["mx1.alpha.co.uk", "mx2.alpha.co.uk", "mail.beta.org"];
    let lab = Lab::up().unwrap();
    let at = |offset| SocketAddr::from((lab::server_v4(offset), lab.port()));
    let _servers: Vec<Server> = (0..)
        .zip(hosts)
        .map(|(offset, host)| {
            let script = Script::mail_server(&format!("220 {host} ESMTP"));
            Server::start(&lab.server, at(offset), script).unwrap()
        })
        .collect();
    let tracer = Tracer::start_with(&lab, &["--max-destinations", "2"]).unwrap();
    for offset in [0, 1, 2, 2] {
        let mut session = Session::connect(&lab.client, at(offset)).unwrap();
        session.begin().unwrap();
        session.quit().unwrap();
        lab.wait_for_ends(PATIENCE).unwrap();
    }
    let run = tracer.stop_cleanly().unwrap();
    let lines = |start: &str| run.stdout.lines().filter(|line| line.starts_with(start)).count();
    assert!(lines("~other ") > 0 && lines("10.71.2.2 ") > 0, "{}", run.stdout);
    assert_eq!(lines("10.71.2.4 "), 0, "{}", run.stdout);
    assert!(run.stdout.contains("2 went to others"), "the report says so: {}", run.stdout);

    let file = run.file.to_str().unwrap();
    let bounded = report_on(&[file, "--max-destinations", "2"]);
    assert_eq!(keys(&bounded), [("10.71.2.2", 1), ("10.71.2.3", 1), ("~other", 2)].into());
    let by_provider = report_on(&[file, "--group-by", "provider"]);
    assert_eq!(keys(&by_provider), [("alpha.co.uk", 2), ("beta.org", 2)].into());
    let by_host = report_on(&[file, "--group-by", "host"]);
    assert_eq!(keys(&by_host), [(hosts[0], 1), (hosts[1], 1), (hosts[2], 2)].into());
}
