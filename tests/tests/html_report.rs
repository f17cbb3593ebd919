//! The report in HTML, in a browser: its numbers, its table, its charts, and that it needs nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tests::{
    browser::Browser,
    idling::idle,
    lab::{Lab, server_v4},
    limited::{Limit, LimitedServer},
    middlebox::{Manner, Middlebox},
    prerequisite::{Prerequisite, skipped},
    report,
    server::{Script, Server},
    session::Session,
    tracer::{self, Tracer},
};

const NEEDS: [Prerequisite; 3] =
    [Prerequisite::Namespaces, Prerequisite::Tracer, Prerequisite::Chromium];
const PATIENCE: Duration = Duration::from_secs(30);
/// Allowed connections at a time.
const LIMIT: u64 = 3;
/// Idle time after which the box forgets, and the gaps around it, in milliseconds.
const FORGETS: Duration = Duration::from_secs(2);
const GAPS_MS: [u64; 6] = [500, 1_000, 1_300, 2_800, 3_300, 3_800];
/// Greets with what should never reach a page.
const HOSTILE: &str = "220 x\"><script>alert(1)</script><img/src=http://192.0.2.9/x> ESMTP";

fn messages(lab: &Lab, to: SocketAddr, count: usize) {
    let mut session = Session::connect(&lab.client, to).unwrap();
    session.begin().unwrap();
    for _ in 0..count {
        session.message(500).unwrap();
        thread::sleep(Duration::from_millis(150));
    }
    session.quit().unwrap();
}

/// Opens `at_once` connections together; those that are greeted carry a message.
fn burst(lab: &Lab, to: SocketAddr, at_once: usize) {
    let mut greeted = Vec::new();
    for _ in 0..at_once {
        let mut session = Session::connect(&lab.client, to).unwrap();
        if session.reply().unwrap().starts_with("220") {
            session.command("EHLO client.test", "250").unwrap();
            greeted.push(session);
        }
    }
    for mut session in greeted {
        session.message(100).unwrap();
        session.quit().unwrap();
    }
}

/// Traffic of every kind that the page draws. Returns the page of the trace, and its recording.
fn traced(lab: &Lab) -> (PathBuf, PathBuf) {
    let address = |n: u8| SocketAddr::from((server_v4(n), lab.port()));
    let limited = LimitedServer::start(&lab.server, address(0), Limit::Open(LIMIT)).unwrap();
    let plain = Script::mail_server("220 mx.example.test ESMTP");
    let _servers = [(1, plain.clone()), (2, plain), (3, Script::mail_server(HOSTILE))]
        .map(|(n, script)| Server::start(&lab.server, address(n), script).unwrap());
    let _box = Middlebox::before(server_v4(1)).forgetting(FORGETS, Manner::Silent).install(lab);
    lab.client.sysctl("net.ipv4.tcp_orphan_retries", "2").unwrap();
    let page = lab.file("live.html");
    let arguments = ["--format", "html", "--output", page.to_str().unwrap()];
    let tracer = Tracer::start_with(lab, &arguments).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| (1..8).for_each(|at_once| burst(lab, address(0), at_once)));
        for gap in GAPS_MS.iter().flat_map(|gap| [gap; 3]) {
            scope.spawn(move || {
                let session = Session::connect(&lab.client, address(1)).unwrap();
                idle(session, &[Duration::from_millis(*gap)], Duration::from_secs(2)).unwrap();
            });
        }
        scope.spawn(|| {
            for n in 0..6 {
                messages(lab, address(2), 1 + n % 3);
                // Longer than a session is kept, so that the replay of what ran fits and is drawn.
                thread::sleep(Duration::from_millis(700));
            }
        });
        scope.spawn(|| messages(lab, address(3), 1));
        scope.spawn(|| Session::connect(&lab.client, address(4)).unwrap_err());
    });
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = tracer.stop_cleanly().unwrap();
    assert!(limited.tally().1 > 0, "nothing was refused");
    assert_eq!(run.stdout, "");
    (page, run.file)
}

