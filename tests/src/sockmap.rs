//! A sockmap: the kernel reads a socket in softirq, and a process gets what it has read.

use std::{
    io::Error,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, ensure};
use nix::libc::{SYS_bpf, c_long, syscall};

/// Commands, kinds and places of `include/uapi/linux/bpf.h`.
mod bpf {
    pub(super) const MAP_CREATE: i32 = 0;
    pub(super) const MAP_UPDATE_ELEM: i32 = 2;
    pub(super) const PROG_LOAD: i32 = 5;
    pub(super) const PROG_ATTACH: i32 = 8;
    pub(super) const MAP_TYPE_SOCKMAP: u32 = 15;
    pub(super) const PROG_TYPE_SK_SKB: u32 = 14;
    pub(super) const SK_SKB_STREAM_PARSER: u32 = 4;
    pub(super) const SK_SKB_STREAM_VERDICT: u32 = 5;
    /// `r0 = *(u32 *)(r1 + 0); exit`: the length of the packet, all of it is one message.
    pub(super) const WHOLE: [u64; 2] = [0x0000_0000_0000_1061, 0x95];
    /// `r0 = SK_PASS; exit`
    pub(super) const PASS: [u64; 2] = [0x0000_0001_0000_00b7, 0x95];
}

/// A map with one socket in it. The socket leaves it when this is dropped.
#[derive(Debug)]
pub struct Sockmap {
    _map: OwnedFd,
}

impl Sockmap {
    /// Has the kernel read `socket`, which is connected.
    pub fn with(socket: impl AsFd) -> Result<Self> {
        let map = bpf_fd(bpf::MAP_CREATE, &[pair(bpf::MAP_TYPE_SOCKMAP, 4), pair(4, 1)])?;
        let number = |fd: &OwnedFd| fd.as_raw_fd().cast_unsigned();
        for (program, place) in
            [(bpf::WHOLE, bpf::SK_SKB_STREAM_PARSER), (bpf::PASS, bpf::SK_SKB_STREAM_VERDICT)]
        {
            let license = c"GPL";
            let program = bpf_fd(
                bpf::PROG_LOAD,
                &[pair(bpf::PROG_TYPE_SK_SKB, 2), program.as_ptr() as u64, license.as_ptr() as u64],
            )
            .context("load a program")?;
            let [map, program] = [&map, &program].map(number);
            bpf(bpf::PROG_ATTACH, &[pair(map, program), pair(place, 0)]).context("attach it")?;
        }
        let (key, value) = (0_u32, socket.as_fd().as_raw_fd().cast_unsigned());
        let [key, value] = [&raw const key as u64, &raw const value as u64];
        bpf(bpf::MAP_UPDATE_ELEM, &[pair(number(&map), 0), key, value, 0])
            .context("put the socket into the map")?;
        Ok(Self { _map: map })
    }
}

/// Two fields of a `bpf_attr`, as they lie in memory.
fn pair(first: u32, second: u32) -> u64 {
    let [first, second] = [first, second].map(u64::from);
    if cfg!(target_endian = "little") { second << 32 | first } else { first << 32 | second }
}

fn bpf_fd(command: i32, attributes: &[u64]) -> Result<OwnedFd> {
    let fd = i32::try_from(bpf(command, attributes)?).context("a file descriptor")?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf(command: i32, attributes: &[u64]) -> Result<c_long> {
    // SAFETY: `attributes` is a `bpf_attr` of this length (the kernel takes what is missing as zero); what it points to
    // lives in the caller.
    let result = unsafe { syscall(SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) };
    ensure!(result >= 0, "bpf({command}): {}", Error::last_os_error());
    Ok(result)
}
