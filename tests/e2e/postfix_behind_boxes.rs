//! Postfix with a long cache time behind boxes that forget sooner.

use std::{thread, time::Duration};

use serde_json::Value;
use tests::{
    lab::{Lab, SERVER_V4},
    middlebox::{Manner, Middlebox},
    needs,
    postfix::{self, Delivery, Postfix, Starttls},
    recording::{Record, Recording},
    report,
    session::Session,
    tracer::{self, Tracer},
};

/// After which the box forgets, and what lies between the mails: sessions survive the first pause only.
const LIMIT: Duration = Duration::from_secs(5);
const PAUSES: [Duration; 2] = [Duration::from_millis(2_700), Duration::from_secs(6)];
/// How long Postfix waits for the answer to the RSET that tries a cached session.
const RSET_TIMEOUT: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(60);

const SETTINGS: [(&str, &str); 7] = [
    ("smtp_connection_cache_destinations", "static:all"),
    ("smtp_connection_cache_time_limit", "60s"),
    ("connection_cache_ttl_limit", "60s"),
    ("smtp_rset_timeout", "4s"),
    ("smtp_tls_security_level", "may"),
    ("smtp_tls_connection_reuse", "yes"),
    ("initial_destination_concurrency", "6"),
];
/// Of the receiver. It is slow so that mails that are submitted together take a session each.
const RECEIVER: [(&str, &str); 2] =
    [("mydestination", "sink.test, server.test"), ("smtpd_data_restrictions", "sleep 1")];

/// What was recorded, what Postfix logged, and what is concluded.
struct Outcome {
    recording: Recording,
    deliveries: Vec<Delivery>,
    report: Value,
}

/// Has a receiver start all the processes that it needs for so many mails at a time: behind a box that forgets
/// soon a session would not survive that they are started in its midst.
fn warm_up(lab: &Lab, together: usize) {
    thread::scope(|scope| {
        for _ in 0..together {
            scope.spawn(|| {
                let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
                session.begin().unwrap();
                session.message(100).unwrap();
                session.quit().unwrap();
            });
        }
    });
    lab.wait_for_ends(PATIENCE).unwrap();
}

/// Sends `together` mails, and again after each pause.
fn send(starttls: Starttls, manner: Option<Manner>, together: usize) -> Outcome {
    let lab = Lab::up().unwrap();
    let _receiver = Postfix::receiver_with(&lab, lab.server_v4(), starttls, &RECEIVER).unwrap();
    let sender = Postfix::sender(&lab, lab.server_v4(), &SETTINGS).unwrap();
    warm_up(&lab, together);
    let middlebox = Middlebox::before(SERVER_V4);
    let _middlebox =
        manner.map(|manner| middlebox.forgetting(LIMIT, manner).install(&lab).unwrap());
    let tracer = Tracer::start(&lab).unwrap();
    postfix::submit(&lab, together, 1_000).unwrap();
    sender.wait_for_deliveries(together, PATIENCE).unwrap();
    for (pause, round) in PAUSES.into_iter().zip(2..) {
        thread::sleep(pause);
        postfix::submit(&lab, together, 1_000).unwrap();
        sender.wait_for_deliveries(together * round, PATIENCE).unwrap();
    }
    let deliveries = sender.deliveries().unwrap();
    let run = tracer.stop_cleanly().unwrap();
    assert!(deliveries.iter().all(|delivery| delivery.status == "sent"), "{deliveries:?}");
    let report = tracer::command(["report", "--format", "json", run.file.to_str().unwrap()]);
    let report = report::parse(&String::from_utf8(report.unwrap().stdout).unwrap()).unwrap();
    Outcome { recording: run.recording, deliveries, report }
}

