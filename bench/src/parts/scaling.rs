//! Cost per session as open connections and destinations grow.

use std::{fmt::Write as _, path::Path};

use anyhow::Result;
use tests::{lab::Lab, session::Session};

use crate::{
    command_line::CommandLine,
    crowd::{self, Crowd},
    plot::{self, Axis, Line},
    process::cpu,
    programs::{Counting, Snapshot, sum},
    recording,
    statistics::Rounds,
    tool::Tool,
    traffic::{Kind, Scene},
};

const OPEN: [usize; 4] = [100, 1_000, 10_000, 100_000];
const DESTINATIONS: [usize; 6] = [1, 10, 100, 1_000, 10_000, 50_000];
const SESSIONS: usize = 300;

pub(crate) fn measure(options: &CommandLine) -> Result<String> {
    let mut text = String::new();
    open_connections(&mut text, options)?;
    destinations(&mut text, options)?;
    Ok(text)
}

/// The plots lie beside the document.
fn plot(options: &CommandLine, name: &str, title: &str, lines: &[Line]) -> Result<String> {
    let Some(directory) = options.document.as_deref().and_then(Path::parent) else {
        return Ok(String::new());
    };
    let file = directory.join("plots").join(format!("{name}.svg"));
    plot::write(&file, title, Axis::Logarithmic, lines)?;
    Ok(format!("\n![{title}](plots/{name}.svg)\n"))
}

fn open_connections(text: &mut String, options: &CommandLine) -> Result<()> {
    writeln!(
        text,
        "Sessions of one message in cleartext while other connections stand open and traced:\n"
    )?;
    writeln!(
        text,
        "| open connections | us in BPF programs per session | us CPU of smtptrace per session |"
    )?;
    writeln!(text, "|---|---|---|")?;
    let _counting = Counting::begin()?;
    let (mut kernel, mut user) = (Vec::new(), Vec::new());
    for open in OPEN {
        let open = crowd::that_fit(options.scaled(open))?;
        eprintln!("{open} open connections");
        let scene = Scene::up(Kind::Cleartext)?;
        let others = Snapshot::take();
        let running = Tool::SmtptraceLarge.start(&scene.lab, scene.lab.port())?;
        let _crowd = Crowd::open(&scene.lab, open)?;
        let sessions = options.scaled(SESSIONS);
        let (mut in_kernel, mut in_user) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            let (before, cpu_before) = (Snapshot::take(), cpu(running.pid())?);
            for _ in 0..sessions {
                let mut session = Session::connect(&scene.lab.client, scene.lab.server_v4())?;
                session.begin()?;
                session.message(2_000)?;
                session.quit()?;
            }
            std::thread::sleep(std::time::Duration::from_secs(2)); // it polls by time
            let work = sum(&Snapshot::take().since(&before, &others));
            in_kernel.push(work.time.as_secs_f64() * 1e6 / sessions as f64);
            let spent = cpu(running.pid())?.saturating_sub(cpu_before);
            in_user.push(spent.as_secs_f64() * 1e6 / sessions as f64);
        }
        let (in_kernel, in_user) = (Rounds::new(in_kernel), Rounds::new(in_user));
        writeln!(text, "| {open} | {in_kernel:.2} | {in_user:.0} |")?;
        kernel.push((open as f64, in_kernel.median()));
        user.push((open as f64, in_user.median()));
    }
    let title = "Microseconds per session, by open connections";
    let lines = [Line::new("BPF programs", kernel), Line::new("smtptrace", user)];
    text.push_str(&plot(options, "open-connections", title, &lines)?);
    Ok(())
}

fn destinations(text: &mut String, options: &CommandLine) -> Result<()> {
    let connections = options.scaled(300_000);
    writeln!(text, "\n`report` on {connections} connections, by the number of destinations:\n")?;
    writeln!(text, "| destinations | us CPU per record | most memory, MB |\n|---|---|---|")?;
    let lab = Lab::up()?;
    let (mut cpus, mut memory) = (Vec::new(), Vec::new());
    for destinations in DESTINATIONS {
        eprintln!("{} destinations", 2 * destinations);
        let file = lab.file("long.jsonl");
        recording::make(&file, connections, destinations)?;
        let used = (0..3).map(|_| recording::report(&file)).collect::<Result<Vec<_>>>()?;
        let cpu = used.iter().map(|it| it.cpu.as_secs_f64() * 1e6 / connections as f64);
        let cpu = Rounds::new(cpu.collect());
        let most = used.iter().map(|it| it.memory).max().unwrap_or(0) as f64 / 1e6;
        writeln!(text, "| {} | {cpu:.1} | {most:.0} |", 2 * destinations)?;
        cpus.push((2.0 * destinations as f64, cpu.median()));
        memory.push((2.0 * destinations as f64, most));
        std::fs::remove_file(&file)?;
    }
    let title = "report, by destinations";
    let lines = [Line::new("us CPU per record", cpus), Line::new("most memory, MB", memory)];
    text.push_str(&plot(options, "destinations", title, &lines)?);
    Ok(())
}
