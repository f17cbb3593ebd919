//! The machine itself misbehaves: its clock is set, a CPU comes. Only in virtual machines.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::time::TimeSpec,
    time::{ClockId, clock_gettime, clock_settime},
    unistd::Pid,
};
use serde_json::Value;
use tests::{
    lab::Lab,
    needs,
    server::{Script, Server},
    session::Session,
    tracer::{self, Tracer},
};

/// Longer than smtptrace goes without looking.
const NOTICED: Duration = Duration::from_millis(1_500);
const HOUR: i64 = 3_600;

fn server(lab: &Lab) -> Server {
    let script = Script::mail_server("220 server.test ESMTP");
    Server::start(&lab.server, lab.server_v4(), script).unwrap()
}

fn session(lab: &Lab, messages: usize) {
    let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
    session.begin().unwrap();
    (0..messages).for_each(|_| session.message(500).unwrap());
    session.quit().unwrap();
    lab.wait_for_ends(Duration::from_secs(15)).unwrap();
}

/// Sets the clock forward by `seconds`.
fn set_clock(seconds: i64) {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).unwrap();
    let then = TimeSpec::new(now.tv_sec() + seconds, now.tv_nsec());
    clock_settime(ClockId::CLOCK_REALTIME, then).unwrap();
}

fn now_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn seconds(time: &Value) -> f64 {
    let format = &time::format_description::well_known::Rfc3339;
    let time = time::OffsetDateTime::parse(time.as_str().unwrap(), format).unwrap();
    time.unix_timestamp_nanos() as f64 / 1e9
}

#[test]
fn times_follow_a_clock_that_is_set() {
    needs!(Namespaces, Tracer, OwnMachine);
    let lab = Lab::up().unwrap();
    let _server = server(&lab);
    let tracer = Tracer::start(&lab).unwrap();
    let begin = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap();
    let mut starts = Vec::new();
    for step in [0, HOUR, -2 * HOUR, HOUR] {
        if step != 0 {
            set_clock(step);
            thread::sleep(NOTICED);
        }
        starts.push(now_s());
        session(&lab, 1);
        thread::sleep(NOTICED); // its record is taken
    }
    let passed = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap() - begin);
    let run = tracer.stop_cleanly().unwrap();
    for (record, start) in run.recording.connections.iter().zip(&starts) {
        let recorded = seconds(&record.json()["start"]);
        assert!((recorded - start).abs() < 1.0, "{recorded} for {start}: {}", record.json());
    }
    assert_eq!(run.recording.connections.len(), starts.len());
    assert_eq!(run.recording.trust("clock_steps").unwrap(), Some(3));
    let steps = run.recording.clock_steps.iter();
    let hours = steps.map(|step| (step["step_us"].as_f64().unwrap() / 3.6e9).round());
    assert_eq!(hours.collect::<Vec<_>>(), [1.0, -2.0, 1.0]);
    assert!(run.stderr.contains("the clock was set back by 7200."), "{}", run.stderr);
    // The report tells the time that passed.
    let file = run.file.to_str().unwrap();
    let output = tracer::command(["report", "--format", "json", file]).unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let duration = report["window"]["duration_s"].as_f64().unwrap();
    assert!((duration - passed.as_secs_f64()).abs() < 2.0, "{duration} s for {passed:?}");
}

#[test]
fn names_of_pieces_stay_in_order() {
    needs!(Namespaces, Tracer, OwnMachine);
    let lab = Lab::up().unwrap();
    let _server = server(&lab);
    let mut command = Command::new(tracer::binary());
    command.args(["--dport", &lab.port().to_string(), "--format", "json", "--duration", "20s"]);
    command.args(["--rotate-every", "1s", "--record"]).arg(lab.file("piece.jsonl"));
    command.stdout(fs::File::create(lab.file("report.json")).unwrap());
    let mut tracer = command.spawn().unwrap();
    let pieces = || {
        let all = fs::read_dir(lab.directory()).unwrap().map(|it| it.unwrap().path());
        let mut all: Vec<_> = all.filter(|it| it.to_string_lossy().contains("piece-")).collect();
        all.sort();
        all
    };
    tests::wait::until("the first piece", Duration::from_secs(60), || {
        Ok((!pieces().is_empty()).then_some(()))
    })
    .unwrap();
    for step in [0, -HOUR, HOUR / 2] {
        set_clock(step);
        thread::sleep(NOTICED * 2);
        session(&lab, 0);
    }
    assert!(tracer.wait().unwrap().success());
    set_clock(HOUR / 2);
    // An id is made of the time since the boot.
    let mut ids = Vec::new();
    for piece in pieces() {
        let text = fs::read_to_string(&piece).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        ids.extend(lines.filter_map(|line| line["id"].as_str().map(str::to_owned)));
    }
    assert_eq!(ids.len(), 3);
    assert!(ids.is_sorted(), "{ids:?} in {:?}", pieces());
}

#[test]
fn replies_on_a_cpu_that_came_later_are_not_missed_in_silence() {
    const CPU: &str = "/sys/devices/system/cpu/cpu1/online";
    needs!(Namespaces, Tracer, OwnMachine);
    fs::write(CPU, "0").unwrap();
    let lab = Lab::up().unwrap();
    let tracer = Tracer::start(&lab);
    fs::write(CPU, "1").unwrap();
    let tracer = tracer.unwrap();
    let later = |cpu| {
        let mut cpus = CpuSet::new();
        cpus.set(cpu).unwrap();
        // Server and client are threads made from here, and packets between them stay on their CPU.
        sched_setaffinity(Pid::from_raw(0), &cpus).unwrap();
        let _server = server(&lab);
        session(&lab, 2);
    };
    later(1);
    later(0);
    let run = tracer.stop().unwrap();
    assert!(run.status.success(), "{}", run.stderr);
    let [unseen, seen] = &run.recording.connections[..] else { panic!("{:?}", run.recording) };
    assert_eq!(seen.number("transactions").unwrap(), Some(2), "{}", seen.json());
    assert_eq!(seen.json()["transactions_exact"], true);
    assert_eq!(unseen.json()["transactions_exact"], false, "{}", unseen.json());
    let counted = unseen.number("transactions").unwrap();
    assert!(counted.is_none_or(|it| it == 2), "{}", unseen.json());
    assert!(run.recording.trust("events_lost").unwrap() > Some(0), "{:?}", run.recording.trailer);
}
