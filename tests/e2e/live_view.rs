//! The live view, on a terminal: what it shows is what was sent, and the terminal is given back.

use std::{net::SocketAddr, time::Duration};

use nix::sys::signal::Signal;
use tests::{
    lab::{Lab, server_v4},
    needs,
    recording::Recording,
    server::Server,
    session::{Session, failing_connect},
    terminal::Terminal,
    tracer, wait,
};

const PATIENCE: Duration = Duration::from_secs(30);
const SESSIONS: usize = 23;

fn send(lab: &Lab) {
    let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
    session.begin().unwrap();
    session.message(500).unwrap();
    session.quit().unwrap();
}

fn command(lab: &Lab, arguments: &str) -> String {
    let binary = tracer::binary();
    let binary = binary.canonicalize().unwrap();
    format!("{} --dport {} {arguments}; echo status=$?", binary.display(), lab.port())
}

/// Starts smtptrace in the terminal and waits for its live view.
fn start(terminal: &Terminal, lab: &Lab, arguments: &str) {
    terminal.type_line(&format!("clear; {}", command(lab, arguments))).unwrap();
    terminal.wait_for("the live view", |screen| screen.contains("no connection yet")).unwrap();
    assert!(terminal.shows_alternate_screen().unwrap());
}

/// The cells of the row of `destination`; `None` if it is not there. Begins with the verdict.
fn row(screen: &str, destination: &str) -> Option<Vec<String>> {
    screen.lines().find_map(|line| {
        let mut words = line.trim_start_matches('▶').split_whitespace();
        (words.next() == Some(destination)).then(|| words.map(str::to_owned).collect())
    })
}

/// Waits until a row has these cells. At 120 columns: verdict, its code, open, new, conns, messages, reuse,
/// failed, died.
fn wait_for_row(terminal: &Terminal, destination: &str, cells: &[(usize, &str)]) {
    let what = format!("a row of {destination} with {cells:?}");
    terminal
        .wait_for(&what, |screen| {
            let Some(row) = row(screen, destination) else { return false };
            // Without a verdict there is no code.
            let from = usize::from(row[0] != "-");
            cells.iter().all(|(at, cell)| row.get(from + at).is_some_and(|it| it == cell))
        })
        .unwrap();
}

const OPEN: usize = 1;
const CONNS: usize = 3;
const MESSAGES: usize = 4;
const FAILED: usize = 6;

fn order(screen: &str, destinations: [&str; 2]) -> [Option<usize>; 2] {
    destinations.map(|destination| screen.lines().position(|line| row(line, destination).is_some()))
}

#[test]
fn shows_what_was_sent() {
    needs!(Namespaces, Tracer, Tmux);
    let lab = Lab::up().unwrap();
    let _server = Server::mail(&lab).unwrap();
    let (served, closed) = ("10.71.2.2", "10.71.2.3");
    let terminal = Terminal::open(120, 40).unwrap();
    let file = lab.file("recording.jsonl");
    start(&terminal, &lab, &format!("--record {} --interval 1s", file.display()));

    (0..SESSIONS).for_each(|_| send(&lab));
    wait_for_row(&terminal, served, &[(OPEN, "0"), (CONNS, "23"), (MESSAGES, "23"), (FAILED, "0")]);
    let mut open = Session::connect(&lab.client, lab.server_v4()).unwrap();
    open.begin().unwrap();
    wait_for_row(&terminal, served, &[(OPEN, "1"), (CONNS, "24")]);
    for _ in 0..2 {
        failing_connect(&lab.client, SocketAddr::from((server_v4(1), lab.port()))).unwrap();
    }
    wait_for_row(&terminal, closed, &[(OPEN, "0"), (CONNS, "2"), (FAILED, "2")]);
    terminal.wait_for("totals", |it| it.contains("26 conns, 1 open, 2 failed, 0 died")).unwrap();

    sort_and_filter(&terminal, served, closed);
    pause(&terminal, &lab, served);
    details(&terminal, served);
    open.quit().unwrap();
    help_and_sizes(&terminal, served);

    terminal.press(&["q"]).unwrap();
    terminal.wait_for_prompt().unwrap();
    let screen = terminal.scrollback().unwrap();
    let result = "27 connections to 2 destinations; 2 failed to connect, 0 died";
    for wanted in [result, "status=0", "hooks as wanted", "How they ended"] {
        assert!(screen.contains(wanted), "no {wanted:?} in:\n{screen}");
    }
    assert!(!screen.contains("Enter details"), "{screen}");
    terminal.ensure_is_sane().unwrap();
    let recording = Recording::read(&file).unwrap();
    recording.ensure_complete().unwrap();
    assert_eq!(recording.connections.len(), SESSIONS + 4);
}

