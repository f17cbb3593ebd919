//! Client, router and server: three namespaces in a row, with IPv4 and IPv6.

use std::{
    fs::{self, File, OpenOptions},
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc::{F_WRLCK, SEEK_SET, flock},
};

use crate::{
    namespace::{Namespace, remove_leftovers, run_with_input},
    pace, wait,
};

/// Address of the client.
pub const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(10, 71, 1, 2);
/// Address of the client.
pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xfd71, 1, 0, 0, 0, 0, 0, 2);
/// First address of the server; it has the following seven as well.
pub const SERVER_V4: Ipv4Addr = Ipv4Addr::new(10, 71, 2, 2);
/// First IPv6 address of the server; it has the following seven as well.
pub const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd71, 2, 0, 0, 0, 0, 0, 2);
/// An address on the server's network that nobody has: the router asks for it in vain.
pub const ABSENT_V4: Ipv4Addr = Ipv4Addr::new(10, 71, 2, 250);
/// How many addresses of each family the server has.
pub const SERVER_ADDRESSES: u8 = 8;

const DIRECTORY_PREFIX: &str = "smtptrace-lab-";

/// The network of one test.
#[derive(Debug)]
pub struct Lab {
    /// Where mail is sent from. Interface `c0`.
    pub client: Namespace,
    /// Where middleboxes live. Interfaces `r0` (to the client) and `r1` (to the server).
    pub router: Namespace,
    /// Where mail goes to. Interface `s0`.
    pub server: Namespace,
    directory: PathBuf,
    port: Port,
}

impl Lab {
    /// Builds the network.
    pub fn up() -> Result<Self> {
        remove_leftovers()?;
        remove_left_directories()?;
        let port = Port::take()?;
        let directory = std::env::temp_dir().join(format!(
            "{DIRECTORY_PREFIX}{}-{}",
            std::process::id(),
            port.number
        ));
        fs::create_dir_all(&directory)
            .with_context(|| format!("create {}", directory.display()))?;
        let lab = Self {
            client: Namespace::create("c")?,
            router: Namespace::create("r")?,
            server: Namespace::create("s")?,
            directory,
            port,
        };
        lab.connect_namespaces().context("build the network")?;
        lab.resolve_neighbours()?;
        Ok(lab)
    }

    fn connect_namespaces(&self) -> Result<()> {
        let (client, router, server) = (&self.client, &self.router, &self.server);
        link(client, "c0", router, "r0")?;
        link(server, "s0", router, "r1")?;
        address(client, "c0", "10.71.1.2/24", "fd71:1::2/64")?;
        address(router, "r0", "10.71.1.1/24", "fd71:1::1/64")?;
        address(router, "r1", "10.71.2.1/24", "fd71:2::1/64")?;
        address(server, "s0", "10.71.2.2/24", "fd71:2::2/64")?;
        for offset in 1..SERVER_ADDRESSES {
            let v4 = format!("{}/24", server_v4(offset));
            server.run("ip", ["addr", "add", &v4, "dev", "s0"])?;
            let v6 = format!("{}/64", server_v6(offset));
            server.run("ip", ["addr", "add", &v6, "dev", "s0", "nodad"])?;
        }
        for (namespace, v4, v6) in
            [(client, "10.71.1.1", "fd71:1::1"), (server, "10.71.2.1", "fd71:2::1")]
        {
            namespace.run("ip", ["route", "add", "default", "via", v4])?;
            namespace.run("ip", ["-6", "route", "add", "default", "via", v6])?;
        }
        router.sysctl("net.ipv4.ip_forward", "1")?;
        router.sysctl("net.ipv6.conf.all.forwarding", "1")
    }

