//! `main.cf` and `master.cf` of the two instances.

use std::{net::SocketAddr, path::Path};

use super::SUBMISSION_PORT;

/// Host name in the greeting of the receiving instance.
pub const RECEIVER_NAME: &str = "mta-b.test";

fn common(directory: &Path, name: &str, syslog_name: &str) -> String {
    let directory = directory.display();
    format!(
        "compatibility_level = 3.6\n\
         queue_directory = {directory}/spool\n\
         data_directory = {directory}/data\n\
         maillog_file = {directory}/log/mail.log\n\
         maillog_file_prefixes = {directory}/log\n\
         syslog_name = {syslog_name}\n\
         myhostname = {name}\n\
         inet_protocols = all\n\
         alias_maps =\n\
         alias_database =\n\
         smtpd_peername_lookup = no\n"
    )
}

/// `main.cf` of the sending instance: all mail goes to `server`, by address, without DNS.
pub(super) fn sender(directory: &Path, server: SocketAddr) -> String {
    let common = common(directory, "mta-a.test", "sender");
    format!(
        "{common}mydestination =\n\
         inet_interfaces = 127.0.0.1\n\
         mynetworks = 127.0.0.0/8\n\
         smtpd_relay_restrictions = permit_mynetworks, reject\n\
         smtp_dns_support_level = disabled\n\
         smtp_host_lookup = native\n\
         transport_maps = inline:{{ {{sink.test=smtp:[{}]:{}}} }}\n\
         notify_classes =\n",
        server.ip(),
        server.port()
    )
}

/// `main.cf` of the receiving instance: takes mail for the lab's domain and discards it.
pub(super) fn receiver(directory: &Path) -> String {
    let common = common(directory, RECEIVER_NAME, "receiver");
    let directory = directory.display();
    format!(
        "{common}inet_interfaces = all\n\
         mydestination = sink.test, tls.test\n\
         local_recipient_maps =\n\
         local_transport = discard:\n\
         smtpd_relay_restrictions = reject_unauth_destination\n\
         smtpd_client_port_logging = yes\n\
         smtpd_tls_cert_file = {directory}/etc/cert.pem\n\
         smtpd_tls_key_file = {directory}/etc/key.pem\n"
    )
}

/// `master.cf` of the sending instance.
pub(super) fn sender_services() -> String {
    format!(
        "{SUBMISSION_PORT} inet n - n - - smtpd\n\
         pickup unix n - n 60 1 pickup\n\
         cleanup unix n - n - 0 cleanup\n\
         qmgr unix n - n 300 1 qmgr\n\
         tlsmgr unix - - n 1000? 1 tlsmgr\n\
         rewrite unix - - n - - trivial-rewrite\n\
         bounce unix - - n - 0 bounce\n\
         defer unix - - n - 0 bounce\n\
         trace unix - - n - 0 bounce\n\
         proxymap unix - - n - - proxymap\n\
         smtp unix - - n - - smtp\n\
         showq unix n - n - - showq\n\
         error unix - - n - - error\n\
         retry unix - - n - - error\n\
         anvil unix - - n - 1 anvil\n\
         scache unix - - n - 1 scache\n\
         postlog unix-dgram n - n - 1 postlogd\n\
         tlsproxy unix - - n - 0 tlsproxy\n"
    )
}

/// `master.cf` of the receiving instance.
pub(super) fn receiver_services(address: SocketAddr) -> String {
    let endpoint = match address {
        SocketAddr::V4(v4) => v4.to_string(),
        SocketAddr::V6(v6) => format!("[{}]:{}", v6.ip(), v6.port()),
    };
    format!(
        "{endpoint} inet n - n - - smtpd\n\
         pickup unix n - n 60 1 pickup\n\
         cleanup unix n - n - 0 cleanup\n\
         qmgr unix n - n 300 1 qmgr\n\
         tlsmgr unix - - n 1000? 1 tlsmgr\n\
         rewrite unix - - n - - trivial-rewrite\n\
         bounce unix - - n - 0 bounce\n\
         defer unix - - n - 0 bounce\n\
         trace unix - - n - 0 bounce\n\
         proxymap unix - - n - - proxymap\n\
         showq unix n - n - - showq\n\
         error unix - - n - - error\n\
         retry unix - - n - - error\n\
         discard unix - - n - - discard\n\
         anvil unix - - n - 1 anvil\n\
         postlog unix-dgram n - n - 1 postlogd\n"
    )
}
