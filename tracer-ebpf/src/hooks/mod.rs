//! One file per kernel function; each says which function fires it, in which context, since when.

mod inet_sk_error_report;
mod inet_sock_set_state;
mod skb_copy_datagram_iovec;
mod task_file;
mod tcp;
mod tcp_connect;
mod tcp_destroy_sock;
mod tcp_probe;
mod tcp_rcv_space_adjust;
mod tcp_receive_reset;
mod tcp_retransmit_skb;
mod tcp_send_reset;
mod tcp_sendmsg_locked;
mod tls_library;
