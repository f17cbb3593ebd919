//! The system around the tests: file systems, modules, the loopback interface, power.

use std::{
    env,
    ffi::CString,
    fs::{self, File},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    kmod::{ModuleInitFlags, finit_module},
    mount::{MsFlags, mount},
    sys::{
        reboot::{RebootMode, reboot},
        utsname::uname,
    },
};

/// Type and place of what is mounted. `/tmp` is not: a checkout may be there, and with it the path of `lab-session`.
const MOUNTS: &[(&str, &str)] = &[
    ("devtmpfs", "/dev"),
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("tmpfs", "/run"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("bpf", "/sys/fs/bpf"),
    ("tracefs", "/sys/kernel/tracing"),
    ("securityfs", "/sys/kernel/security"),
];

/// The environment of everything in the machine.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    ("SMTPTRACE_BIN", "/vm/smtptrace"),
    ("SMTPTRACE_TEST_SLOWNESS", "25"),
    ("RUST_BACKTRACE", "0"),
    ("HOME", "/tmp"),
];

/// Mounts what Linux programs expect, and sets the environment of this process.
pub(crate) fn prepare() -> Result<()> {
    for (kind, place) in MOUNTS {
        fs::create_dir_all(place).with_context(|| format!("make {place}"))?;
        mount(Some(*kind), *place, Some(*kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mount {kind} on {place}"))?;
    }
    // SAFETY: no other thread of this process exists yet that could read the environment.
    unsafe {
        for (name, value) in ENVIRONMENT {
            env::set_var(name, value);
        }
    }
    let status = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    if !status.context("start ip")?.success() {
        bail!("the loopback interface cannot be set up");
    }
    Ok(())
}

/// Release and build of the kernel.
pub(crate) fn kernel() -> Result<String> {
    let system = uname().context("uname")?;
    let text = [system.release(), system.version()].map(|it| it.to_string_lossy().into_owned());
    Ok(text.join(" "))
}

/// Loads a kernel module. One that is loaded already is no error.
pub(crate) fn load_module(file: &str) -> Result<()> {
    let open = File::open(Path::new(file)).context("open")?;
    match finit_module(open, &CString::default(), ModuleInitFlags::empty()) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => Ok(()),
        Err(error) => bail!("cannot be loaded: {error}"),
    }
}

/// Ends the machine. Its console has been read by then.
pub(crate) fn power_off() -> ! {
    nix::unistd::sync();
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    println!("{} broken power off: {error}", crate::MARK);
    loop {
        thread::sleep(Duration::from_secs(60));
    }
}
