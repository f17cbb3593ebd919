//! The packages: installed, used, upgraded, removed and purged, in a file system that only the test sees.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tests::{
    has,
    lab::Lab,
    needs,
    private_root::PrivateRoot,
    python,
    server::{Script, Server},
    session::Session,
    shipped, wait,
};

const PATIENCE: Duration = Duration::from_secs(60);
const CONFFILE: &str = "/etc/default/smtptrace";
const UNIT: &str = "/usr/lib/systemd/system/smtptrace.service";
const STATE: &str = "/var/lib/smtptrace";

/// Writes down how it is called.
const SYSTEMCTL: &str = "#!/bin/sh\necho \"$*\" >>/run/systemctl.log\n";

/// Ends the process also when the test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A root in which systemd seems to run: what the scripts tell it is written down.
fn root_with_systemd(lab: &Lab) -> PrivateRoot {
    let root = PrivateRoot::make(&lab.file("private_root")).unwrap();
    root.run("mkdir", ["-p", "/run/systemd/system"]).unwrap();
    root.run("rm", ["-f", "/usr/bin/systemctl", "/bin/systemctl"]).unwrap();
    root.write("/usr/bin/systemctl", SYSTEMCTL, "0755").unwrap();
    root
}

/// What the scripts told systemd since the last question.
fn told(root: &PrivateRoot) -> Vec<String> {
    let log = root.run("sh", ["-c", "touch /run/systemctl.log; cat /run/systemctl.log"]).unwrap();
    root.run("rm", ["/run/systemctl.log"]).unwrap();
    log.lines().map(str::to_owned).collect()
}

/// What is left of a package: all changes but those of package managers themselves and of the test.
fn left(root: &PrivateRoot) -> Vec<String> {
    let others =
        ["/var/lib/dpkg/", "/var/log/", "/var/cache/", "/usr/bin/systemctl", "/bin/systemctl"];
    let is_other = |path: &String| others.iter().any(|other| path.starts_with(other));
    root.changes().unwrap().into_iter().filter(|path| !is_other(path)).collect()
}

/// Copies a file into the root.
fn copy_in(root: &PrivateRoot, file: &Path) -> String {
    let inside = format!("/tmp/{}", file.file_name().unwrap().to_string_lossy());
    let mut copy = root.command("sh");
    copy.args(["-c", "cat >\"$1\"", "copy", &inside]).stdin(File::open(file).unwrap());
    assert!(copy.status().unwrap().success());
    inside
}

/// The same package as a later version, which ships other settings.
fn later(root: &PrivateRoot, package: &str) -> String {
    let script = "set -e
        dpkg-deb --raw-extract \"$1\" /tmp/later
        sed -i 's/^Version: .*/Version: 99.0/' /tmp/later/DEBIAN/control
        echo '# later' >>/tmp/later/etc/default/smtptrace
        dpkg-deb --root-owner-group -Znone --build /tmp/later /tmp/later.deb >/dev/null";
    root.run("sh", ["-c", script, "later", package]).unwrap();
    "/tmp/later.deb".into()
}

/// What the settings say smtptrace is called with.
fn options(root: &PrivateRoot) -> Vec<String> {
    let settings = root.run("cat", [CONFFILE]).unwrap();
    let line = settings.lines().find_map(|line| line.strip_prefix("SMTPTRACE_OPTIONS=")).unwrap();
    line.trim_matches('"').split_whitespace().map(str::to_owned).collect()
}