fn report_of(recording: &Path, arguments: &[&str]) -> Vec<u8> {
    let output =
        tracer::command([&["report", recording.to_str().unwrap()], arguments].concat()).unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// The number at `a.b.c`.
fn number(of: &Value, path: &str) -> Option<f64> {
    path.split('.').fold(of, |value, name| &value[name]).as_f64()
}

/// What stands in the cells of a row: its key, and numbers by their names.
const ROWS: &str = "rows => [...rows].map(row => [row.dataset.key ?? row.dataset.distribution, \
     Object.fromEntries([...row.querySelectorAll('td[data-f]')].map(cell => \
     [cell.dataset.f, cell.dataset.v === undefined ? null : Number(cell.dataset.v)]))])";

fn rows(browser: &mut Browser, selector: &str) -> Vec<(String, Value)> {
    let found = browser.evaluate(&format!("({ROWS})(document.querySelectorAll({selector:?}))"));
    let found = found.unwrap();
    let rows = found.as_array().unwrap().iter();
    rows.map(|row| (row[0].as_str().unwrap().to_owned(), row[1].clone())).collect()
}

fn check_numbers(browser: &mut Browser, report: &Value) {
    let shown = rows(browser, "#destinations tbody tr");
    let destinations = report::destinations(report).unwrap();
    assert_eq!(shown.len(), destinations.len());
    let mut compared = 0;
    let totals = rows(browser, "#destinations tfoot tr").remove(0).1;
    let all = shown.iter().map(|(key, row)| (report::destination(report, key).unwrap(), row));
    for (of, row) in all.chain([(&report["totals"], &totals)]) {
        for (name, value) in row.as_object().unwrap() {
            assert_eq!(value.as_f64(), number(of, name), "{name} in {row} and {of:#}");
            compared += usize::from(!value.is_null());
        }
    }
    assert!(compared > 60, "{compared} numbers compared");
    let histograms = &report["totals"]["histograms"];
    let distributions = rows(browser, "#all .distributions tbody tr");
    assert!(distributions.len() >= 8, "{distributions:?}");
    for (metric, row) in &distributions {
        for (name, value) in row.as_object().unwrap() {
            assert_eq!(value.as_f64(), number(&histograms[metric], name), "{metric}.{name}");
        }
    }
}

fn check_sorting(browser: &mut Browser) {
    let keys = |browser: &mut Browser, field: &str| -> Vec<f64> {
        let rows = rows(browser, "#destinations tbody tr");
        rows.iter().filter_map(|(_, row)| row[field].as_f64()).collect()
    };
    let click = "document.querySelector('#destinations tr.names th:nth-child(3) button').click()";
    let before = keys(browser, "connections");
    let mut ascending = before.clone();
    ascending.sort_by(f64::total_cmp);
    let descending: Vec<f64> = ascending.iter().rev().copied().collect();
    browser.evaluate(click).unwrap();
    assert_eq!(keys(browser, "connections"), descending, "before: {before:?}");
    browser.evaluate(click).unwrap();
    assert_eq!(keys(browser, "connections"), ascending);
    let state = browser.evaluate("document.querySelector('[aria-sort]').ariaSort").unwrap();
    assert_eq!(state, "ascending");
    // What is not known comes last, whatever the order.
    let idle = "document.querySelector('#destinations tr.names th:last-child button').click()";
    for _ in 0..2 {
        browser.evaluate(idle).unwrap();
        let rows = rows(browser, "#destinations tbody tr");
        let known: Vec<bool> =
            rows.iter().map(|(_, row)| row["idle_limit.died_s"].is_number()).collect();
        assert_eq!(known, [true, false, false, false, false], "{rows:?}");
    }
}

fn check_charts(browser: &mut Browser, report: &Value) {
    let count = |browser: &mut Browser, selector: &str| {
        let length = format!("document.querySelectorAll({selector:?}).length");
        browser.evaluate(&length).unwrap().as_u64().unwrap()
    };
    let described = "[...document.querySelectorAll('svg')].every(svg => \
         svg.getAttribute('aria-label') && svg.querySelector('desc').textContent)";
    assert_eq!(browser.evaluate(described).unwrap(), true);
    assert!(count(browser, "#all .small svg") >= 6);
    // One course for each destination and one for all.
    let destinations = report::destinations(report).unwrap().len() as u64;
    assert_eq!(count(browser, "figure.widest"), destinations + 1);
    let section = |browser: &mut Browser, key: &str| {
        let found = format!(
            "[...document.querySelectorAll('details.destination')].find(it => \
             it.querySelector('.key').textContent === {key:?}).textContent"
        );
        browser.evaluate(&found).unwrap().as_str().unwrap().to_owned()
    };
    let limited = report::destination(report, &server_v4(0).to_string()).unwrap();
    let replies: u64 = limited["over_time"]["replies_421"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(limited["greeting_codes"]["421"], replies);
    let text = section(browser, &server_v4(0).to_string());
    assert!(text.contains(&format!("{replies} 421 replies")), "{text}");
    let text = section(browser, &server_v4(1).to_string());
    for part in ["Kaplan-Meier", "idle_killed_by_middlebox", "alive after", "dead from"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let text = section(browser, &server_v4(2).to_string());
    for part in ["connections observed", "set-up time saved", "no idle session is known to have"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

/// Keeps a picture beside the page: with `SMTPTRACE_LAB_KEEP` it can be looked at.
fn picture(browser: &mut Browser, file: &Path) {
    let wanted = json!({ "captureBeyondViewport": true });
    let shot = browser.call("Page.captureScreenshot", &wanted).unwrap();
    let text = shot["data"].as_str().unwrap();
    assert!(text.len() > 20_000, "a picture of {} characters", text.len());
    fs::write(file.with_extension("png.base64"), text).unwrap();
}

fn check_looks(browser: &mut Browser, lab: &Lab) {
    let emulate = |browser: &mut Browser, media: &str, scheme: &str| {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        let params = json!({ "media": media, "features": features });
        browser.call("Emulation.setEmulatedMedia", &params).unwrap();
        let colours = "[getComputedStyle(document.body).backgroundColor, \
             getComputedStyle(document.body).color].map(it => \
             it.match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0))";
        let [paper, ink]: [f64; 2] =
            serde_json::from_value(browser.evaluate(colours).unwrap()).unwrap();
        ink - paper
    };
    assert!(emulate(browser, "screen", "light") < -500.0, "dark on light");
    picture(browser, &lab.file("light"));
    assert!(emulate(browser, "screen", "dark") > 500.0, "light on dark");
    picture(browser, &lab.file("dark"));
    assert!(emulate(browser, "print", "dark") < -500.0, "dark on light on paper");
    let hidden = "[...document.querySelectorAll('details > div')].filter(it => \
         !it.checkVisibility({contentVisibilityAuto: true})).length";
    assert_eq!(browser.evaluate(hidden).unwrap(), 0, "folded on paper");
    emulate(browser, "", "light");
    assert_ne!(browser.evaluate(hidden).unwrap(), 0, "nothing is folded on the screen");
    let pdf = browser.call("Page.printToPDF", &json!({})).unwrap();
    let pdf = pdf["data"].as_str().unwrap();
    assert!(pdf.starts_with("JVBERi0") && pdf.len() > 50_000, "no PDF: {} bytes", pdf.len());
    fs::write(lab.file("report.pdf.base64"), pdf).unwrap();
    let phone = json!({ "width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": true });
    browser.call("Emulation.setDeviceMetricsOverride", &phone).unwrap();
    let width = browser.evaluate("document.documentElement.scrollWidth").unwrap();
    assert_eq!(width, 390, "wider than a phone");
    picture(browser, &lab.file("phone"));
}

/// Nothing was asked for but the files, nothing went wrong, and nothing else could be asked for.
fn check_isolation(browser: &mut Browser) {
    let requests: Vec<String> = browser
        .events_of("Network.requestWillBeSent")
        .map(|event| event["request"]["url"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert!(!requests.is_empty());
    assert!(requests.iter().all(|url| url.starts_with("file:///")), "{requests:?}");
    for method in ["Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"] {
        let said: Vec<&Value> = browser.events_of(method).collect();
        assert!(said.is_empty(), "{method}: {said:#?}");
    }
    let refused = "new Promise(done => { \
         addEventListener('securitypolicyviolation', event => done(event.effectiveDirective)); \
         new Image().src = 'http://192.0.2.9/picture.png'; })";
    let params = json!({ "expression": refused, "awaitPromise": true, "returnByValue": true });
    let outcome = browser.call("Runtime.evaluate", &params).unwrap();
    assert_eq!(outcome["result"]["value"], "img-src", "{outcome}");
}

#[test]
fn a_page_shows_what_the_report_says() {
    if skipped("a_page_shows_what_the_report_says", &NEEDS) {
        return;
    }
    let lab = Lab::up().unwrap();
    let (page, recording) = traced(&lab);
    let report =
        report::parse(std::str::from_utf8(&report_of(&recording, &["--format", "json"])).unwrap())
            .unwrap();
    let source = fs::read_to_string(&page).unwrap();
    for outside in ["http:", "https:", " src=", "@import", "url(", "<link"] {
        assert!(!source.contains(outside), "{outside} in the page");
    }
    let mut browser = Browser::start(lab.directory()).unwrap();
    browser.open(&page).unwrap();
    check_numbers(&mut browser, &report);
    check_charts(&mut browser, &report);
    check_sorting(&mut browser);
    check_looks(&mut browser, &lab);

    // The same from the recording, by greeting host: one of them is hostile.
    let second = lab.file("hosts.html");
    fs::write(&second, report_of(&recording, &["--format", "html", "--group-by", "host"])).unwrap();
    browser.open(&second).unwrap();
    let foreign = "document.scripts.length + document.images.length";
    assert_eq!(browser.evaluate(foreign).unwrap(), 1, "a script or picture of the server's");
    let rows = rows(&mut browser, "#destinations tbody tr");
    let ours = |(key, _): &&(String, Value)| key == "mx.example.test";
    assert_eq!(rows.iter().filter(ours).count(), 1, "{rows:?}");
    check_isolation(&mut browser);
}
