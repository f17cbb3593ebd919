//! TUN devices: links of which the other end is this program.

use std::{
    fs::File,
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result};
use nix::libc::{self, c_char, c_int, c_short, ifreq};

const CONTROL: &str = "/dev/net/tun";
const NAME: &str = "demo0";

mod request {
    use nix::libc::{SIOCSIFADDR, SIOCSIFFLAGS, SIOCSIFNETMASK, TUNSETIFF, ifreq};

    nix::ioctl_write_ptr_bad!(make, TUNSETIFF, ifreq);
    nix::ioctl_write_ptr_bad!(set_address, SIOCSIFADDR, ifreq);
    nix::ioctl_write_ptr_bad!(set_netmask, SIOCSIFNETMASK, ifreq);
    nix::ioctl_write_ptr_bad!(set_flags, SIOCSIFFLAGS, ifreq);
}

/// Makes a TUN device with these addresses in the network namespace of this thread; the /24 of the first
/// one is reached through it. Each read from the file is one packet sent there, each write one received.
/// The device vanishes with the file.
pub(super) fn create(addresses: &[Ipv4Addr]) -> Result<File> {
    let file = File::options().read(true).write(true).open(CONTROL).with_context(|| {
        format!(
            "cannot open {CONTROL}, of which the demo makes its network; load the module tun, or let \
             the container have that device"
        )
    })?;
    let flags =
        c_short::try_from(libc::IFF_TUN | libc::IFF_NO_PI).context("flags of a TUN device")?;
    let device = with_flags(NAME, flags);
    // SAFETY: the descriptor is open and TUNSETIFF reads one `ifreq`, whose name ends in a zero byte.
    unsafe { request::make(file.as_raw_fd(), &raw const device) }
        .context("cannot make a TUN device")?;
    configure(addresses).context("cannot configure a TUN device")?;
    Ok(file)
}

fn configure(addresses: &[Ipv4Addr]) -> Result<()> {
    // Any socket will do for asking.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let fd = socket.as_raw_fd();
    for (at, &address) in addresses.iter().enumerate() {
        let label = if at == 0 { NAME.to_owned() } else { format!("{NAME}:{at}") };
        set(fd, request::set_address, &with_address(&label, address)?)?;
        if at == 0 {
            set(fd, request::set_netmask, &with_address(&label, Ipv4Addr::new(255, 255, 255, 0))?)?;
        }
    }
    set(fd, request::set_flags, &with_flags(NAME, c_short::try_from(libc::IFF_UP)?))
}

type Request = unsafe fn(c_int, *const ifreq) -> nix::Result<c_int>;

fn set(socket: c_int, request: Request, argument: &ifreq) -> Result<()> {
    // SAFETY: the descriptor is open; the requests in use read one `ifreq` with the member of its union
    // that `with_address` or `with_flags` has set, and a name that ends in a zero byte.
    unsafe { request(socket, &raw const *argument) }?;
    Ok(())
}

fn with_flags(name: &str, flags: c_short) -> ifreq {
    named(name, libc::__c_anonymous_ifr_ifru { ifru_flags: flags })
}

fn with_address(name: &str, address: Ipv4Addr) -> Result<ifreq> {
    let family = libc::sa_family_t::try_from(libc::AF_INET)?;
    let mut sa_data = [0; 14];
    // Two bytes of port, then the address (struct sockaddr_in).
    for (to, from) in sa_data[2..].iter_mut().zip(address.octets()) {
        *to = from.cast_signed() as c_char;
    }
    let address = libc::sockaddr { sa_family: family, sa_data };
    Ok(named(name, libc::__c_anonymous_ifr_ifru { ifru_addr: address }))
}

fn named(name: &str, argument: libc::__c_anonymous_ifr_ifru) -> ifreq {
    let mut ifr_name = [0; libc::IFNAMSIZ];
    // The last byte stays zero.
    for (to, from) in ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(name.bytes()) {
        *to = from.cast_signed() as c_char;
    }
    ifreq { ifr_name, ifr_ifru: argument }
}
