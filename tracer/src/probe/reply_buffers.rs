//! The buffers in which replies wait, one for each CPU.
//!
//! A perf event that is opened the usual way wakes its reader at every record, which costs more than the
//! record, and nobody sleeps there: user space looks by time. So what writes to each buffer is a second event,
//! which wakes nobody before the buffer is half full.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use anyhow::{Context, Result};
use aya::{
    maps::{
        Map, MapData,
        perf::{PerfEvent, PerfEventArray, PerfEventArrayBuffer},
    },
    util::online_cpus,
};
use nix::{
    ioctl_write_int_bad, libc, request_code_none,
    unistd::{SysconfVar, sysconf},
};

/// Bytes of the buffer of each CPU: room for a second of an unusually busy dialogue.
const BYTES: usize = 512 << 10;

/// Pages of [`BYTES`]: a page has 4 KiB, or up to 64 on some machines of 64-bit ARM.
fn pages() -> usize {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    let page = page.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(4 << 10);
    (BYTES / page.max(1)).max(1)
}

ioctl_write_int_bad!(
    /// `PERF_EVENT_IOC_SET_OUTPUT` of `include/uapi/linux/perf_event.h`: records go to the buffer of
    /// another event.
    set_output,
    request_code_none!(b'$', 5)
);

/// The buffers of all CPUs that were online when they were opened. One that comes online later has none, and to open it
/// takes a capability that is gone by then: the kernel refuses its replies (`-ENOENT`), the program counts each of
/// them as lost, and its connection has no count of messages that could be too low.
#[derive(Default)]
pub(crate) struct ReplyBuffers {
    buffers: Vec<PerfEventArrayBuffer<MapData>>,
    /// What writes to them; kept open.
    writers: Vec<OwnedFd>,
}

/// What else to do where kernels of some distributions want `CAP_SYS_ADMIN` of who opens perf events.
fn hardened() -> String {
    let value = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    match value.trim().parse::<i32>() {
        Ok(value) if value > 2 => format!(
            ", and so does CAP_SYS_ADMIN or `sysctl kernel.perf_event_paranoid=2` (it is {value})"
        ),
        _ => String::new(),
    }
}

impl ReplyBuffers {
    /// Opens a buffer for each CPU and puts what writes to it into `map`.
    pub(crate) fn open(map: Map) -> Result<Self> {
        let descriptor = match &map {
            Map::PerfEventArray(data) => data.fd().as_fd().try_clone_to_owned()?,
            _ => anyhow::bail!("the map of replies is no array of perf events"),
        };
        let mut array = PerfEventArray::try_from(map)?;
        let cpus = online_cpus().map_err(|(_, error)| error).context("cannot list the CPUs")?;
        let mut opened = Self::default();
        for cpu in cpus {
            let failed = || {
                let remedy = "--no-replies does without";
                format!("cannot open the reply buffer of CPU {cpu}; {remedy}{}", hardened())
            };
            let buffer = array.open(cpu, Some(pages())).with_context(failed)?;
            let writer = quiet_writer(cpu, buffer.as_fd()).with_context(failed)?;
            put(descriptor.as_fd(), cpu, writer.as_raw_fd()).with_context(failed)?;
            opened.buffers.push(buffer);
            opened.writers.push(writer);
        }
        Ok(opened)
    }

    /// Passes on the bytes of each record that waits. What is lost is counted where it happens, in the program.
    pub(crate) fn for_each(&mut self, mut each: impl FnMut(&[u8])) {
        for buffer in &mut self.buffers {
            buffer.for_each(|event| {
                if let PerfEvent::Sample { head, tail } = event {
                    if tail.is_empty() { each(head) } else { each(&[head, tail].concat()) }
                }
            });
        }
    }
}

/// `struct perf_event_attr` of `include/uapi/linux/perf_event.h`, as far as its first version goes, which
/// every kernel takes.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_watermark: u32,
    breakpoint: u32,
    config_1: u64,
}

/// An event for what BPF programs put out on `cpu`, which writes to the buffer of the event `to`.
fn quiet_writer(cpu: u32, to: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const SOFTWARE: u32 = 1;
    const BPF_OUTPUT: u64 = 10;
    const SAMPLE_RAW: u64 = 1 << 10;
    const WATERMARK: u64 = 1 << 14;
    const CLOSE_ON_EXEC: libc::c_ulong = 8;
    #[expect(clippy::cast_possible_truncation, reason = "64 bytes")]
    let attributes = Attributes {
        kind: SOFTWARE,
        size: size_of::<Attributes>() as u32,
        config: BPF_OUTPUT,
        sample_period: 1,
        sample_type: SAMPLE_RAW,
        flags: WATERMARK,
        // That of the buffer counts: the half of it.
        wakeup_watermark: i32::MAX.cast_unsigned(),
        ..Attributes::default()
    };
    let every_process: libc::pid_t = -1;
    let no_group: libc::c_int = -1;
    // SAFETY: the attributes are as long as they say and live until the call is over.
    let descriptor = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            every_process,
            cpu,
            no_group,
            CLOSE_ON_EXEC,
        )
    };
    let event = RawFd::try_from(descriptor).ok().filter(|it| *it >= 0);
    let event = event.ok_or_else(io::Error::last_os_error)?;
    // SAFETY: it was just opened, and nobody else knows it.
    let event = unsafe { OwnedFd::from_raw_fd(event) };
    // SAFETY: both are perf events.
    unsafe { set_output(event.as_raw_fd(), to.as_raw_fd()) }?;
    Ok(event)
}

/// Puts the perf event `event` into `map` at `cpu`.
fn put(map: BorrowedFd<'_>, cpu: u32, event: RawFd) -> io::Result<()> {
    /// `bpf_attr` of `BPF_MAP_UPDATE_ELEM`, in `include/uapi/linux/bpf.h`.
    #[repr(C)]
    struct Update {
        map: RawFd,
        padding: u32,
        key: *const u32,
        value: *const RawFd,
        flags: u64,
    }
    const MAP_UPDATE_ELEM: libc::c_int = 2;
    let update = Update {
        map: map.as_raw_fd(),
        padding: 0,
        key: &raw const cpu,
        value: &raw const event,
        flags: 0,
    };
    // SAFETY: key and value are four bytes each, as the map has them, and live until the call is over.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, MAP_UPDATE_ELEM, &raw const update, size_of::<Update>())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
