//! Read-only configuration: written once before the programs are loaded, then frozen, so that the
//! verifier sees constants.

use bytemuck::{Pod, Zeroable};

/// Value of an offset whose field this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// Byte offsets of kernel fields, from the running kernel's BTF. `ABSENT` where a field is missing.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Offsets {
    /// `sock.__sk_common.skc_daddr`
    pub skc_daddr: u32,
    /// `sock.__sk_common.skc_rcv_saddr`
    pub skc_rcv_saddr: u32,
    /// `sock.__sk_common.skc_dport`, network byte order
    pub skc_dport: u32,
    /// `sock.__sk_common.skc_family`
    pub skc_family: u32,
    /// `sock.__sk_common.skc_v6_daddr`; absent without IPv6
    pub skc_v6_daddr: u32,
    /// `sock.__sk_common.skc_v6_rcv_saddr`; absent without IPv6
    pub skc_v6_rcv_saddr: u32,
    /// `sock.__sk_common.skc_net.net`
    pub skc_net: u32,
    /// `net.ns.inum`
    pub net_inum: u32,
    /// `sock.sk_err`
    pub sk_err: u32,
    /// `sock.sk_err_soft`
    pub sk_err_soft: u32,
    /// `sock.sk_protocol`
    pub sk_protocol: u32,
    /// `sock.__sk_common.skc_flags`: bits of `enum sock_flags`
    pub sk_flags: u32,
    /// `inet_sock.inet_sport`, network byte order; still valid at CLOSE
    pub inet_sport: u32,
    /// `inet_connection_sock.icsk_retransmits`
    pub icsk_retransmits: u32,
    /// `tcp_sock.write_seq`
    pub write_seq: u32,
    /// `tcp_sock.snd_una`
    pub snd_una: u32,
    /// `tcp_sock.rcv_nxt`
    pub rcv_nxt: u32,
    /// `tcp_sock.rcv_wup`: `rcv_nxt` when a window was last offered
    pub rcv_wup: u32,
    /// `tcp_sock.rcv_wnd`: the window that was offered then
    pub rcv_wnd: u32,
    /// `tcp_sock.srtt_us`, in eighths of a microsecond
    pub srtt_us: u32,
    /// `tcp_sock.bytes_sent`
    pub bytes_sent: u32,
    /// `tcp_sock.bytes_received`
    pub bytes_received: u32,
    /// `tcp_sock.segs_out`
    pub segs_out: u32,
    /// `tcp_sock.total_retrans`
    pub total_retrans: u32,
    /// `tcp_sock.keepalive_time` in ticks, 0 for that of the namespace
    pub keepalive_time: u32,
    /// `net.ipv4.sysctl_tcp_keepalive_time` in ticks
    pub net_keepalive_time: u32,
    /// `tcp_sock.tcp_wstamp_ns`: departure of the last segment, `CLOCK_MONOTONIC`
    pub tcp_wstamp_ns: u32,
    /// `sk_buff.sk`: whose it is
    pub skb_sk: u32,
    /// `sk_buff.len`
    pub skb_len: u32,
    /// `sk_buff.data_len`: bytes in page fragments
    pub skb_data_len: u32,
    /// `sk_buff.data`
    pub skb_data: u32,
    /// `sk_buff.head`
    pub skb_head: u32,
    /// `sk_buff.network_header`: where the IP header begins, from `head`
    pub skb_network_header: u32,
    /// `sk_buff.cb` + `tcp_skb_cb.seq`
    pub cb_seq: u32,
    /// `sk_buff.cb` + `tcp_skb_cb.end_seq`
    pub cb_end_seq: u32,
    /// `sk_buff.cb` + `tcp_skb_cb.tcp_flags`
    pub cb_flags: u32,
    /// `sock.__sk_common.skc_state`
    pub skc_state: u32,
    /// `sock.sk_socket`; null once the application has closed it
    pub sk_socket: u32,
    /// `sock.sk_lock.owned`: a process holds the socket
    pub sk_lock_owned: u32,
    /// `sock.sk_error_queue.prev`: the last error, as a packet
    pub sk_error_queue_last: u32,
    /// `sk_buff.cb` + `sock_exterr_skb.ee`, a `sock_extended_err` of `linux/errqueue.h`
    pub cb_extended_error: u32,
    /// `inet_connection_sock.icsk_ack.lrcvtime`: last data received, in ticks
    pub lrcvtime: u32,
    /// `tcp_sock.lsndtime`: last data sent, in ticks
    pub lsndtime: u32,
    /// `sock.sk_dst_cache`: the route, once it is known
    pub sk_dst_cache: u32,
    /// `dst_entry.dev`: the device by which packets leave
    pub dst_dev: u32,
    /// `net_device.flags`: bits `IFF_*`
    pub device_flags: u32,
    /// `tcp_sock.is_mptcp`: a subflow of MPTCP; absent without it
    pub is_mptcp: u32,
    /// `socket.sk`
    pub socket_sk: u32,
    /// `inode.i_ino` of the inode that `socket_alloc` puts behind a `socket`
    pub socket_inode: u32,
    /// `task_struct.tgid`
    pub task_tgid: u32,
    /// `task_struct.flags`: bits `PF_*`
    pub task_flags: u32,
    /// `task_struct.group_leader`
    pub task_group_leader: u32,
    /// `task_struct.comm`
    pub task_comm: u32,
    /// `task_struct.cred`
    pub task_cred: u32,
    /// `cred.uid`
    pub cred_uid: u32,
    /// `task_struct.cgroups`; absent without cgroups
    pub task_cgroups: u32,
    /// `css_set.dfl_cgrp`: the cgroup v2
    pub css_set_dfl_cgrp: u32,
    /// `cgroup.kn`
    pub cgroup_kn: u32,
    /// `kernfs_node.id`
    pub kernfs_node_id: u32,
    /// Bit of `SOCK_DONE` in `sk_flags`: the peer's FIN arrived
    pub sock_done_bit: u32,
    /// Bit of `SOCK_KEEPOPEN` in `sk_flags`: `SO_KEEPALIVE`
    pub sock_keepopen_bit: u32,
}