impl Outcome {
    /// Those that did not live to the end; all of them died in this way, after a gap that the box does not allow.
    fn dead(&self, cause: &str, during: &str) -> Vec<&Record> {
        let ended = |record: &&Record| record.text("end_cause").unwrap() != Some("open");
        let dead: Vec<_> = self.recording.connections.iter().filter(ended).collect();
        for record in &dead {
            record.ensure_ending([Some(cause), Some(during), Some("middlebox")]).unwrap();
            let idle = Duration::from_micros(record.known("end_idle_us").unwrap());
            assert!(idle > LIMIT && idle < LIMIT + PATIENCE, "{}", record.json());
            assert_eq!(record.field("keepalive").unwrap(), true, "{}", record.json());
            assert_eq!(record.known("keepalive_idle_s").unwrap(), 7_200, "{}", record.json());
        }
        dead
    }

    /// The verdict on sessions of which several died, and what it advises.
    fn check_verdict(&self, manner: &str, dead: usize) {
        let verdicts = self.report["verdicts"].as_array().unwrap();
        let killed = verdicts.iter().find(|verdict| {
            verdict["code"] == "idle_killed_by_middlebox" && verdict["destination"] == "10.71.2.2"
        });
        let killed = killed.unwrap_or_else(|| panic!("{:#}", self.report["verdicts"]));
        let evidence = &killed["evidence"];
        assert_eq!(evidence["manner"], manner, "{killed:#}");
        assert_eq!(evidence["suspect"], "middlebox", "{killed:#}");
        assert_eq!(evidence["died"], dead as u64, "{killed:#}");
        let [alive, died] = ["survived_s", "died_s"].map(|name| evidence[name].as_f64().unwrap());
        assert!(alive < LIMIT.as_secs_f64() && LIMIT.as_secs_f64() <= died, "{killed:#}");
        assert!(["high", "medium"].contains(&killed["confidence"].as_str().unwrap()));
        let advice = killed["advice"].to_string();
        assert!(advice.contains("connection_cache_ttl_limit"), "{killed:#}");
    }
}

#[test]
fn long_cache_time() {
    const MANY: usize = 6;
    needs!(Namespaces, Tracer, Postfix, Openssl);
    thread::scope(|scope| {
        let silent = scope.spawn(|| send(Starttls::None, Some(Manner::Silent), MANY));
        let while_idle = scope.spawn(|| send(Starttls::None, Some(Manner::ResetWhileIdle), MANY));
        let reset = scope.spawn(|| send(Starttls::Offered, Some(Manner::ResetOnReuse), 1));
        let no_box = scope.spawn(|| send(Starttls::Offered, None, 1));

        let outcome = silent.join().unwrap();
        let dead = outcome.dead("unanswered", "reuse");
        for record in &dead {
            let cost = Duration::from_micros(record.known("end_unanswered_us").unwrap());
            let late = Duration::from_millis(500);
            assert!(cost.abs_diff(RSET_TIMEOUT) < late, "{}", record.json());
        }
        // The log says of a dead session only that it took long to get a connection.
        let longest = outcome.deliveries.iter().map(|it| it.delays[2]).fold(0.0, f64::max);
        assert!(longest >= RSET_TIMEOUT.as_secs_f64(), "{:?}", outcome.deliveries);
        outcome.check_verdict("silent", dead.len());

        let outcome = while_idle.join().unwrap();
        outcome.check_verdict("reset_while_idle", outcome.dead("rst_received", "idle").len());

        let outcome = reset.join().unwrap();
        let [dead] = outcome.dead("rst_received", "reuse")[..] else { panic!("one died") };
        assert_eq!(outcome.recording.connections.len(), 2);
        // Postfix logs whole mails, and how long the last one took to get a connection.
        let cost = Duration::from_micros(dead.known("end_unanswered_us").unwrap()).as_secs_f64();
        let logged = outcome.deliveries[2].delays[2];
        assert!(cost <= logged + 0.1 && logged < cost + 1.0, "{logged} {}", dead.json());
        // The log says nothing of a dead session: the last mail is only no reuse.
        let uses: Vec<_> = outcome.deliveries.iter().map(|delivery| delivery.conn_use).collect();
        assert_eq!(uses, [None, Some(2), None]);

        let outcome = no_box.join().unwrap();
        assert_eq!(outcome.deliveries[2].conn_use, Some(3));
        let record = outcome.recording.single().unwrap();
        record.ensure_ending([Some("open"), None, None]).unwrap();
    });
}
