//! Offsets of kernel fields, from the running kernel's BTF.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use btfparse::{
    Error as BtfError, ErrorKind, Integer32Value, Offset, Readable, Result as BtfResult,
    TypeInformation, TypeVariant,
};
use tracer_common::config::{ABSENT, Offsets};

use super::btf_file;

/// Why the offsets could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OffsetError {
    #[error("cannot read the kernel's types from {path}: {error}")]
    Read { path: PathBuf, error: String },
    #[error(
        "the types in {path} have no field {structure}.{field}: it is cut down, or of a module, or the \
         kernel is not supported by this version of smtptrace; then please report its release"
    )]
    Field { path: PathBuf, structure: &'static str, field: &'static str },
}

/// Reads the offsets from the BTF at `path`.
pub(crate) fn read(path: &Path) -> Result<Offsets, OffsetError> {
    read_all(path).map(|(offsets, _)| offsets)
}

/// Reads the offsets, and keeps what they were read from.
pub(crate) fn read_all(path: &Path) -> Result<(Offsets, Types), OffsetError> {
    let fail = |error: String| OffsetError::Read { path: path.to_owned(), error };
    let bytes = btf_file::read(path).map_err(fail)?;
    let types =
        TypeInformation::new(&Bytes(bytes)).map_err(|error| fail(error.message().to_owned()))?;
    let missing = |MissingField { structure, field }| {
        let path = path.to_owned();
        OffsetError::Field { path, structure, field }
    };
    let types = Types::new(types);
    let offsets = types.offsets().map_err(missing)?;
    Ok((offsets, types))
}

/// A field that is needed and not there.
struct MissingField {
    structure: &'static str,
    field: &'static str,
}

/// A whole BTF file in memory.
struct Bytes(Vec<u8>);

impl Readable for Bytes {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> BtfResult<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(buffer.len());
        match self.0.get(start..end) {
            Some(bytes) => {
                buffer.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(BtfError::new(ErrorKind::IOError, "the file is cut short")),
        }
    }
}

/// Types whose fields are read.
const WANTED: [&str; 19] = [
    "cgroup",
    "cred",
    "css_set",
    "dst_entry",
    "inet_connection_sock",
    "inet_sock",
    "inode",
    "kernfs_node",
    "net",
    "net_device",
    "sk_buff",
    "sock",
    "sock_exterr_skb",
    "sock_flags",
    "socket",
    "socket_alloc",
    "task_struct",
    "tcp_skb_cb",
    "tcp_sock",
];

/// All types of a kernel. To let go of them takes a third as long as to read them.
pub(crate) struct Types {
    all: TypeInformation,
    /// Ids of the wanted types. A name may stand for several: a structure, a variable.
    ids: HashMap<&'static str, Vec<u32>>,
}

impl Types {
    fn new(all: TypeInformation) -> Self {
        let mut ids: HashMap<_, Vec<u32>> = HashMap::new();
        for id in all.get().keys() {
            let name = all.name_of(*id).unwrap_or_default();
            if let Some(wanted) = WANTED.iter().find(|wanted| **wanted == name) {
                ids.entry(*wanted).or_default().push(*id);
            }
        }
        Self { all, ids }
    }

