//! Uprobes by file and place. The kernel opens nothing that it is not told of: no symbol is looked up, and no
//! file is read but for the instruction at that place.

use std::{
    ffi::CStr,
    fs, io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use nix::libc;

/// What the kernel says of its uprobes.
const KIND: &str = "/sys/bus/event_source/devices/uprobe";

/// Opens a uprobe at `offset` in `file`, at the entry of the function there or at its `returns`, in every process.
/// It does nothing until a program is [set](run). Closing it takes it away.
pub(crate) fn open(file: &CStr, offset: u64, returns: bool) -> io::Result<OwnedFd> {
    /// `PERF_ATTR_SIZE_VER1`.
    const SIZE: u64 = 72;
    const DISABLED: u64 = 1;
    const ANY_PROCESS: i32 = -1;
    const CPU: i32 = 0;
    const NO_GROUP: i32 = -1;
    /// `PERF_FLAG_FD_CLOEXEC`.
    const CLOSE_ON_EXEC: u64 = 8;
    let kind: u64 = number(&fs::read_to_string(format!("{KIND}/type"))?)?;
    let config = if returns {
        let format = fs::read_to_string(format!("{KIND}/format/retprobe"))?;
        let bit = number(format.trim().strip_prefix("config:").unwrap_or_default())?;
        1_u64.checked_shl(bit).ok_or(io::ErrorKind::InvalidData)?
    } else {
        0
    };
    // type and size; config; sample_period; sample_type; read_format; flags; wakeup_events and bp_type;
    // config1, the file; config2, the offset in it.
    let first = if cfg!(target_endian = "little") { kind | SIZE << 32 } else { kind << 32 | SIZE };
    let attributes = [first, config, 0, 0, 0, DISABLED, 0, file.as_ptr().addr() as u64, offset];
    // SAFETY: the attributes are SIZE bytes as the kernel lays them out, and they and the name of the file
    // live until the call returns.
    let descriptor = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            attributes.as_ptr(),
            ANY_PROCESS,
            CPU,
            NO_GROUP,
            CLOSE_ON_EXEC,
        )
    };
    match i32::try_from(descriptor) {
        // SAFETY: the kernel has just put it into our table, and nobody else knows its number.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Has `program` run at `uprobe`. It takes no capability.
pub(super) fn run(program: BorrowedFd<'_>, uprobe: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both are open, and the kernel refuses what is not what it should be.
    unsafe { ioctl::set_program(uprobe.as_raw_fd(), program.as_raw_fd().unsigned_abs().into()) }?;
    // SAFETY: the same; the argument names no further events.
    unsafe { ioctl::enable(uprobe.as_raw_fd(), 0) }?;
    Ok(())
}

/// Requests to a perf event (`linux/perf_event.h`).
mod ioctl {
    use nix::{ioctl_write_int, ioctl_write_int_bad, request_code_none};

    ioctl_write_int!(set_program, b'$', 8);
    ioctl_write_int_bad!(enable, request_code_none!(b'$', 0));
}