    /// Has every neighbour looked up once: otherwise the first SYN would wait for ARP.
    fn resolve_neighbours(&self) -> Result<()> {
        for target in [IpAddr::from(SERVER_V4), IpAddr::from(SERVER_V6)] {
            // Nobody listens there: a refusal means that the path works both ways. A SYN that is lost
            // while the links come up would be repeated after a second: try anew much sooner.
            let closed = SocketAddr::new(target, 9);
            let attempt = pace::stretched(Duration::from_millis(40));
            wait::until("a path to the server", Duration::from_secs(5), || {
                self.client.enter("resolve", || {
                    let result = TcpStream::connect_timeout(&closed, attempt);
                    let refused = result.is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused);
                    Ok(refused.then_some(()))
                })
            })?;
        }
        Ok(())
    }

    /// A port that no other test uses at this time: what smtptrace is told to trace.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// The server's IPv4 address with the port of this lab.
    pub fn server_v4(&self) -> SocketAddr {
        SocketAddr::from((SERVER_V4, self.port()))
    }

    /// The server's IPv6 address with the port of this lab.
    pub fn server_v6(&self) -> SocketAddr {
        SocketAddr::from((SERVER_V6, self.port()))
    }

    /// Directory for files of this test; removed with the lab.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A file in [`Self::directory`].
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Loads nftables rules into the router, on top of what is there.
    pub fn router_rules(&self, rules: &str) -> Result<()> {
        self.router
            .enter("nft", || run_with_input(Command::new("nft").args(["-f", "-"]), rules).map(drop))
    }

    /// Has the router drop forwarded packets that match the nftables expression `packets`.
    pub fn router_drop(&self, packets: &str) -> Result<()> {
        self.router_rules(&format!(
            "table inet box {{\n chain path {{\n type filter hook forward priority filter; \
             policy accept;\n {packets} counter drop\n }}\n}}\n"
        ))
    }

    /// Removes all rules from the router.
    pub fn router_open(&self) -> Result<()> {
        self.router.run("nft", ["flush", "ruleset"]).map(drop)
    }

    /// Waits until no socket of the client talks to the port of this lab any more (TIME-WAIT does
    /// not count: the socket proper has ended then).
    pub fn wait_for_ends(&self, timeout: Duration) -> Result<()> {
        let filter = format!("dport = :{}", self.port());
        wait::until("the end of all connections", timeout, || {
            let sockets =
                self.client.run("ss", ["-tanH", "exclude", "time-wait", filter.as_str()])?;
            Ok(sockets.stdout.is_empty().then_some(()))
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::env::var_os("SMTPTRACE_LAB_KEEP").is_none() {
            // What is left lies in the directory for temporary files.
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Removes the directories of test runs that were killed.
fn remove_left_directories() -> Result<()> {
    for entry in fs::read_dir(std::env::temp_dir()).context("list temporary files")? {
        let entry = entry.context("list temporary files")?;
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(DIRECTORY_PREFIX)) else {
            continue;
        };
        let pid = rest.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(pid).exists() {
            // Another test may be doing the same.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

/// One of the server's IPv4 addresses; `offset` below [`SERVER_ADDRESSES`].
pub fn server_v4(offset: u8) -> Ipv4Addr {
    let [a, b, c, d] = SERVER_V4.octets();
    Ipv4Addr::new(a, b, c, d + offset)
}

/// One of the server's IPv6 addresses; `offset` below [`SERVER_ADDRESSES`].
pub fn server_v6(offset: u8) -> Ipv6Addr {
    Ipv6Addr::from_bits(SERVER_V6.to_bits() + u128::from(offset))
}

/// A port below the ephemeral range that no other lab of this machine has at this time: smtptrace looks into all
/// namespaces, so two labs with one port would see each other.
#[derive(Debug)]
struct Port {
    number: u16,
    /// Holds a lock on the byte of this number; the kernel releases it with the process, however that ends.
    _lock: File,
}

impl Port {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;

    /// Takes one, beginning at a place that the process id gives. A process is given none twice: tests name files
    /// after it.
    fn take() -> Result<Self> {
        static TAKEN: AtomicU32 = AtomicU32::new(0);
        let path = Path::new("/run/smtptrace-lab.ports");
        let taken = TAKEN.fetch_add(1, Ordering::Relaxed);
        let begin = std::process::id().wrapping_mul(61).wrapping_add(taken);
        for offset in 0..u32::from(Self::COUNT) {
            let number = begin.wrapping_add(offset) % u32::from(Self::COUNT);
            let number = Self::FIRST + u16::try_from(number)?;
            // Locks of one open file do not exclude each other: each has its own.
            let file = OpenOptions::new().create(true).append(true).open(path);
            let file = file.with_context(|| format!("open {}", path.display()))?;
            let byte = flock {
                l_type: i16::try_from(F_WRLCK)?,
                l_whence: i16::try_from(SEEK_SET)?,
                l_start: number.into(),
                l_len: 1,
                l_pid: 0,
            };
            match fcntl(&file, FcntlArg::F_OFD_SETLK(&byte)) {
                Ok(_) => return Ok(Self { number, _lock: file }),
                Err(Errno::EAGAIN | Errno::EACCES) => {}
                Err(error) => return Err(error).context(format!("lock {}", path.display())),
            }
        }
        bail!("every port has a lab that is up: see {}", path.display())
    }
}

fn link(left: &Namespace, left_name: &str, right: &Namespace, right_name: &str) -> Result<()> {
    left.run(
        "ip",
        [
            "link",
            "add",
            left_name,
            "type",
            "veth",
            "peer",
            "name",
            right_name,
            "netns",
            right.name(),
        ],
    )?;
    left.run("ip", ["link", "set", left_name, "up"])?;
    right.run("ip", ["link", "set", right_name, "up"])?;
    Ok(())
}

fn address(namespace: &Namespace, interface: &str, v4: &str, v6: &str) -> Result<()> {
    namespace.run("ip", ["addr", "add", v4, "dev", interface])?;
    namespace.run("ip", ["addr", "add", v6, "dev", interface, "nodad"])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_labs_have_one_port() {
        crate::needs!(Links);
        let first = Port::take().unwrap();
        let second = Port::take().unwrap();
        assert_ne!(first.number, second.number);
        let taken = first.number;
        drop(first);
        assert_ne!(Port::take().unwrap().number, taken, "no process is given a port twice");
    }
}
