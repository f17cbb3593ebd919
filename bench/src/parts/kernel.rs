//! Time in BPF programs: by program, for sockets that are traced and that are not, beside empty programs
//! on the same hooks; and by session, beside peers.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Context as _, Result};

use crate::{
    command_line::CommandLine,
    floor,
    programs::{Counting, Snapshot, Work, sum},
    statistics::Rounds,
    tool::Tool,
    traffic::{Kind, Scene},
};

/// Sessions of a round; those under TLS are slower to make.
const SESSIONS: [(Kind, usize); 2] = [(Kind::Cleartext, 300), (Kind::Tls, 60)];

/// A port that nobody uses: with it every socket is one that is not traced.
const NOBODY: u16 = 2;

const METHOD: &str = "\
Method: the kernel's own count (`BPF_ENABLE_STATS`: run time and runs of each program, its clock included,
about 30 ns a run), sessions one after the other between two network namespaces of one machine. So both
ends of each connection are sockets of this machine; the server's is never traced. Time for a traced
socket is therefore twice the mean less that of an untraced one. All of a row takes turns within each of
the rounds; medians, with the range over the rounds in parentheses.";

/// Beside smtptrace itself.
const PEERS: [Tool; 4] =
    [Tool::SmtptraceNoReplies, Tool::LibbpfTcplife, Tool::BccTcplife, Tool::BpftraceTcplife];

/// By name of the program.
type Works = BTreeMap<String, Work>;

pub(crate) fn measure(options: &CommandLine) -> Result<String> {
    let _counting = Counting::begin()?;
    let mut text = format!("{METHOD}\n");
    for (kind, sessions) in SESSIONS {
        let scene = Scene::up(kind)?;
        let sessions = options.scaled(sessions);
        for messages in [1, 10] {
            scene.sessions(2, messages)?; // whatever is set up once
            let name = kind.name();
            let title = format!("{messages} message(s) in {name}, {sessions} sessions a round");
            eprintln!("{title}");
            let rounds = (0..options.rounds)
                .map(|_| Round::measure(options, &scene, sessions, messages))
                .collect::<Result<Vec<_>>>()?;
            write_programs(&mut text, &title, &rounds)?;
            write_sessions(&mut text, &rounds, sessions)?;
        }
    }
    Ok(text)
}

/// The same traffic once with each.
struct Round {
    empty: Works,
    untraced: Works,
    traced: Works,
    /// In the order of [`PEERS`]; or why it cannot run here.
    peers: Vec<Result<Work, String>>,
}

impl Round {
    fn measure(
        options: &CommandLine,
        scene: &Scene,
        sessions: usize,
        messages: usize,
    ) -> Result<Self> {
        let traffic = || scene.sessions(sessions, messages);
        let empty = {
            let others = Snapshot::take();
            let _floor = floor::attach(options.floor())?;
            works(&others, traffic)?
        };
        let with = |tool: Tool, port: u16| {
            let others = Snapshot::take();
            let _running = tool.start(&scene.lab, port)?;
            works(&others, traffic)
        };
        let port = scene.lab.port();
        let untraced = with(Tool::Smtptrace, NOBODY).context("smtptrace on another port")?;
        let traced = with(Tool::Smtptrace, port).context("smtptrace")?;
        let peers = PEERS.map(|peer| {
            with(peer, port).map(|works| sum(&works)).map_err(|error| format!("{error:#}"))
        });
        Ok(Self { empty, untraced, traced, peers: peers.into() })
    }
}

/// What programs other than `others` do during `traffic`.
fn works(others: &Snapshot, traffic: impl FnOnce() -> Result<()>) -> Result<Works> {
    let before = Snapshot::take();
    traffic()?;
    Ok(Snapshot::take().since(&before, others))
}

fn write_programs(text: &mut String, title: &str, rounds: &[Round]) -> Result<()> {
    writeln!(text, "\n**{title}.** Nanoseconds per run:\n")?;
    writeln!(
        text,
        "| program | runs per round | empty | socket not traced | × empty | traced socket | × empty |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|")?;
    let Some(first) = rounds.first() else { return Ok(()) };
    for (name, work) in first.traced.iter().filter(|(_, work)| work.runs > 0) {
        let of = |works: &Works| works.get(name).copied().unwrap_or_default().nanos_per_run();
        let series =
            |value: &dyn Fn(&Round) -> f64| Rounds::new(rounds.iter().map(value).collect());
        let untraced = series(&|round| of(&round.untraced));
        let traced = |round: &Round| 2.0 * of(&round.traced) - of(&round.untraced);
        let empty = series(&|round| of(&round.empty));
        let times = |value: &dyn Fn(&Round) -> f64| {
            if empty.median() > 0.0 {
                format!("{:.2}", series(&|round| value(round) / of(&round.empty)))
            } else {
                "-".into()
            }
        };
        writeln!(
            text,
            "| `{name}` | {} | {empty:.0} | {untraced:.0} | {} | {:.0} | {} |",
            work.runs,
            times(&|round| of(&round.untraced)),
            series(&traced),
            times(&traced)
        )?;
    }
    Ok(())
}

fn write_sessions(text: &mut String, rounds: &[Round], sessions: usize) -> Result<()> {
    writeln!(text, "\nMicroseconds in BPF programs per session, both ends:\n")?;
    writeln!(text, "| tool | per session |")?;
    writeln!(text, "|---|---|")?;
    let per_session = |work: Work| work.time.as_secs_f64() * 1e6 / sessions as f64;
    let row = |name: &str, of: &dyn Fn(&Round) -> Work| {
        let values = Rounds::new(rounds.iter().map(|round| per_session(of(round))).collect());
        format!("| {name} | {values:.2} |")
    };
    writeln!(text, "{}", row("empty programs on the same hooks", &|round| sum(&round.empty)))?;
    writeln!(text, "{}", row("smtptrace, port not traced", &|round| sum(&round.untraced)))?;
    writeln!(text, "{}", row("smtptrace", &|round| sum(&round.traced)))?;
    for (at, peer) in PEERS.iter().enumerate() {
        let mut outcomes = rounds.iter().filter_map(|round| round.peers.get(at));
        let reason = outcomes.find_map(|outcome| outcome.as_ref().err());
        let row = match reason {
            None => row(peer.name(), &|round| {
                round.peers.get(at).and_then(|it| it.as_ref().ok().copied()).unwrap_or_default()
            }),
            Some(reason) => format!("| {} | not here: {reason} |", peer.name()),
        };
        writeln!(text, "{row}")?;
    }
    Ok(())
}