fn sort_and_filter(terminal: &Terminal, served: &str, closed: &str) {
    terminal.press(&["s"]).unwrap();
    let by_name = |screen: &str| screen.contains("sorted by destination\n");
    let screen = terminal.wait_for("the order of names", by_name).unwrap();
    let [first, second] = order(&screen, [served, closed]);
    assert!(first.is_some() && first < second, "{screen}");
    terminal.press(&["S"]).unwrap();
    let reversed = |screen: &str| screen.contains("sorted by destination, reversed");
    let screen = terminal.wait_for("the reverse order", reversed).unwrap();
    let [first, second] = order(&screen, [served, closed]);
    assert!(second.is_some() && second < first, "{screen}");

    terminal.press(&["/", "2", ".", "3"]).unwrap();
    terminal.wait_for("what is typed", |screen| screen.contains("filter: 2.3_")).unwrap();
    terminal.press(&["Enter"]).unwrap();
    let kept = |screen: &str| screen.contains("filter: 2.3   sorted");
    let screen = terminal.wait_for("the filter", kept).unwrap();
    assert!(row(&screen, served).is_none() && row(&screen, closed).is_some(), "{screen}");
    terminal.press(&["Escape"]).unwrap();
    terminal.wait_for("no filter", |screen| row(screen, served).is_some()).unwrap();
}

/// While the screen stands, tracing goes on.
fn pause(terminal: &Terminal, lab: &Lab, served: &str) {
    terminal.press(&["p"]).unwrap();
    terminal.wait_for("the pause", |screen| screen.contains(" PAUSED ")).unwrap();
    send(lab);
    wait::until("the record of one more connection", PATIENCE, || {
        let recording = Recording::read(&lab.file("recording.jsonl"))?;
        Ok((recording.connections.len() == SESSIONS + 3).then_some(()))
    })
    .unwrap();
    terminal.press(&["Home"]).unwrap();
    terminal.press(&["Down"]).unwrap();
    let pointed = format!("▶ {served} ");
    terminal.wait_for("the pointer", |screen| screen.contains(&pointed)).unwrap();
    wait_for_row(terminal, served, &[(OPEN, "1"), (CONNS, "24")]);
    terminal.press(&["Space"]).unwrap();
    wait_for_row(terminal, served, &[(OPEN, "1"), (CONNS, "25"), (MESSAGES, "24")]);
}

fn details(terminal: &Terminal, served: &str) {
    terminal.press(&["Enter"]).unwrap();
    let counts = "25 conns, 1 open, 0 failed, 0 died";
    let there = |screen: &str| screen.contains(served) && screen.contains(counts);
    terminal.wait_for("the destination", there).unwrap();
    terminal.wait_for("its verdicts", |screen| screen.contains(" confidence)")).unwrap();
    terminal.press(&["Tab"]).unwrap();
    terminal
        .wait_for("histograms", |it| it.contains("Connect: SYN to established\n  24 values"))
        .unwrap();
    terminal.press(&["Tab"]).unwrap();
    let endings = |screen: &str| {
        let mut words =
            screen.lines().filter_map(|line| line.trim().strip_prefix("closed after QUIT"));
        words.any(|rest| rest.split_whitespace().next() == Some("24"))
    };
    terminal.wait_for("endings", endings).unwrap();
    terminal.press(&["Tab", "Tab"]).unwrap();
    let listed = |screen: &str| {
        screen.contains("▶ 10.71.2.2") && screen.matches("closed by the server").count() == 24
    };
    let screen = terminal.wait_for("connections", listed).unwrap();
    let pointed = screen.lines().find(|line| line.starts_with('▶')).unwrap();
    assert!(pointed.trim_end().ends_with("  open"), "the open one comes first: {pointed}");
    terminal.press(&["Down", "Enter"]).unwrap();
    let screen = terminal.wait_for("turns", |screen| screen.contains("greeting begins")).unwrap();
    // EHLO, MAIL, RCPT, DATA, the body, QUIT.
    let turns = screen.lines().skip_while(|line| !line.contains("greeting begins")).skip(1);
    let turns = turns.take_while(|line| !line.contains("closed by the server"));
    assert_eq!(turns.count(), 6, "{screen}");
    assert!(screen.contains("220 server.test, no TLS, 1 message"), "{screen}");
    terminal.press(&["Escape"]).unwrap();
    terminal.wait_for("the connections again", listed).unwrap();
    terminal.press(&["Escape"]).unwrap();
    terminal.wait_for("the table again", |screen| row(screen, "all").is_some()).unwrap();
}

fn help_and_sizes(terminal: &Terminal, served: &str) {
    terminal.press(&["?"]).unwrap();
    terminal.wait_for("help", |screen| screen.contains("Keys of the live view")).unwrap();
    terminal.press(&["x"]).unwrap();
    terminal.resize(40, 10).unwrap();
    let narrow = |screen: &str| {
        // Verdict, conns, failed.
        row(screen, served).is_some_and(|row| row.len() == 3 && row[1] == "25")
            && screen.trim_end().lines().count() == 10
    };
    terminal.wait_for("a narrow table", narrow).unwrap();
    terminal.resize(80, 24).unwrap();
    terminal.wait_for("a wider table", |screen| screen.contains("p50ms p99ms")).unwrap();
}

