//! What the documents promise: the JSON Schemas hold for what smtptrace writes, and the queries of
//! `docs/fleet.md` give what the report says.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use tests::{
    lab::Lab,
    needs, python, report,
    server::{Script, Server},
    session::{Session, failing_connect},
    tracer::{self, Tracer},
};

/// Prints a line for each document that is not valid: its number and why.
const VALIDATE: &str = "
import json, sys
from jsonschema import Draft202012Validator
schema = json.load(open(sys.argv[1]))
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
for number, line in enumerate(open(sys.argv[2])):
    error = next(validator.iter_errors(json.loads(line)), None)
    if error is not None:
        print(number, repr(error.message)[:300])
";

/// Prints the rows of each query of a document, as JSON, one query a line.
const QUERY: &str = "
import json, os, re, sys
import duckdb
document = open(sys.argv[1]).read().split('## Other engines')[0]
os.chdir(sys.argv[2])
blocks = re.findall(r'(?:^    .*\\n|^\\n(?=    ))+', document, re.M)
queries = [b for b in blocks if re.match(r'\\s*(CREATE|SELECT)\\b', b)]
db = duckdb.connect()
db.sql('SET TimeZone = UTC')
for query in queries:
    cursor = db.execute(query)
    if 'CREATE' in query:
        continue
    names = [column[0] for column in cursor.description]
    print(json.dumps([dict(zip(names, row)) for row in cursor.fetchall()], default=str))
";

fn of_project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn recordings() -> [PathBuf; 2] {
    ["mx1.jsonl.zst", "mx2.jsonl"].map(|name| of_project("tests/testdata/recordings").join(name))
}

fn run(arguments: &[&str]) -> String {
    let output = tracer::command(arguments).unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The numbers of the documents that `schema` refuses, with reasons.
fn refused(schema: &str, documents: &[Value], file: &Path) -> Vec<String> {
    let lines: Vec<String> = documents.iter().map(|document| format!("{document}\n")).collect();
    fs::write(file, lines.concat()).unwrap();
    let schema = of_project("docs/schema").join(schema);
    let out = python::run(VALIDATE, &[schema.to_str().unwrap(), file.to_str().unwrap()]).unwrap();
    out.lines().map(ToOwned::to_owned).collect()
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `document` with `pointer` set to `value`; `None` removes the field.
fn changed(document: &Value, pointer: &str, value: Option<Value>) -> Value {
    let mut document = document.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let fields = document.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => fields.insert(name.to_owned(), value),
        None => Some(fields.remove(name).unwrap()),
    };
    document
}

/// Of a real trace: what became of some sessions.
fn trace(lab: &Lab) -> PathBuf {
    let script = Script::mail_server("220 server.test ESMTP");
    let _server = Server::start(&lab.server, lab.server_v4(), script).unwrap();
    let tracer = Tracer::start(lab).unwrap();
    for messages in 0..3 {
        let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
        session.begin().unwrap();
        for _ in 0..messages {
            session.message(500).unwrap();
        }
        session.quit().unwrap();
    }
    failing_connect(&lab.client, lab.server_v6()).unwrap();
    lab.wait_for_ends(Duration::from_secs(10)).unwrap();
    let mut open = Session::connect(&lab.client, lab.server_v4()).unwrap();
    open.begin().unwrap();
    let run = tracer.stop_cleanly().unwrap();
    assert_eq!(run.recording.connections.len(), 5);
    run.file
}

#[test]
fn what_is_written_fits_the_schemas() {
    needs!(Namespaces, Tracer, PythonModule("jsonschema"));
    let lab = Lab::up().unwrap();
    let file = lab.file("documents.jsonl");
    let [mx1, mx2] = recordings();
    let mut broken = None;
    for recording in [trace(&lab), mx1, mx2] {
        let recording = recording.to_str().unwrap();
        let lines = json_lines(&run(&["report", "--format", "jsonl", recording]));
        assert!(lines.len() > 5);
        assert_eq!(refused("recording.schema.json", &lines, &file), [""; 0], "{recording}");
        let report = report::parse(&run(&["report", "--format", "json", recording])).unwrap();
        assert_eq!(
            refused("report.schema.json", std::slice::from_ref(&report), &file),
            [""; 0],
            "{recording}"
        );
        broken = Some((lines[1].clone(), lines[0].clone(), report));
    }

    let (connection, header, report) = broken.unwrap();
    assert!(!report["verdicts"].as_array().unwrap().is_empty(), "{report}");
    let wrong = [
        changed(&connection, "/id", None),
        changed(&connection, "/bytes_sent", Some(json!("many"))),
        changed(&connection, "/end_cause", Some(json!("explosion"))),
        changed(&connection, "/start", Some(json!("yesterday"))),
        changed(&connection, "/turns", Some(json!(-1))),
        changed(&connection, "/lifetime_us", None),
        changed(&connection, "/kind", Some(json!("conection"))),
        changed(&header, "/filters", None),
        changed(&header, "/kind", None),
    ];
    assert_eq!(refused("recording.schema.json", &wrong, &file).len(), wrong.len());
    let wrong = [
        changed(&report, "/verdicts/0/code", None),
        changed(&report, "/verdicts/0/severity", Some(json!("fatal"))),
        changed(&report, "/totals/connections", Some(json!(-1))),
        changed(&report, "/trust/events_lost", None),
        changed(&report, "/destinations", Some(Value::Null)),
    ];
    assert_eq!(refused("report.schema.json", &wrong, &file).len(), wrong.len());

    // A newer version may say more.
    let newer = [changed(&connection, "/colour", Some(json!("green")))];
    assert_eq!(refused("recording.schema.json", &newer, &file), [""; 0]);
    let newer = [changed(&report, "/totals/colour", Some(json!("green")))];
    assert_eq!(refused("report.schema.json", &newer, &file), [""; 0]);
}

/// Two rows or more by the names of their host and destination.
fn row<'a>(rows: &'a Value, host: &str, destination: &str) -> &'a Value {
    let mut rows = rows.as_array().unwrap().iter();
    rows.find(|row| row["host"] == host && row["destination"] == destination).unwrap()
}

