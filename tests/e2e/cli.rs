//! The command line: refusals that say what is wrong, and exit codes.

use std::{
    fs,
    os::unix::fs::symlink,
    process::{Command, Output},
};

use tests::{lab::Lab, needs, tracer};

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A refusal: exit 2, nothing on standard output, and a message with all of `words`.
fn check_refusal(output: &Output, words: &[&str]) {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let message = stderr(output);
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
    assert!(!message.contains("panicked"), "{message}");
}

#[test]
fn wrong_arguments() {
    needs!(Tracer);
    let cases: [(&[&str], &[&str]); 13] = [
        (&["--dport", "70000"], &["70000", "--dport"]),
        (&["--dport", "smtp,,"], &["--dport"]),
        (&["--dport", "0"], &["--dport"]),
        (&["--group-by", "planet"], &["planet", "provider"]),
        (&["--dest", "10.0.0.0/33"], &["10.0.0.0/33", "--dest"]),
        (&["--duration", "soon"], &["soon", "--duration"]),
        (&["--format", "papyrus"], &["papyrus", "json"]),
        (&["--no-such-flag"], &["--no-such-flag"]),
        (&["--fail-on", "rain"], &["rain", "critical"]),
        (&["what-if", "--cache-time", "2", "x.jsonl"], &["--cache-time", "2s"]),
        (&["compare", "only-one.jsonl"], &["AFTER"]),
        (&["check", "x.jsonl"], &["--min-reuse"]),
        (&["check", "--min-reuse", "50", "x.jsonl"], &["--min-reuse", "50%"]),
    ];
    for (arguments, words) in cases {
        check_refusal(&tracer::command(arguments).unwrap(), words);
    }
}

#[test]
fn help_and_version() {
    needs!(Tracer);
    let help = tracer::command(["--help"]).unwrap();
    assert_eq!(help.status.code(), Some(0));
    let text = String::from_utf8(help.stdout).unwrap();
    for flag in [
        "--dport",
        "--record",
        "--format",
        "--duration",
        "--group-by",
        "--fail-on",
        "report",
        "what-if",
        "compare",
        "check",
        "doctor",
    ] {
        assert!(text.contains(flag), "{flag} is not in the help");
    }
    let version = tracer::command(["--version"]).unwrap();
    assert_eq!(version.status.code(), Some(0));
    assert!(String::from_utf8(version.stdout).unwrap().starts_with("smtptrace "));
}

#[test]
fn a_recording_that_cannot_be_written_is_refused_at_start() {
    needs!(Namespaces, Tracer);
    let file = "/nonexistent/recording.jsonl";
    // Without the refusal it would end by itself, with exit code 0.
    let output = tracer::command(["--duration", "1s", "--record", file]).unwrap();
    check_refusal(&output, &[file]);
    let lab = Lab::up().unwrap();
    let (twice, link) = (lab.file("twice.jsonl"), lab.file("link.jsonl"));
    symlink(lab.file("target"), &link).unwrap();
    let (twice, link) = (twice.to_str().unwrap(), link.to_str().unwrap());
    let output = tracer::command(["--duration", "1s", "--record", twice, "--output", twice]);
    check_refusal(&output.unwrap(), &["--record and --output", twice]);
    for (file, why) in
        [(link, "symbolic link"), ("/dev/stdout", "symbolic link"), ("/dev/full", "--format jsonl")]
    {
        let output = tracer::command(["--duration", "1s", "--record", file]).unwrap();
        check_refusal(&output, &[file, why]);
    }
    assert!(!lab.file("target").exists(), "made through a link");
}

#[test]
fn doctor() {
    needs!(Namespaces, Tracer);
    let output = tracer::command(["doctor"]).unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for hook in ["inet_sock_set_state", "tcp_probe", "tcp_destroy_sock"] {
        assert!(text.contains(hook), "{hook} is not in {text}");
    }
}

#[test]
fn without_privileges() {
    needs!(Namespaces, Tracer, Setpriv);
    let lab = Lab::up().unwrap();
    // The build directory may be closed to other users.
    let binary = lab.file("smtptrace");
    fs::copy(tracer::binary(), &binary).unwrap();
    let unprivileged = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.args(["--inh-caps=-all", "--bounding-set=-all"]).arg(&binary).args(arguments);
        command.output().unwrap()
    };
    let output = unprivileged(&["--duration", "1s"]);
    check_refusal(&output, &[]);
    let message = stderr(&output);
    assert!(message.contains("CAP_BPF") || message.contains("root"), "{message}");

    let output = unprivileged(&["doctor"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");

    // Reports need no privileges at all.
    let recording = lab.file("recording.jsonl");
    fs::write(&recording, "").unwrap();
    let output = unprivileged(&["report", recording.to_str().unwrap()]);
    assert_ne!(output.status.code(), None, "{output:?}");
    assert!(!stderr(&output).contains("CAP_BPF"), "{output:?}");
}
