//! Programs and libraries made to harm whoever looks into them, beside `--tls-probes`: the trace goes on, ends when it
//! is told to, and counts the real TLS client beside them.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::FileExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use tests::{
    lab::Lab,
    needs,
    postfix::{Postfix, Starttls},
    prerequisite::find_program,
    server::Server,
    tls_client::{TlsClient, library_of, python_ssl_module},
    tracer::{Run, Tracer},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(40);

/// Maps the library that is its last argument, connects three times, and stays until it is ended.
const MAPPING: &str = "\
import mmap, socket, sys, time
host, port, library = sys.argv[1:]
with open(library, 'rb') as file:
    held = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
for _ in range(3):
    client = socket.create_connection((host, int(port)))
    client.recv(512)
    client.close()
    time.sleep(0.1)
print('sent', flush=True)
sys.stdin.readline()
";

/// The same without a library, for bash.
const PLAIN: &str = "\
for session in 1 2 3; do
    exec 3<>/dev/tcp/$1/$2
    read -r greeting <&3
    exec 3>&-
done
echo sent
read -r end
";

/// A process that is ended with the test.
struct Hostile(Child);

impl Hostile {
    /// Starts `program` with its `script`, and waits until it has connected.
    fn start(lab: &Lab, program: &Path, script: &[&str], library: Option<&Path>) -> Self {
        let server = lab.server_v4();
        let mut command = Command::new(program);
        command.args(script).args([server.ip().to_string(), server.port().to_string()]);
        command.args(library).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = lab.client.spawn(&mut command).unwrap();
        let mut line = [0; 5];
        process.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
        assert_eq!(&line, b"sent\n");
        Self(process)
    }

    fn mapping(lab: &Lab, library: &Path) -> Self {
        Self::start(lab, Path::new("python3"), &["-c", MAPPING], Some(library))
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        // It runs until then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where the header of the first section of this kind stands.
fn section(file: &[u8], kind: u32) -> usize {
    let number = |at: usize, length: usize| {
        let mut bytes = [0; 8];
        bytes[..length].copy_from_slice(&file[at..at + length]);
        usize::try_from(u64::from_le_bytes(bytes)).unwrap()
    };
    let (start, count) = (number(0x28, 8), number(0x3c, 2));
    let found = (0..count).map(|n| start + 64 * n).find(|at| number(at + 4, 4) == kind as usize);
    found.expect("no such section")
}

fn stop(tracer: Tracer) -> Run {
    let run = tracer.stop_cleanly().unwrap();
    assert!(
        run.stderr.bytes().all(|byte| byte == b'\n' || !byte.is_ascii_control()),
        "{:?}",
        run.stderr
    );
    assert!(!run.stdout.contains('\x1b'), "{:?}", run.stdout);
    run
}

/// The link to debug information in a program leads to a pipe that nobody writes: once, a trace that met it hung
/// for good.
#[test]
fn a_link_to_a_pipe_keeps_nobody_waiting() {
    needs!(Namespaces, Tracer, Objcopy);
    let lab = Lab::up().unwrap();
    let _server = Server::mail(&lab).unwrap();
    let pipe = lab.file("debug");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    let link = lab.file("link");
    let mut content = pipe.to_str().unwrap().as_bytes().to_vec();
    content.resize((content.len() / 4 + 1) * 4 + 4, 0);
    fs::write(&link, content).unwrap();
    let program = lab.file("hostile");
    let mut command = Command::new("objcopy");
    command.arg("--remove-section=.gnu_debuglink");
    command.arg(format!("--add-section=.gnu_debuglink={}", link.display()));
    assert!(command.arg(find_program("bash").unwrap()).arg(&program).status().unwrap().success());
    let tracer = Tracer::start_with(&lab, &["--tls-probes"]).unwrap();
    let hostile = Hostile::start(&lab, &program, &["-c", PLAIN, "bash"], None);
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = stop(tracer);
    drop(hostile);
    assert_eq!(run.recording.connections.len(), 3, "{}", run.stderr);
}

#[test]
fn hostile_libraries_harm_nobody() {
    needs!(Namespaces, Tracer, Postfix, Openssl, Python);
    let lab = Lab::up().unwrap();
    let _receiver = Postfix::receiver(&lab, lab.server_v4(), Starttls::Offered).unwrap();
    let real = library_of(&python_ssl_module().unwrap(), "libssl").unwrap();
    let real = fs::read(real).unwrap();
    let (dynamic_symbols, strings) = (11, 3);
    let mut large = real.clone();
    for kind in [dynamic_symbols, strings] {
        let at = section(&large, kind) + 0x20;
        large[at..at + 8].copy_from_slice(&(4_u64 << 30).to_le_bytes());
    }
    let mut lost = real.clone();
    lost[0x28..0x30].copy_from_slice(&u64::MAX.to_le_bytes());
    let files: [(&str, &[u8]); 5] = [
        ("libssl-truncated.so.3", &real[..real.len() / 2]),
        ("libssl-large.so.3", &large),
        ("libssl-lost.so.3", &lost),
        ("libssl-\x1b[2J\x1b]0;owned\x07.so.3", b"no library at all, but of such a name"),
        ("libssl-real\x1b[31m.so.3", &real),
    ];
    let tracer = Tracer::start_with(&lab, &["--tls-probes"]).unwrap();
    let mut hostile = Vec::new();
    for (name, content) in files {
        let path = lab.file(name);
        fs::write(&path, content).unwrap();
        hostile.push(Hostile::mapping(&lab, &path));
    }
    // Something else stands where the library was: a pipe and a device, by the name that the process shows.
    for (name, put) in [("libssl-pipe.so.3", None), ("libssl-device.so.3", Some("/dev/zero"))] {
        let path = lab.file(name);
        fs::write(&path, &real).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        hostile.push(Hostile::mapping(&lab, &path));
        // It is cut while it is mapped, too.
        file.set_len(100).unwrap();
        file.write_at(b"x", 0).unwrap();
        fs::remove_file(&path).unwrap();
        match put {
            None => mkfifo(&path, Mode::S_IRWXU).unwrap(),
            Some(device) => std::os::unix::fs::symlink(device, &path).unwrap(),
        }
    }
    // The first session may be over before its library is found.
    let client = || TlsClient::python(&lab.client, lab.server_v4(), &["2x1"]).unwrap().finish();
    client().unwrap();
    let exact = wait::until("a session that is counted by probes", PATIENCE, || {
        client()?;
        let records = tracer.recording_so_far()?.connections;
        let exact = records
            .into_iter()
            .find(|it| it.text("transactions_method").ok().flatten() == Some("tls-probes"));
        Ok(exact)
    })
    .unwrap();
    assert_eq!(exact.known("transactions").unwrap(), 2, "{}", exact.json());
    lab.wait_for_ends(PATIENCE).unwrap();
    let run = stop(tracer);
    assert!(run.stderr.contains("libssl-real\\u{1b}[31m"), "{}", run.stderr);
}