#[test]
fn every_way_out_gives_the_terminal_back() {
    needs!(Namespaces, Tracer, Tmux);
    let lab = Lab::up().unwrap();
    let _server = Server::mail(&lab).unwrap();
    let terminal = Terminal::open(80, 24).unwrap();
    let ways: [(&str, &dyn Fn()); 3] = [
        ("Ctrl-C", &|| terminal.press(&["C-c"]).unwrap()),
        ("SIGINT", &|| terminal.signal(Signal::SIGINT).unwrap()),
        ("SIGTERM", &|| terminal.signal(Signal::SIGTERM).unwrap()),
    ];
    for (name, end) in ways {
        start(&terminal, &lab, "");
        send(&lab);
        terminal.wait_for("a connection", |screen| screen.contains("1 conns, 0 open")).unwrap();
        // Not a way out while the terminal is there.
        terminal.signal(Signal::SIGHUP).unwrap();
        send(&lab);
        terminal.wait_for("another", |screen| screen.contains("2 conns, 0 open")).unwrap();
        end();
        terminal.wait_for_prompt().unwrap();
        let screen = terminal.scrollback().unwrap();
        assert!(screen.contains("2 connections to 1 destination"), "{name}:\n{screen}");
        assert!(screen.contains("status=0"), "{name}:\n{screen}");
        terminal.ensure_is_sane().unwrap();
    }
    terminal.type_line(&format!("clear; {}", command(&lab, "--duration 2s"))).unwrap();
    terminal.wait_for("the end", |screen| screen.contains("status=0")).unwrap();
    terminal.ensure_is_sane().unwrap();
}

/// The recording cannot grow any more: the trace ends with an error.
#[test]
fn an_error_gives_the_terminal_back_and_is_told() {
    needs!(Namespaces, Tracer, Tmux);
    let lab = Lab::up().unwrap();
    let _server = Server::mail(&lab).unwrap();
    let terminal = Terminal::open(100, 30).unwrap();
    let file = lab.file("small.jsonl");
    // Blocks of 512 or 1024 bytes.
    terminal.type_line("ulimit -f 32").unwrap();
    start(&terminal, &lab, &format!("--on-record-error stop --record {}", file.display()));
    wait::until("an error", PATIENCE, || {
        send(&lab);
        Ok(terminal.screen()?.contains("status=").then_some(()))
    })
    .unwrap();
    let screen = terminal.scrollback().unwrap().replace('\n', " ");
    assert!(screen.contains("cannot write to the recording"), "{screen}");
    assert!(screen.contains("status=2") && screen.contains("Trust"), "{screen}");
    terminal.ensure_is_sane().unwrap();
}

#[test]
fn only_where_it_is_wanted() {
    needs!(Namespaces, Tracer, Tmux);
    let lab = Lab::up().unwrap();
    let terminal = Terminal::open(80, 24).unwrap();
    let file = lab.file("report.txt");
    let elsewhere = format!("--output {}", file.display());
    for arguments in
        ["--no-tui", "--format csv", elsewhere.as_str(), "</dev/null", "| cat", "& wait"]
    {
        let line = command(&lab, &format!("--duration 1s {arguments}"));
        terminal.type_line(&format!("clear; {line}")).unwrap();
        wait::until("the end", PATIENCE, || {
            assert!(!terminal.shows_alternate_screen()?, "{arguments}");
            Ok(terminal.screen()?.contains("status=0").then_some(()))
        })
        .unwrap();
    }
}

#[test]
fn colours_can_be_off() {
    needs!(Namespaces, Tracer, Tmux);
    let lab = Lab::up().unwrap();
    let terminal = Terminal::open(80, 24).unwrap();
    let coloured = |text: &str| {
        let sequences = text.split("\x1b[").skip(1).filter_map(|it| it.split_once('m'));
        let mut codes = sequences.flat_map(|(codes, _)| codes.split(';'));
        codes.any(|code| matches!(code.parse(), Ok(30..=38 | 40..=48 | 90..=107)))
    };
    for (environment, expected) in [("", true), ("NO_COLOR=1 ", false)] {
        let line = format!("clear; {environment}{}", command(&lab, ""));
        terminal.type_line(&line).unwrap();
        terminal.wait_for("the live view", |it| it.contains("no connection yet")).unwrap();
        failing_connect(&lab.client, lab.server_v4()).unwrap();
        terminal.wait_for("a connection", |it| it.contains("1 conns, 0 open, 1 failed")).unwrap();
        assert_eq!(coloured(&terminal.screen_with_colours().unwrap()), expected);
        terminal.press(&["q"]).unwrap();
        terminal.wait_for_prompt().unwrap();
    }
}
