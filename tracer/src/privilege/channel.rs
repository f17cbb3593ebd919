//! Packets between the processes of one trace, each with at most one descriptor (unix(7), `SCM_RIGHTS`).

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    time::Duration,
};

use nix::{
    cmsg_space,
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{
            AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
            recvmsg, sendmsg, setsockopt, socketpair, sockopt,
        },
        time::{TimeVal, TimeValLike as _},
    },
};

/// One end of a connection. A packet arrives whole or not at all.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// A packet.
#[derive(Debug)]
pub(crate) struct Packet {
    /// Bytes of the buffer that it fills; 0 if the other end is closed.
    pub(crate) length: usize,
    /// What came with it.
    pub(crate) descriptor: Option<OwnedFd>,
}

impl Channel {
    /// Two ends.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self(one), Self(other)))
    }

    /// The end that came as a descriptor.
    pub(crate) fn of(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// The descriptor, to be passed on.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.0)
    }

    /// No call waits longer than this for the other end.
    pub(crate) fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let time = TimeVal::microseconds(micros);
        setsockopt(&self.0, sockopt::ReceiveTimeout, &time)?;
        Ok(setsockopt(&self.0, sockopt::SendTimeout, &time)?)
    }

    /// Whether the other end is closed, or is before `time` has passed. Packets that wait are left.
    pub(crate) fn is_closed_within(&self, time: Duration) -> bool {
        let time = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        // Nothing is asked for but that, which is always told.
        let mut ends = [PollFd::new(self.descriptor(), PollFlags::empty())];
        let closed = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
        poll(&mut ends, time).is_ok() && ends[0].revents().is_some_and(|it| it.intersects(closed))
    }

    /// Sends a packet, which is not empty.
    pub(crate) fn send(&self, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let descriptors = descriptor.map(|it| [it.as_raw_fd()]);
        let rights: Option<[ControlMessage<'_>; 1]> =
            descriptors.as_ref().map(|it| [ControlMessage::ScmRights(it)]);
        let rights = rights.as_ref().map_or(&[][..], |it| &it[..]);
        loop {
            let flags = MsgFlags::MSG_NOSIGNAL;
            match sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(bytes)], rights, flags, None) {
                Err(Errno::EINTR) => {}
                sent => return Ok(sent.map(drop)?),
            }
        }
    }

    /// Waits for a packet. One that is longer than `buffer` is an error.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<Packet> {
        let mut rights = cmsg_space!([RawFd; 1]);
        let (length, flags, descriptor) = loop {
            let mut parts = [IoSliceMut::new(buffer)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut rights), flags) {
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
                Ok(message) => {
                    let descriptor = message.cmsgs()?.find_map(|control| match control {
                        ControlMessageOwned::ScmRights(all) => all.first().copied(),
                        _ => None,
                    });
                    break (message.bytes, message.flags, descriptor);
                }
            }
        };
        // SAFETY: the kernel has just put it into our table, and nobody else knows its number. There is room
        // for one only.
        let descriptor = descriptor.map(|it| unsafe { OwnedFd::from_raw_fd(it) });
        if flags.contains(MsgFlags::MSG_TRUNC) {
            return Err(io::Error::other("a packet is too long"));
        }
        Ok(Packet { length, descriptor })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read as _, os::fd::AsFd as _};

    use super::*;

    #[test]
    fn packets_and_descriptors_arrive() {
        let (one, other) = Channel::pair().unwrap();
        let file = File::open("/proc/self/comm").unwrap();
        one.send(b"a", None).unwrap();
        one.send(b"bc", Some(file.as_fd())).unwrap();
        let mut buffer = [0; 4];
        let packet = other.receive(&mut buffer).unwrap();
        assert_eq!((packet.length, packet.descriptor.is_none()), (1, true));
        let packet = other.receive(&mut buffer).unwrap();
        assert_eq!(&buffer[..packet.length], b"bc");
        let mut text = String::new();
        File::from(packet.descriptor.unwrap()).read_to_string(&mut text).unwrap();
        assert!(!text.is_empty());
        drop(one);
        assert_eq!(other.receive(&mut buffer).unwrap().length, 0);
    }

    #[test]
    fn what_is_too_long_is_an_error_and_nobody_waits_for_ever() {
        let (one, other) = Channel::pair().unwrap();
        one.send(b"12345", None).unwrap();
        assert!(other.receive(&mut [0; 4]).is_err());
        other.wait_at_most(Duration::from_millis(10)).unwrap();
        let error = other.receive(&mut [0; 4]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
