//! Functions of OpenSSL and GnuTLS, as uprobes: the read side of TLS sessions.
//!
//! Attached only with `--tls-probes`, to the library files that processes with traced connections
//! map. A uprobe fires in every process that maps the file. No argument or buffer of a write is looked
//! at; none of the functions that write is probed.

use aya_ebpf::{
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};

use crate::tls::{self, Kind};

/// `int SSL_read(SSL *ssl, void *buf, int num)`,
/// `ssize_t gnutls_record_recv(gnutls_session_t session, void *data, size_t data_size)`
#[uprobe]
fn tls_read(ctx: ProbeContext) -> u32 {
    if let (Some(session), Some(buffer)) = (ctx.arg(0), ctx.arg(1)) {
        tls::enter(Kind::READ, session, buffer, 0);
    }
    0
}

/// `int SSL_read_ex(SSL *ssl, void *buf, size_t num, size_t *readbytes)`
#[uprobe]
fn tls_read_ex(ctx: ProbeContext) -> u32 {
    if let (Some(session), Some(buffer), Some(length)) = (ctx.arg(0), ctx.arg(1), ctx.arg(3)) {
        tls::enter(Kind::READ_EX, session, buffer, length);
    }
    0
}

/// `int SSL_do_handshake(SSL *ssl)`, `int SSL_connect(SSL *ssl)`, `int SSL_shutdown(SSL *ssl)`,
/// `int gnutls_handshake(gnutls_session_t session)`,
/// `int gnutls_bye(gnutls_session_t session, gnutls_close_request_t how)`: they receive, and return no data.
#[uprobe]
fn tls_control(ctx: ProbeContext) -> u32 {
    if let Some(session) = ctx.arg(0) {
        tls::enter(Kind::CONTROL, session, 0, 0);
    }
    0
}

/// The return of all of these.
#[uretprobe]
fn tls_return(ctx: RetProbeContext) -> u32 {
    // All return an int, or a number of bytes that fits in one.
    tls::leave(&ctx, ctx.ret());
    0
}

/// What [`tls_return`] goes on with where a read was long. It is attached to nothing.
#[uretprobe]
fn tls_next(ctx: RetProbeContext) -> u32 {
    tls::next_piece(&ctx);
    0
}

/// `void SSL_free(SSL *ssl)`, `void gnutls_deinit(gnutls_session_t session)`
#[uprobe]
fn tls_free(ctx: ProbeContext) -> u32 {
    if let Some(session) = ctx.arg(0) {
        tls::forget(session);
    }
    0
}