impl Offsets {
    /// No field known.
    pub const ABSENT: Self = {
        let absent = [ABSENT; size_of::<Self>() / 4];
        bytemuck::must_cast(absent)
    };
}

/// Which filters are in force, and how the programs behave.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Config {
    /// Bits of [`setting`].
    pub settings: u32,
    /// Bytes waiting in the ring buffer at which user space is woken early.
    pub wake_bytes: u32,
    /// Ticks of the kernel's timer in a second (`CONFIG_HZ`); 0 if unknown.
    pub ticks_per_second: u32,
    /// Entries of the map `CONNECTIONS`.
    pub max_connections: u32,
    /// An odd number that nobody else knows: which users have a counter in the map `QUOTAS` together.
    pub quota_salt: u32,
}

/// Counters of users in the map `QUOTAS`: a power of two. Behind them stands the counter of all connections.
pub const QUOTA_USERS: u32 = 1 << QUOTA_BITS;

/// Two to the power of this are [`QUOTA_USERS`].
pub const QUOTA_BITS: u32 = 12;

/// The part of the table of connections that is kept for users that hold less than such a part: one in so many.
pub const QUOTA_PART: u32 = 8;

/// Bits of [`Config::settings`].
pub mod setting {
    /// Trace loopback destinations too.
    pub const INCLUDE_LOOPBACK: u32 = 1;
    /// Hand over cleartext reply bytes.
    pub const REPLIES: u32 = 1 << 1;
    /// Only destinations in the map `DESTINATIONS`.
    pub const FILTER_DESTINATION: u32 = 1 << 2;
    /// Only processes in the map `SELECTED`.
    pub const FILTER_PID: u32 = 1 << 3;
    /// Only users in the map `SELECTED`.
    pub const FILTER_UID: u32 = 1 << 4;
    /// Only network namespaces in the map `SELECTED`.
    pub const FILTER_NETNS: u32 = 1 << 5;
    /// Only cgroups in the map `SELECTED`.
    pub const FILTER_CGROUP: u32 = 1 << 6;
    /// Only command names in the map `COMMANDS`.
    pub const FILTER_COMM: u32 = 1 << 7;
    /// Join TLS sessions to connections, and say which processes open connections.
    pub const TLS_PROBES: u32 = 1 << 8;
}

/// Key of the map `SELECTED`: one value that a filter lets through.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Selected {
    /// The filter: one bit of [`setting`].
    pub filter: u32,
    /// Zero.
    pub padding: u32,
    /// Process id, user id, namespace inode number or cgroup id.
    pub value: u64,
}

/// Ports as a bitmap: port `p` is bit `p % 64` of word `p / 64`.
pub type PortBitmap = [u64; 1024];

/// Whether `port` is in `bitmap`.
#[inline]
#[must_use]
pub const fn has_port(word: u64, port: u16) -> bool {
    word >> (port & 63) & 1 == 1
}

const _: () = assert!(size_of::<Offsets>() == 61 * 4);
