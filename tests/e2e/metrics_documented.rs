//! What docs/metrics.md, the dashboard and the alert rules say of the metrics, held against a real scrape.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tests::{
    lab::{self, Lab},
    needs, python,
    scrape::{self, Exposition, OPENMETRICS},
    server::{Script, Server},
    session::{Session, failing_connect},
    tracer::Tracer,
    wait,
};

/// A family as docs/metrics.md has it: type, labels, meaning.
type Documented = (String, BTreeSet<String>, String);

fn documented() -> BTreeMap<String, Documented> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let text = std::fs::read_to_string(file).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let labels = cells[3].split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        let name = cells[0].trim_end_matches('`').to_owned();
        (name, (cells[1].to_owned(), labels, cells[4].to_owned()))
    })
    .collect()
}

/// The family that the sample `name` belongs to.
fn family<'a>(all: &'a BTreeMap<String, Documented>, name: &str) -> Option<&'a Documented> {
    let bare = ["_bucket", "_count", "_sum"].iter().find_map(|suffix| name.strip_suffix(suffix));
    let histogram = bare.and_then(|bare| all.get(bare)).filter(|it| it.0 == "histogram");
    all.get(name).filter(|it| it.0 != "histogram").or(histogram)
}

#[test]
fn what_is_served_is_what_is_documented() {
    needs!(Namespaces, Tracer, PythonModule("prometheus_client"));
    let lab = Lab::up().unwrap();
    let to = lab.server_v4();
    let _server = Server::start(&lab.server, to, Script::mail_server("220 server.test")).unwrap();
    let address = scrape::free_address().unwrap();
    let listen = address.to_string();
    let tracer = Tracer::start_with(&lab, &["--listen", &listen, "--measure-overhead"]).unwrap();
    let mut session = Session::connect(&lab.client, to).unwrap();
    session.begin().unwrap();
    session.message(500).unwrap();
    session.quit().unwrap();
    failing_connect(&lab.client, (lab::server_v4(1), lab.port()).into()).unwrap();
    let what = "two connections, and a scrape before this one";
    let exposition = wait::until(what, Duration::from_secs(30), || {
        let text = scrape::get(address, OPENMETRICS)?.body;
        let exposition = Exposition::parse(&text, OPENMETRICS, &lab.file("metrics.txt"))?;
        let ended = exposition.sum("smtptrace_connections_total", &[]) == Some(2.0);
        let scraped = exposition.sum("smtptrace_scrapes_total", &[]).is_some();
        Ok((ended && scraped).then_some(exposition))
    })
    .unwrap();
    let documented = documented();
    let mut seen = BTreeSet::new();
    for sample in &exposition.samples {
        let (kind, labels, help) = family(&documented, &sample.name).expect(&sample.name);
        assert_eq!((&sample.kind, &sample.help), (kind, help), "{sample:?}");
        let has: BTreeSet<String> =
            sample.labels.keys().filter(|it| *it != "le").cloned().collect();
        assert_eq!(&has, labels, "{sample:?}");
        seen.insert(sample.family.clone());
    }
    assert!(seen.len() >= 35, "{} families: {seen:?}", seen.len());
    assert!(exposition.sum("smtptrace_hook_runs_total", &[]) > Some(0.0), "measured while it runs");
    tracer.stop_cleanly().unwrap();
}

/// Prints the expressions of the dashboard and of the alert rules, one JSON string per line.
const EXPRESSIONS: &str = "
import json, sys, yaml
for panel in json.load(open(sys.argv[1]))['panels']:
    for target in panel['targets']:
        print(json.dumps(target['expr']))
for group in yaml.safe_load(open(sys.argv[2]))['groups']:
    for rule in group['rules']:
        assert rule['alert'] and rule['labels']['severity'] and rule['annotations']['summary']
        print(json.dumps(rule['expr']))
";

#[test]
fn dashboard_and_alerts_use_what_there_is() {
    needs!(PythonModule("yaml"));
    let contrib = concat!(env!("CARGO_MANIFEST_DIR"), "/../contrib");
    let files = ["grafana/smtptrace.json", "prometheus/alerts.yml"];
    let [dashboard, alerts] = files.map(|file| format!("{contrib}/{file}"));
    let lines = python::run(EXPRESSIONS, &[&dashboard, &alerts]).unwrap();
    let documented = documented();
    for line in lines.lines() {
        let expression: String = serde_json::from_str(line).unwrap();
        let mut known: BTreeSet<&str> = BTreeSet::from(["instance"]);
        for (name, selector) in selectors(&expression) {
            let (kind, labels, _) = family(&documented, name).expect(name);
            known.extend(labels.iter().map(String::as_str));
            known.extend((kind == "histogram").then_some("le"));
            for label in selector {
                assert!(label == "instance" || labels.contains(label), "{label} in {expression}");
            }
        }
        for label in groupings(&expression) {
            assert!(known.contains(label), "{label} in {expression}");
        }
    }
    assert!(lines.lines().count() > 20);
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Each metric of an expression with the labels in its selector.
fn selectors(expression: &str) -> Vec<(&str, Vec<&str>)> {
    let starts = expression.match_indices("smtptrace_").map(|(at, _)| &expression[at..]);
    starts
        .map(|rest| {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let selector = rest[end..].strip_prefix('{').and_then(|it| it.split('}').next());
            let labels = selector.into_iter().flat_map(|it| it.split(','));
            let labels = labels.map(|it| &it[..it.find(|c| !is_word(c)).unwrap_or(it.len())]);
            (&rest[..end], labels.collect())
        })
        .collect()
}

/// The labels after `by` and `on`.
fn groupings(expression: &str) -> Vec<&str> {
    let begins = ["by (", "on ("].into_iter().flat_map(|word| expression.split(word).skip(1));
    begins
        .flat_map(|rest| rest.split(')').next().unwrap_or_default().split(','))
        .map(str::trim)
        .collect()
}
