//! Which resolvers a static binary asks.
//!
//! A static glibc has those for files and DNS in it. For any other that `/etc/nsswitch.conf` names (mdns,
//! resolve, sss) it would load that library of the machine, and with it a second C library of some other
//! version, into this process.

/// Leaves names of hosts to files and DNS. To be called before the first name is asked for, and before there
/// is a second thread.
pub(crate) fn use_linked_ones() {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    configure();
}

#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
fn configure() {
    use std::ffi::{c_char, c_int};

    unsafe extern "C" {
        /// `nss.h` of glibc: `service` in place of what `nsswitch.conf` says of `database`.
        fn __nss_configure_lookup(database: *const c_char, service: *const c_char) -> c_int;
    }
    // SAFETY: both strings end in NUL and live for ever; no other thread asks for names yet. If it fails, the
    // resolvers stay those of `nsswitch.conf`.
    let _ = unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
}