fn sum(rows: &Value, column: &str) -> f64 {
    rows.as_array().unwrap().iter().filter_map(|row| row[column].as_f64()).sum()
}

#[test]
fn queries_give_what_the_report_says() {
    needs!(Tracer, PythonModule("duckdb"));
    let directory = std::env::temp_dir().join(format!("smtptrace-fleet-{}", std::process::id()));
    fs::create_dir_all(directory.join("spool")).unwrap();
    for recording in recordings() {
        let name = recording.file_name().unwrap();
        fs::copy(&recording, directory.join("spool").join(name)).unwrap();
    }
    let document = of_project("docs/fleet.md");
    let arguments = [document.to_str().unwrap(), directory.to_str().unwrap()];
    let answers = json_lines(&python::run(QUERY, &arguments).unwrap());
    fs::remove_dir_all(&directory).unwrap();
    let [caching, dead, minutes, idle, senders] = &answers[..] else { panic!("{answers:?}") };

    let mut opened = 0.0;
    for (file, host, greets) in [
        (0, "mx1.example.net", "mta-b.test"), //
        (1, "mx2.example.net", "server.test"),
    ] {
        let file = recordings()[file].to_str().unwrap().to_owned();
        let report = run(&["report", "--format", "json", "--group-by", "host", &file]);
        let report = report::parse(&report).unwrap();
        let said = report::destination(&report, greets).unwrap();
        opened += said["connections"].as_f64().unwrap();

        let found = row(caching, host, greets);
        assert_eq!(found["connections"], said["connections"]);
        assert_eq!(found["messages"], said["transactions"]);
        match said["reuse_ratio"].as_f64() {
            Some(ratio) => assert!((found["reuse_ratio"].as_f64().unwrap() - ratio).abs() < 1e-5),
            None => assert!(found["reuse_ratio"].is_null(), "{found}"),
        }

        let of_host = |rows: &Value| -> Value {
            rows.as_array()
                .unwrap()
                .iter()
                .filter(|row| row["destination"] == greets)
                .cloned()
                .collect()
        };
        let refusals: f64 = said["greeting_codes"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(code, _)| code.as_str() >= "400")
            .filter_map(|(_, count)| count.as_f64())
            .sum();
        assert!((sum(&of_host(minutes), "turned_away") - refusals).abs() < 0.5, "{minutes}");
        let peak = of_host(minutes);
        let peak = peak.as_array().unwrap().iter().filter_map(|row| row["opened"].as_u64()).max();
        assert_eq!(peak, said["connections_per_minute"]["peak"].as_u64());

        let limit = &said["idle_limit"];
        let found = of_host(dead);
        assert!((sum(&found, "dead") - limit["dead_on_reuse"].as_f64().unwrap()).abs() < 0.5);
        let cost = limit["dead_on_reuse_cost_s"].as_f64().unwrap();
        assert!((sum(&found, "cost_s") - cost).abs() < 1e-3, "{found} {limit}");
        let gaps = of_host(idle);
        let gaps = gaps.as_array().unwrap().first().cloned().unwrap_or_default();
        assert_eq!(gaps["gaps"].as_u64().unwrap_or(0), said["histograms"]["idle_us"]["count"]);
    }
    assert!((sum(minutes, "opened") - opened).abs() < 0.5);
    assert!((sum(senders, "connections") - opened).abs() < 0.5);
    assert!(senders[0]["sender"].is_string(), "{senders}");
    assert!(sum(dead, "dead") > 5.0, "nothing died: {dead}");
}
