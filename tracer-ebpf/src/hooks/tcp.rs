//! Iterator `tcp`: every TCP socket of one network namespace, for connections open before the start where
//! `task_file` cannot be had.
//!
//! Runs in our own process, which reads it, once per socket; for the namespace in which the reader opened it;
//! since Linux 5.9. Under the lock of the hash bucket or, later, of the socket, in which it stands: it cannot be
//! destroyed before its entry is made. Who holds the socket is not known here: user space puts it
//! into the map `HOLDERS`. A socket without a holder there is handed over by its inode number, to be looked for.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_seq_write;

use crate::{
    load::{Load, Typed},
    maps, seed,
    sock::Sock,
};

/// `struct bpf_iter__tcp`, each member in eight bytes.
#[repr(C)]
struct Context {
    meta: *const c_void,
    sk: *const c_void,
    uid: u64,
}

/// Called once more at the end, without a socket.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn tcp(context: *const Context) -> i32 {
    // SAFETY: the kernel passes such a context.
    let (meta, sk) = unsafe { ((*context).meta, (*context).sk) };
    if sk.is_null() {
        return 0;
    }
    let sk = Sock::<Typed>::new(sk);
    if !seed::is_wanted(sk) {
        return 0;
    }
    let Some(tcp) = sk.tcp() else { return 0 };
    let Some(inode) = tcp.inode() else { return 0 }; // closed by its application
    // SAFETY: user space changes the map only while no iterator runs.
    if let Some(holder) = unsafe { maps::HOLDERS.get(inode) } {
        seed::observe();
        seed::seed(sk, tcp, holder);
    } else {
        // SAFETY: the first member of `struct bpf_iter_meta` is the `seq_file`, by the interface of
        // iterators; the number is eight bytes on this stack.
        unsafe {
            let seq: *mut c_void = Typed::load(meta, 0);
            bpf_seq_write(seq.cast(), (&raw const inode).cast(), 8);
        }
    }
    0
}
