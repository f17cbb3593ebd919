//! A mail server as it comes, with TLS, whose mail all gets through: the report has nothing to warn of, and
//! asks for nothing that no host can do.

use std::{thread, time::Duration};

use serde_json::Value;
use tests::{
    lab::Lab,
    needs,
    postfix::{self, Postfix, Starttls},
    report,
    tracer::{self, Tracer},
};

const WAVES: usize = 12;
const MAILS: usize = 2;

fn report_in(form: &str, recording: &str) -> (String, Option<i32>) {
    let output =
        tracer::command(["report", "--fail-on", "warning", "--format", form, recording]).unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

/// Postfix as Debian ships it, but for TLS where there is any: two mails every 1.2 s.
fn trace(starttls: Starttls, to_v6: bool, settings: &[(&str, &str)]) -> (String, Value) {
    let lab = Lab::up().unwrap();
    let server = if to_v6 { lab.server_v6() } else { lab.server_v4() };
    let _receiver = Postfix::receiver(&lab, server, starttls).unwrap();
    let sender = Postfix::sender(&lab, server, settings).unwrap();
    let tracer = Tracer::start(&lab).unwrap();
    for _ in 0..WAVES {
        postfix::submit(&lab, MAILS, 1_000).unwrap();
        thread::sleep(Duration::from_millis(1_200));
    }
    let deliveries = sender.wait_for_deliveries(WAVES * MAILS, Duration::from_secs(40)).unwrap();
    assert!(deliveries.iter().all(|it| it.status == "sent"), "{deliveries:?}");
    lab.wait_for_ends(Duration::from_secs(15)).unwrap();
    let run = tracer.stop_cleanly().unwrap();

    let recording = run.file.to_str().unwrap();
    let (text, status) = report_in("text", recording);
    println!("{text}");
    assert_eq!(status, Some(0), "{text}");
    for asked in ["needed: ", "Needed: ", "240 s", "WARNING", "CRITICAL"] {
        assert!(!text.contains(asked), "{asked} is in\n{text}");
    }
    let (json, status) = report_in("json", recording);
    assert_eq!(status, Some(0), "{json}");
    (text, report::parse(&json).unwrap())
}

fn verdict<'a>(report: &'a Value, code: &str) -> &'a Value {
    let verdicts = report["verdicts"].as_array().unwrap();
    let found = verdicts.iter().find(|it| it["code"] == code);
    found.unwrap_or_else(|| panic!("no {code} in {verdicts:#?}"))
}

#[test]
fn tls_without_reuse_is_no_harm() {
    needs!(Namespaces, Tracer, Postfix, Openssl);
    let (text, report) = trace(Starttls::Offered, false, &[("smtp_tls_security_level", "may")]);
    let caching = verdict(&report, "caching_ineffective");
    assert_eq!(caching["severity"], "info", "{text}");
    // What could be saved is said: connections, and the time that opening them takes.
    let missed = caching["evidence"]["missed"].as_u64().unwrap();
    assert!((WAVES as u64 / 2..(WAVES * MAILS) as u64).contains(&missed), "{caching:#}");
    assert!(caching["evidence"]["saved_seconds"].is_number(), "{caching:#}");
    assert_eq!(caching["connections"], missed, "{caching:#}");
    assert!(text.contains("smtp_tls_connection_reuse = yes"), "{text}");
}

#[test]
fn a_cache_of_two_seconds_meets_no_timer() {
    needs!(Namespaces, Tracer, Postfix, Openssl);
    let settings =
        [("smtp_tls_security_level", "none"), ("smtp_connection_cache_destinations", "static:all")];
    let (text, report) = trace(Starttls::None, true, &settings);
    let idle = verdict(&report, "idle_limit_unknown");
    let severity = (&idle["severity"], &idle["confidence"]);
    assert_eq!(severity, (&Value::from("info"), &Value::from("low")), "{idle:#}");
    assert_eq!(idle["evidence"]["needed"], Value::Null, "{idle:#}");
    // Postfix closes after two seconds.
    let longest = idle["evidence"]["longest_gap_s"].as_f64().unwrap();
    assert!((1.9..2.6).contains(&longest), "{idle:#}");
    let said = format!("Sessions idle for at most {longest:.1} s here");
    assert!(idle["summary"].as_str().unwrap().starts_with(&said), "{idle:#}");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("no known middlebox timer is that short. > Nothing has to be done."),
        "{text}"
    );
    let destination = report::destination(&report, "fd71:2::2").unwrap();
    let cannot_tell = &destination["idle_limit"]["cannot_tell"];
    assert_eq!(cannot_tell["why"], "gaps_too_short", "{cannot_tell}");
    assert_eq!(cannot_tell["needed"], Value::Null, "{cannot_tell}");
}