/// Traces a session with the installed program, with the settings and the capabilities of the service, and
/// reads the recording back with it.
fn trace(root: &PrivateRoot, lab: &Lab) {
    let script = Script::mail_server("220 server.test ESMTP");
    let _server = Server::start(&lab.server, lab.server_v4(), script).unwrap();
    root.run("install", ["-d", "-o", "nobody", "-m", "0700", STATE]).unwrap();
    let mut options = options(root);
    for (option, value) in [("--dport", lab.port().to_string()), ("--listen", "127.0.0.1:0".into())]
    {
        let place = options.iter().position(|it| it == option).unwrap();
        options[place + 1] = value;
    }
    let stream = lab.file("stream.jsonl");
    let mut command = root.command("setpriv");
    command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--no-new-privs"]);
    let capabilities = "-all,+bpf,+perfmon";
    for set in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
        command.arg(format!("{set}={capabilities}"));
    }
    command.args(["/usr/bin/smtptrace", "--record", &format!("{STATE}/smtp.jsonl.zst")]);
    command.args(options).args(["--format", "jsonl"]);
    let errors = lab.file("stderr");
    command.stdout(File::create(&stream).unwrap()).stderr(File::create(&errors).unwrap());
    let mut running = Running(command.spawn().unwrap());
    let lines = || fs::read_to_string(&stream).unwrap().lines().count();
    wait::until("tracing to begin", PATIENCE, || {
        let ended = running.0.try_wait().unwrap();
        assert!(ended.is_none(), "{ended:?}: {}", fs::read_to_string(&errors).unwrap());
        Ok((lines() > 0).then_some(()))
    })
    .unwrap();
    let mut session = Session::connect(&lab.client, lab.server_v4()).unwrap();
    session.begin().unwrap();
    session.message(1000).unwrap();
    session.quit().unwrap();
    wait::until("the session to be recorded", PATIENCE, || Ok((lines() > 1).then_some(())))
        .unwrap();
    kill(Pid::from_raw(running.0.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(running.0.wait().unwrap().success(), "{}", fs::read_to_string(&errors).unwrap());

    let script = format!("exec /usr/bin/smtptrace report --format json {STATE}/*.zst");
    let report: Value = serde_json::from_str(&root.run("sh", ["-c", &script]).unwrap()).unwrap();
    let destination = &report["destinations"][0];
    assert_eq!(destination["connections"], 1, "{report}");
    assert_eq!(destination["transactions"], 1, "{report}");
}

#[test]
fn deb_from_installation_to_purge() {
    needs!(Namespaces, Setpriv, Deb);
    let lab = Lab::up().unwrap();
    let root = root_with_systemd(&lab);
    let package = copy_in(&root, &shipped::deb().unwrap());
    assert_eq!(left(&root), [""; 0]);

    root.run("dpkg", ["--install", &package]).unwrap();
    assert_eq!(told(&root), ["daemon-reload"], "installing neither enables nor starts the service");
    let version = root.run("/usr/bin/smtptrace", ["--version"]).unwrap();
    assert_eq!(version.trim(), format!("smtptrace {}", env!("CARGO_PKG_VERSION")));
    assert_eq!(root.run("dpkg", ["--verify", "smtptrace"]).unwrap(), "");
    assert!(root.has("/usr/share/man/man1/smtptrace.1.gz"));
    assert!(!root.has("/etc/systemd/system/multi-user.target.wants/smtptrace.service"));
    if has!("the unit": SystemdAnalyze) {
        check_unit(&root);
    }
    trace(&root, &lab);

    // The administrator's settings outlive an upgrade that ships other ones.
    let mine = "SMTPTRACE_OPTIONS=\"--dport 2525\"\n";
    root.write(CONFFILE, mine, "0644").unwrap();
    let later = later(&root, &package);
    root.run("dpkg", ["--force-confold", "--install", &later]).unwrap();
    assert_eq!(told(&root), ["daemon-reload", "try-restart smtptrace.service"]);
    assert_eq!(root.run("cat", [CONFFILE]).unwrap(), mine);
    assert!(root.has("/etc/default/smtptrace.dpkg-dist"));

    root.run("dpkg", ["--remove", "smtptrace"]).unwrap();
    let stopped = [
        "stop smtptrace.service",
        "--no-reload --quiet disable smtptrace.service",
        "daemon-reload",
    ];
    assert_eq!(told(&root), stopped);
    assert!(!root.has("/usr/bin/smtptrace") && !root.has(UNIT));
    assert_eq!(root.run("cat", [CONFFILE]).unwrap(), mine, "settings stay until purge");
    assert!(left(&root).iter().any(|path| path.starts_with(STATE)), "recordings stay until purge");

    root.run("dpkg", ["--purge", "smtptrace"]).unwrap();
    assert_eq!(told(&root), ["daemon-reload"]);
    assert_eq!(left(&root), [""; 0], "purging leaves nothing");
}

fn check_unit(root: &PrivateRoot) {
    let mut verify = root.command("systemd-analyze");
    let output = verify.args(["verify", "--man=no", UNIT]).output().unwrap();
    let messages = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = messages.lines().filter(|line| line.contains("smtptrace")).collect();
    assert!(output.status.success() && ours.is_empty(), "{output:?}");
    // 0 is the best exposure and 100 the worst.
    let security = ["security", "--offline=true", "--threshold=25", "--no-pager", UNIT];
    root.run("systemd-analyze", security).unwrap();
}

#[test]
fn deb_has_no_faults_that_debian_knows() {
    needs!(Deb, Lintian);
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0"]);
    let output = lintian.arg(shipped::deb().unwrap()).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn rpm_from_installation_to_erasure() {
    needs!(Namespaces, Rpm);
    let lab = Lab::up().unwrap();
    let root = root_with_systemd(&lab);
    let package = copy_in(&root, &shipped::rpm().unwrap());
    let rpm = |arguments: &[&str]| {
        // Its database is in memory; the shell is not in it, for it came with the machine.
        let mut all = vec!["--dbpath", "/tmp/rpm"];
        all.extend_from_slice(arguments);
        root.run("rpm", all)
    };
    let needs = rpm(&["--query", "--requires", "--package", &package]).unwrap();
    let strange: Vec<&str> =
        needs.lines().filter(|it| !it.starts_with("rpmlib(") && *it != "/bin/sh").collect();
    assert_eq!(strange, [""; 0], "it needs nothing but a shell");
    let settings = rpm(&["--query", "--configfiles", "--package", &package]).unwrap();
    assert_eq!(settings.trim(), CONFFILE);

    rpm(&["--install", "--nodeps", &package]).unwrap();
    assert_eq!(told(&root), ["daemon-reload"], "installing neither enables nor starts the service");
    let version = root.run("/usr/bin/smtptrace", ["--version"]).unwrap();
    assert_eq!(version.trim(), format!("smtptrace {}", env!("CARGO_PKG_VERSION")));
    rpm(&["--verify", "--nodeps", "smtptrace"]).unwrap();
    if has!("the unit": SystemdAnalyze) {
        check_unit(&root);
    }

    rpm(&["--erase", "--nodeps", "smtptrace"]).unwrap();
    let stopped = [
        "stop smtptrace.service",
        "--no-reload --quiet disable smtptrace.service",
        "daemon-reload",
    ];
    assert_eq!(told(&root), stopped);
    assert_eq!(left(&root), [""; 0], "erasing leaves nothing");
}

/// What `program` prints.
fn output(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    output.stdout
}

/// Also those for the other processor, if they were packed.
#[test]
fn packages_hold_a_program_for_the_processor_they_name() {
    needs!(Deb, Rpm);
    // The number is e_machine of elf(5).
    for (machine, name, of_debian) in [(62, "x86_64", "amd64"), (183, "aarch64", "arm64")] {
        let endings =
            [format!("_{of_debian}.deb"), format!(".{name}.rpm"), format!("-{name}.tar.gz")];
        let files = endings.map(|ending| shipped::file(&ending));
        let [Some(deb), Some(rpm), Some(tarball)] = &files else {
            assert!(files.iter().all(Option::is_none), "only {files:?}");
            assert_ne!(name, std::env::consts::ARCH);
            continue;
        };
        let [deb, rpm, tarball] = [deb, rpm, tarball].map(|file| file.to_str().unwrap());
        let named = output("dpkg-deb", &["--field", deb, "Architecture"]);
        assert_eq!(String::from_utf8_lossy(&named).trim(), of_debian);
        let named = output("rpm", &["--query", "--package", "--queryformat", "%{ARCH}", rpm]);
        assert_eq!(String::from_utf8_lossy(&named), name);

        let from_tar = "tar --extract --to-stdout --wildcards '*bin/smtptrace'";
        let unpack = |script: String, file| output("sh", &["-c", &script, "unpack", file]);
        let program = unpack(format!("dpkg-deb --fsys-tarfile \"$1\" | {from_tar}"), deb);
        assert_eq!(program[..4], *b"\x7fELF");
        assert_eq!(u16::from_le_bytes([program[18], program[19]]), machine, "{deb}");
        assert!(unpack(format!("{from_tar} --file \"$1\""), tarball) == program, "{tarball}");
        let sum = format!("dpkg-deb --fsys-tarfile \"$1\" | {from_tar} | sha256sum");
        let sum = String::from_utf8(unpack(sum, deb)).unwrap();
        let dump = output("rpm", &["--query", "--package", "--dump", rpm]);
        let dump = String::from_utf8(dump).unwrap();
        let of_rpm = dump.lines().find(|line| line.starts_with("/usr/bin/smtptrace ")).unwrap();
        assert!(of_rpm.contains(sum.split_whitespace().next().unwrap()), "{of_rpm}: {sum}");
    }
}

/// Prints what the reference implementation finds wrong with a bill of materials.
const VALIDATE: &str = "
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())
if error is not None:
    print(repr(error)[:2000])
";

#[test]
fn bill_of_materials_names_what_is_locked() {
    needs!(Bill);
    let file = shipped::bill().unwrap();
    if has!("its schema": PythonModule("cyclonedx")) {
        assert_eq!(python::run(VALIDATE, &[file.to_str().unwrap()]).unwrap(), "");
    }
    let bill: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let lock = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    let lock = fs::read_to_string(lock).unwrap();
    let components = bill["components"].as_array().unwrap();
    for name in ["aya", "aya-ebpf", "tokio", "zstd-sys", "tracer-analysis"] {
        assert!(components.iter().any(|it| it["name"] == name), "{name} is not in the bill");
    }
    for name in ["proptest", "criterion", "cc", "syn"] {
        assert!(components.iter().all(|it| it["name"] != name), "{name} is in the bill");
    }
    for component in components.iter().filter(|it| it.get("purl").is_some()) {
        let sum = component["hashes"][0]["content"].as_str().unwrap();
        let (name, version) = (&component["name"], &component["version"]);
        let start = format!("name = {name}\nversion = {version}\n");
        let locked = lock.split("[[package]]\n").find(|it| it.starts_with(&start));
        assert!(locked.unwrap().contains(&format!("checksum = \"{sum}\"")), "{component}");
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
    }
}
