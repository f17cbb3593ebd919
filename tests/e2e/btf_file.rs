//! `--btf`: the types of the kernel from a file, where it does not show its own.

use std::{fs, path::Path, process::Output, time::Duration};

use tests::{
    hidden_btf::{KERNEL_BTF, hidden, write_with_names_exchanged},
    lab::Lab,
    needs,
    server::Server,
    session::Session,
    tracer::{self, Tracer},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a trace that must be refused, and returns what it said.
fn refusal(arguments: &[&str]) -> String {
    let output: Output =
        tracer::command([&["--duration", "1s", "--dport", "9"], arguments].concat()).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{:?}", String::from_utf8(output.stdout));
    stderr
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn without_types_the_option_is_named() {
    needs!(Namespaces, Tracer, KernelTypes);
    let said = hidden(|| Ok(refusal(&[]))).unwrap();
    assert!(said.contains(KERNEL_BTF) && said.contains("--btf FILE"), "{said}");
}

#[test]
fn a_copy_of_the_types_is_enough() {
    needs!(Namespaces, Tracer, KernelTypes);
    let lab = Lab::up().unwrap();
    let copy = lab.file("kernel.btf");
    fs::copy(KERNEL_BTF, &copy).unwrap();
    let _server = Server::mail(&lab).unwrap();

    let tracer = hidden(|| Tracer::start_with(&lab, &["--btf", text(&copy)])).unwrap();
    let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
    let client = session.local();
    session.begin().unwrap();
    session.message(700).unwrap();
    session.quit().unwrap();
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = tracer.stop().unwrap();
    assert!(run.status.success(), "{}", run.stderr);

    let record = run.recording.single().unwrap();
    assert_eq!(record.client().unwrap(), client);
    assert_eq!(record.server().unwrap(), lab.server_v4());
    assert_eq!(record.known("netns").unwrap(), lab.client.inode().unwrap());
    assert_eq!(record.known("turns").unwrap(), 6, "EHLO MAIL RCPT DATA body QUIT: {record:?}");
    assert_eq!(record.text("end_cause").unwrap(), Some("peer_fin"));
    let hooks = run.recording.header["hooks"].as_array().unwrap().clone();
    for hook in &hooks {
        let program = hook["program"].as_str();
        assert!(!matches!(program, Some("tp_btf" | "fentry")), "needs the kernel's own: {hook}");
    }
    assert!(hooks.iter().any(|hook| hook["program"] == "raw_tp"), "{hooks:?}");
}

#[test]
fn types_of_another_kernel_are_refused() {
    needs!(Namespaces, Tracer, KernelTypes);
    let lab = Lab::up().unwrap();
    let other = lab.file("other.btf");
    write_with_names_exchanged(&other, "inet_sport", "inet_saddr").unwrap();
    // Where the kernel says nothing, a connection of smtptrace's own does.
    let said = hidden(|| Ok(refusal(&["--btf", text(&other)]))).unwrap();
    assert!(said.contains("does not describe the running kernel"), "{said}");
    assert!(said.contains("sport"), "{said}");
    // Where it shows its types, they are compared.
    let said = refusal(&["--btf", text(&other)]);
    assert!(said.contains("describes another kernel"), "{said}");
    // A field of which there is none.
    write_with_names_exchanged(&other, "bytes_sent", "skc_family").unwrap();
    let said = hidden(|| Ok(refusal(&["--btf", text(&other)]))).unwrap();
    assert!(said.contains("have no field"), "{said}");
}

#[test]
fn what_is_no_btf_is_refused_by_name() {
    needs!(Namespaces, Tracer, KernelTypes);
    let lab = Lab::up().unwrap();
    let whole = fs::read(KERNEL_BTF).unwrap();
    let third = &whole[..whole.len() / 3];
    let files: [(&str, &[u8], &str); 6] = [
        ("empty", b"", "it is empty"),
        ("garbage", b"Linux version 6.1.0 (debian-kernel@lists.debian.org)", "it is no BTF"),
        ("cut", third, "it is cut short"),
        ("header", &whole[..24], "it is cut short"),
        ("packed", b"\xfd7zXZ\0 and so on", "tar -xJf"),
        ("vmlinux", b"\x7fELF\x02\x01\x01", "objcopy"),
    ];
    for (name, bytes, reason) in files {
        let file = lab.file(name);
        fs::write(&file, bytes).unwrap();
        for said in [
            refusal(&["--btf", text(&file)]),
            hidden(|| Ok(refusal(&["--btf", text(&file)]))).unwrap(),
        ] {
            assert!(said.contains(text(&file)) && said.contains(reason), "{name}: {said}");
        }
    }
    let missing = lab.file("missing");
    let said = refusal(&["--btf", text(&missing)]);
    assert!(said.contains(text(&missing)) && said.contains("No such file"), "{said}");
    let said = refusal(&["--btf", text(lab.directory())]);
    assert!(said.contains("directory"), "{said}");
}