    fn offsets(&self) -> Result<Offsets, MissingField> {
        let cb = self.need("sk_buff", "cb")?;
        Ok(Offsets {
            skc_daddr: self.need("sock", "__sk_common.skc_daddr")?,
            skc_rcv_saddr: self.need("sock", "__sk_common.skc_rcv_saddr")?,
            skc_dport: self.need("sock", "__sk_common.skc_dport")?,
            skc_family: self.need("sock", "__sk_common.skc_family")?,
            skc_v6_daddr: self.find("sock", "__sk_common.skc_v6_daddr"),
            skc_v6_rcv_saddr: self.find("sock", "__sk_common.skc_v6_rcv_saddr"),
            skc_net: self.find("sock", "__sk_common.skc_net.net"),
            net_inum: self.find("net", "ns.inum"),
            sk_err: self.need("sock", "sk_err")?,
            sk_err_soft: self.find("sock", "sk_err_soft"),
            sk_protocol: self.need("sock", "sk_protocol")?,
            sk_flags: self.need("sock", "__sk_common.skc_flags")?,
            inet_sport: self.need("inet_sock", "inet_sport")?,
            icsk_retransmits: self.need("inet_connection_sock", "icsk_retransmits")?,
            write_seq: self.need("tcp_sock", "write_seq")?,
            snd_una: self.need("tcp_sock", "snd_una")?,
            rcv_nxt: self.need("tcp_sock", "rcv_nxt")?,
            rcv_wup: self.need("tcp_sock", "rcv_wup")?,
            rcv_wnd: self.need("tcp_sock", "rcv_wnd")?,
            srtt_us: self.need("tcp_sock", "srtt_us")?,
            bytes_sent: self.need("tcp_sock", "bytes_sent")?,
            bytes_received: self.need("tcp_sock", "bytes_received")?,
            segs_out: self.need("tcp_sock", "segs_out")?,
            total_retrans: self.need("tcp_sock", "total_retrans")?,
            keepalive_time: self.find("tcp_sock", "keepalive_time"),
            net_keepalive_time: self.find("net", "ipv4.sysctl_tcp_keepalive_time"),
            tcp_wstamp_ns: self.find("tcp_sock", "tcp_wstamp_ns"),
            skb_sk: self.need("sk_buff", "sk")?,
            skb_len: self.need("sk_buff", "len")?,
            skb_data_len: self.need("sk_buff", "data_len")?,
            skb_data: self.need("sk_buff", "data")?,
            skb_head: self.find("sk_buff", "head"),
            skb_network_header: self.find("sk_buff", "network_header"),
            cb_seq: cb + self.need("tcp_skb_cb", "seq")?,
            cb_end_seq: cb + self.need("tcp_skb_cb", "end_seq")?,
            cb_flags: cb + self.need("tcp_skb_cb", "tcp_flags")?,
            skc_state: self.need("sock", "__sk_common.skc_state")?,
            sk_socket: self.need("sock", "sk_socket")?,
            sk_lock_owned: self.need("sock", "sk_lock.owned")?,
            sk_error_queue_last: self.need("sock", "sk_error_queue.prev")?,
            cb_extended_error: cb + self.need("sock_exterr_skb", "ee")?,
            lrcvtime: self.need("inet_connection_sock", "icsk_ack.lrcvtime")?,
            lsndtime: self.need("tcp_sock", "lsndtime")?,
            sk_dst_cache: self.find("sock", "sk_dst_cache"),
            dst_dev: self.find("dst_entry", "dev"),
            device_flags: self.find("net_device", "flags"),
            is_mptcp: self.find("tcp_sock", "is_mptcp"),
            socket_sk: self.need("socket", "sk")?,
            socket_inode: self.need("socket_alloc", "vfs_inode")? + self.need("inode", "i_ino")?,
            task_tgid: self.need("task_struct", "tgid")?,
            task_flags: self.need("task_struct", "flags")?,
            task_group_leader: self.need("task_struct", "group_leader")?,
            task_comm: self.need("task_struct", "comm")?,
            task_cred: self.need("task_struct", "cred")?,
            cred_uid: self.need("cred", "uid")?,
            task_cgroups: self.find("task_struct", "cgroups"),
            css_set_dfl_cgrp: self.find("css_set", "dfl_cgrp"),
            cgroup_kn: self.find("cgroup", "kn"),
            kernfs_node_id: self.find("kernfs_node", "id"),
            sock_done_bit: self.enumerator("sock_flags", "SOCK_DONE")?,
            sock_keepopen_bit: self.enumerator("sock_flags", "SOCK_KEEPOPEN")?,
        })
    }

    /// Byte offset of a field; `ABSENT` if there is none.
    fn find(&self, structure: &str, field: &str) -> u32 {
        self.named(structure)
            .find_map(|id| match self.all.offset_of(id, field) {
                Ok((_, Offset::ByteOffset(offset))) => Some(offset),
                _ => None,
            })
            .unwrap_or(ABSENT)
    }

    fn need(&self, structure: &'static str, field: &'static str) -> Result<u32, MissingField> {
        match self.find(structure, field) {
            ABSENT => Err(MissingField { structure, field }),
            offset => Ok(offset),
        }
    }

    /// Value of an enumerator.
    fn enumerator(
        &self,
        structure: &'static str,
        field: &'static str,
    ) -> Result<u32, MissingField> {
        self.named(structure)
            .find_map(|id| match self.all.from_id(id) {
                Some(TypeVariant::Enum(it)) => {
                    it.named_value_list().iter().find(|it| it.name == field).map(|it| it.value)
                }
                _ => None,
            })
            .map(|value| match value {
                Integer32Value::Signed(value) => value.cast_unsigned(),
                Integer32Value::Unsigned(value) => value,
            })
            .ok_or(MissingField { structure, field })
    }

    fn named(&self, name: &str) -> impl Iterator<Item = u32> {
        self.ids.get(name).into_iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::preflight::KERNEL_BTF;

    #[test]
    fn file_that_is_no_btf_is_refused_by_name() {
        let error = read(Path::new("/proc/self/status")).unwrap_err().to_string();
        assert!(error.contains("/proc/self/status"), "{error}");
    }

    #[test]
    fn running_kernel_has_every_needed_field() {
        ::tests::needs!(KernelTypes);
        let offsets = read(Path::new(KERNEL_BTF)).unwrap();
        assert!(offsets.skc_dport < 64 && offsets.write_seq > offsets.inet_sport, "{offsets:?}");
        assert_ne!(offsets.sock_done_bit, offsets.sock_keepopen_bit);
        // Fields that are optional, but that every kernel so far has.
        let optional = [
            offsets.sk_err_soft,
            offsets.keepalive_time,
            offsets.net_keepalive_time,
            offsets.skb_head,
            offsets.skb_network_header,
            offsets.kernfs_node_id,
            offsets.sk_dst_cache,
            offsets.dst_dev,
            offsets.device_flags,
        ];
        assert!(!optional.contains(&ABSENT), "{offsets:?}");
    }
}
