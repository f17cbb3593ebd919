//! Iterator `tcp`: every TCP socket of one network namespace, for connections open before the start where
//! `task_file` cannot be had; where it can, only for those of MPTCP, which it does not find.
//!
//! Runs in our own process, which reads it, once per socket; for the namespace in which the reader opened it;
//! since Linux 5.9. Under the lock of the hash bucket or, later, of the socket, in which it stands: it cannot be
//! destroyed before its entry is made. Who holds the socket is not known here: user space puts it
//! into the map `HOLDERS`. A socket without a holder there is handed over by its inode number, to be looked for. A
//! subflow of MPTCP has the number of its MPTCP socket (`mptcp_subflow_create_socket`).

use core::ffi::c_void;

use crate::{
    load::Typed,
    maps, seed,
    sock::{Sock, TcpSock},
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
    look(context, |_| true);
    0
}

/// The same for subflows of MPTCP.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn tcp_mptcp(context: *const Context) -> i32 {
    look(context, TcpSock::is_mptcp);
    0
}

#[inline(always)]
fn look(context: *const Context, is_looked_for: impl Fn(TcpSock<Typed>) -> bool) {
    // SAFETY: the kernel passes such a context.
    let (meta, sk) = unsafe { ((*context).meta, (*context).sk) };
    if sk.is_null() {
        return;
    }
    let sk = Sock::<Typed>::new(sk);
    if !seed::is_wanted(sk) {
        return;
    }
    let Some(tcp) = sk.tcp().filter(|tcp| is_looked_for(*tcp)) else { return };
    let Some(inode) = tcp.inode() else { return }; // closed by its application
    // SAFETY: user space changes the map only while no iterator runs.
    if let Some(holder) = unsafe { maps::HOLDERS.get(inode) } {
        seed::observe();
        seed::seed(sk, tcp, holder);
    } else {
        seed::tell(meta, inode);
    }
}
