//! How long the phases of a session take, as text.

use tracer_analysis::{destination::HistogramSummary, report::Destination};

use super::{quantity::milliseconds, table::Column};

pub(super) const PHASE_COLUMNS: [Column; 8] = [
    Column::new("EHLO ms", "p50"),
    Column::new("EHLO ms", "p99"),
    Column::new("TLS ms", "p50"),
    Column::new("TLS ms", "p99"),
    Column::new("transaction ms", "p50"),
    Column::new("transaction ms", "p99"),
    Column::new("final reply ms", "p50"),
    Column::new("final reply ms", "p99"),
];

pub(super) const PHASE_LEGEND: &str = "\
EHLO, final reply: in cleartext; TLS: the handshake; transaction: from MAIL to
the final reply; final reply: from the last write of a body to the answer
";

/// The columns of one destination.
fn phases(of: &Destination) -> [Option<&HistogramSummary>; 4] {
    let all = &of.histograms;
    [&all.ehlo_us, &all.tls_handshake_us, &all.transaction_us, &all.final_reply_us]
        .map(Option::as_ref)
}

/// Whether there is anything to show.
pub(super) fn has_phases(of: &Destination) -> bool {
    phases(of).iter().any(Option::is_some)
}

pub(super) fn phase_cells(of: &Destination) -> Vec<String> {
    let quantiles = |it: Option<&HistogramSummary>| {
        [it.and_then(|it| it.p50), it.and_then(|it| it.p99)].map(milliseconds)
    };
    phases(of).into_iter().flat_map(quantiles).collect()
}
