//! What the command line asks of the kernel side, and the same as the header of a recording tells it.

use tracer_analysis::recording::Filters;

use crate::{cli::TraceArgs, probe::Settings};

/// What the kernel side is to trace.
pub(super) fn settings(args: &TraceArgs) -> Settings {
    Settings {
        tier: args.hook.hooks,
        btf: args.hook.btf.clone(),
        ports: args.dport.clone(),
        networks: args.dest.clone(),
        pids: args.pid.clone(),
        uids: args.uid.clone(),
        comms: args.comm.clone(),
        netns: args.netns.iter().map(|netns| netns.0).collect(),
        cgroups: args.cgroup.iter().flat_map(|cgroup| cgroup.0.iter().copied()).collect(),
        senders: args.senders.selection(),
        include_loopback: args.include_loopback,
        replies: !args.no_replies,
        tls_probes: args.tls_probes,
        tls_libraries: args.tls_library.clone(),
        seed_by: args.seed_by,
        ring_size: args.ring_size,
        max_connections: args.max_connections,
    }
}

/// The filters in force.
pub(super) fn filters(settings: &Settings) -> Filters {
    let mut filters = Filters {
        dport: settings.ports.clone(),
        dest: settings.networks.iter().map(ToString::to_string).collect(),
        pid: settings.pids.clone(),
        uid: settings.uids.clone(),
        comm: settings.comms.clone(),
        netns: settings.netns.clone(),
        cgroup: settings.cgroups.clone(),
        include_loopback: settings.include_loopback,
        replies: settings.replies,
        tls_probes: settings.tls_probes,
        ..Filters::default()
    };
    filters.narrow(&settings.senders);
    filters
}
