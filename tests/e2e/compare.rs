//! `smtptrace compare`: what changed, and what only seems to have.

use std::{fs, net::SocketAddr, time::Duration};

use serde_json::Value;
use tests::{
    lab::{self, Lab},
    needs,
    server::{Script, Server, Step},
    session::Session,
    tracer::{self, Run, Tracer},
};

const SESSIONS: usize = 120;
const PATIENCE: Duration = Duration::from_secs(10);

/// Two recordings of the same time: one of the sessions to a server, the other of those to a second one
/// that greets after `pause`. The sessions take turns, so that whatever else goes on falls on both.
fn side_by_side(lab: &Lab, pause: Duration) -> [Run; 2] {
    let second: SocketAddr = (lab::server_v4(1), lab.port()).into();
    let prompt = Script::mail_server("220 server.test ESMTP");
    let slow = Script::default().pause(pause).send("220 server.test ESMTP\r\n").then(Step::Serve);
    let _first_server = Server::start(&lab.server, lab.server_v4(), prompt).unwrap();
    let _second_server = Server::start(&lab.server, second, slow).unwrap();
    let port = lab.port().to_string();
    let tracers = [lab.server_v4(), second].map(|to| {
        let dest = to.ip().to_string();
        let file = lab.file(&format!("{dest}.jsonl"));
        Tracer::start_raw(&file, &["--dport", &port, "--dest", &dest]).unwrap()
    });
    for i in 0..SESSIONS {
        let order = if i % 2 == 0 { [lab.server_v4(), second] } else { [second, lab.server_v4()] };
        for to in order {
            let mut session = Session::connect(&lab.client, to).unwrap();
            session.begin().unwrap();
            session.message(300).unwrap();
            session.quit().unwrap();
        }
    }
    lab.wait_for_ends(PATIENCE).unwrap();
    let runs = tracers.map(|tracer| tracer.stop_cleanly().unwrap());
    for run in &runs {
        assert_eq!(run.recording.connections.len(), SESSIONS);
    }
    runs
}

fn compare(arguments: &[&str]) -> Value {
    let arguments = [&["compare", "--format", "json"], arguments].concat();
    let output = tracer::command(arguments).unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Names and quantiles of the rows that differ, in all destinations together.
fn differences(comparison: &Value) -> Vec<(String, Option<f64>)> {
    let rows = comparison["totals"]["rows"].as_array().unwrap();
    let real = rows.iter().filter(|row| row["difference"]["is_real"] == true);
    real.map(|row| (row["measure"].as_str().unwrap().to_owned(), row["quantile"].as_f64()))
        .collect()
}

#[test]
fn two_servers_alike_show_no_difference() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let [first, second] = side_by_side(&lab, Duration::ZERO);
    let files = [first.file.to_str().unwrap(), second.file.to_str().unwrap()];
    let comparison = compare(&[&["--group-by", "host"], &files[..]].concat());
    assert_eq!(differences(&comparison), [], "{comparison}");
    assert_eq!(comparison["destinations"][0]["key"], "server.test", "{comparison}");
    assert_eq!(comparison["before"]["connections"], SESSIONS, "{comparison}");
    // By address they have nothing in common.
    let comparison = compare(&files);
    assert_eq!((&comparison["only_before"], &comparison["only_after"]), (&1.into(), &1.into()));
    // A recording against itself: every row is the same.
    let same = compare(&[files[0], files[0]]);
    let rows = same["totals"]["rows"].as_array().unwrap();
    assert!(rows.len() > 15, "{same}");
    assert!(rows.iter().all(|row| row["difference"]["value"] == 0.0), "{same}");
}

#[test]
fn a_slow_greeting_is_found_and_nothing_else() {
    needs!(Namespaces, Tracer);
    let lab = Lab::up().unwrap();
    let [first, second] = side_by_side(&lab, Duration::from_millis(60));
    let (first, second) = (first.file.to_str().unwrap(), second.file.to_str().unwrap());
    let by_host = ["--group-by", "host"];
    let comparison = compare(&[&by_host[..], &[first, second]].concat());
    let found = differences(&comparison);
    for measure in ["banner_us", "greeting_us"] {
        assert!(found.contains(&(measure.to_owned(), Some(0.5))), "{found:?}");
    }
    // A slow greeting makes a longer session; it changes neither connects nor messages.
    for (measure, _) in &found {
        assert!(
            ["banner_us", "greeting_us", "lifetime_us"].contains(&measure.as_str()),
            "{found:?}"
        );
    }
    let rows = comparison["totals"]["rows"].as_array().unwrap();
    let greeting = rows.iter().find(|row| row["measure"] == "greeting_us").unwrap();
    let value = greeting["difference"]["value"].as_f64().unwrap();
    assert!((50_000.0..90_000.0).contains(&value), "{greeting}");
    assert!(greeting["difference"]["low"].as_f64().unwrap() > 40_000.0, "{greeting}");

    // A report in place of a recording says the same.
    let saved = lab.file("first.json");
    let path = saved.to_str().unwrap();
    let make = [&["report", "--format", "json", "--output", path, first], &by_host[..]].concat();
    assert!(tracer::command(make).unwrap().status.success());
    let mixed = compare(&[path, second]);
    assert_eq!(mixed["totals"], comparison["totals"]);
    assert_eq!(mixed["group_by"], "host", "that of the report");
    // Compact, as jq -c writes it, it is a report all the same.
    let text = fs::read_to_string(&saved).unwrap();
    let compact: Value = serde_json::from_str(&text).unwrap();
    fs::write(&saved, format!("{compact}\n")).unwrap();
    assert_eq!(compare(&[path, second])["totals"], comparison["totals"]);
    // It cannot be grouped anew.
    let output = tracer::command(["compare", "--group-by", "address", path, second]).unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("grouped by host"), "{message}");

    let output = tracer::command([&["compare", first, second], &by_host[..]].concat()).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("greeting ms p50"), "{text}");
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    println!("{text}");
}
