//! How fields of kernel objects are read, through offsets from the running kernel's BTF.

use core::{ffi::c_void, mem::MaybeUninit, ptr};

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_skc_to_tcp_sock};
use tracer_common::config::Offsets;

use crate::config::offset;

/// How a kernel field is loaded.
pub(crate) trait Load: Copy {
    /// Reads a `T` at `base + offset`.
    ///
    /// # Safety
    ///
    /// `base` points to a live kernel object and `offset` is that of a `T` in it.
    unsafe fn load<T: Copy>(base: *const c_void, offset: u32) -> T;

    /// `sk` as a `tcp_sock`; null if it is none.
    fn tcp_sock(sk: *const c_void) -> *const c_void;
}

/// A plain load, for programs whose arguments are typed by BTF (`tp_btf`, fentry): the verifier checks
/// the offset against the type, and a fault reads as 0.
#[derive(Clone, Copy)]
pub(crate) struct Typed;

/// Through `bpf_probe_read_kernel`, for programs whose arguments are bare numbers (raw tracepoint, kprobe).
#[derive(Clone, Copy)]
pub(crate) struct Probed;

impl Load for Typed {
    #[inline(always)]
    unsafe fn load<T: Copy>(base: *const c_void, offset: u32) -> T {
        // SAFETY: by the contract of `load`; the verifier makes this a load that cannot fault.
        unsafe { ptr::read_volatile(base.byte_add(offset as usize).cast::<T>()) }
    }

    #[inline(always)]
    fn tcp_sock(sk: *const c_void) -> *const c_void {
        // SAFETY: the helper accepts any `sock_common` and tests protocol and state itself.
        unsafe { bpf_skc_to_tcp_sock(sk.cast_mut()) }.cast_const().cast()
    }
}

impl Load for Probed {
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the size of one integer")]
    unsafe fn load<T: Copy>(base: *const c_void, offset: u32) -> T {
        const { assert!(size_of::<T>() <= 8, "one integer") };
        let mut value = MaybeUninit::<T>::zeroed();
        // SAFETY: the destination is `size_of::<T>()` bytes on this stack; the helper reads the source
        // safely and zeroes the destination if it cannot. Callers read integers only.
        unsafe {
            bpf_probe_read_kernel(
                value.as_mut_ptr().cast(),
                size_of::<T>() as u32,
                base.byte_add(offset as usize),
            );
            value.assume_init()
        }
    }

    #[inline(always)]
    fn tcp_sock(sk: *const c_void) -> *const c_void {
        const IPPROTO_TCP: u16 = 6;
        // SAFETY: `sk` is a sock, and the field is a `u16` of it.
        let protocol: u16 = unsafe { load_field::<Self, _>(sk, |o| &o.sk_protocol) };
        // A tcp_sock begins with its sock.
        if protocol == IPPROTO_TCP { sk } else { ptr::null() }
    }
}

/// Reads the field that `field` picks; the default if this kernel does not have it.
///
/// # Safety
///
/// `base` points to a live kernel object that has this field, of type `T`.
#[inline(always)]
pub(crate) unsafe fn load_field<L: Load, T: Copy + Default>(
    base: *const c_void,
    field: fn(&Offsets) -> &u32,
) -> T {
    match offset(field) {
        // SAFETY: by the contract of this function.
        Some(offset) => unsafe { L::load(base, offset) },
        None => T::default(),
    }
}
