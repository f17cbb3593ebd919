//! Which hooks a trace may use (`--hooks`).

use clap::ValueEnum;

use super::hooks::{Fact, Kind};

/// Kinds of hooks that a trace may use. All but `Auto` force one: what it cannot have is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Tier {
    /// For each fact the best hook that this kernel has
    #[default]
    Auto,
    /// Functions by trampoline, the rest by BTF tracepoints
    Fentry,
    /// Functions by breakpoint, the rest by BTF tracepoints
    Kprobe,
    /// BTF tracepoints alone
    Tracepoint,
    /// Raw tracepoints alone, which need no BTF of the kernel's own
    Raw,
}

impl Tier {
    /// Its name on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Tracepoint => "tracepoint",
            Self::Raw => "raw",
        }
    }

    /// Whether `fact` may be recorded by a hook of this kind. A tier that is named after a kind of function
    /// hook takes it wherever the fact has one, even if there is a tracepoint as well.
    pub(super) fn allows(self, kind: Kind, fact: &Fact) -> bool {
        let function = |wanted| kind == if fact.has(wanted) { wanted } else { Kind::TpBtf };
        match self {
            Self::Auto => true,
            Self::Fentry => function(Kind::Fentry),
            Self::Kprobe => function(Kind::Kprobe),
            Self::Tracepoint => kind == Kind::TpBtf,
            Self::Raw => kind == Kind::RawTp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::hooks::FACTS;

    fn kinds(tier: Tier, hook: &str) -> Vec<Kind> {
        let fact = FACTS.iter().find(|fact| fact.hook == hook).unwrap();
        let kinds = fact.programs.iter().map(|(kind, _)| *kind);
        kinds.filter(|kind| tier.allows(*kind, fact)).collect()
    }

    #[test]
    fn forced_tier_takes_the_function_where_there_is_one() {
        assert_eq!(kinds(Tier::Fentry, "tcp_sendmsg_locked"), [Kind::Fentry]);
        assert_eq!(kinds(Tier::Kprobe, "tcp_sendmsg_locked"), [Kind::Kprobe]);
        assert_eq!(kinds(Tier::Kprobe, "tcp_connect"), [Kind::Kprobe]);
        assert_eq!(kinds(Tier::Fentry, "tcp_probe"), [Kind::TpBtf]);
        assert_eq!(kinds(Tier::Tracepoint, "tcp_sendmsg_locked"), [Kind::TpBtf]);
        assert_eq!(kinds(Tier::Tracepoint, "tcp_connect"), []);
    }

    #[test]
    fn automatic_choice_leaves_nothing_out() {
        for fact in &FACTS {
            assert_eq!(kinds(Tier::Auto, fact.hook).len(), fact.programs.len());
        }
    }

    #[test]
    fn forced_tiers_have_a_hook_for_all_that_is_indispensable() {
        let forced = Tier::value_variants().iter().filter(|tier| **tier != Tier::Auto);
        for tier in forced {
            for hook in ["inet_sock_set_state", "tcp_destroy_sock", "tcp_probe"] {
                assert_eq!(kinds(*tier, hook).len(), 1, "{tier:?} {hook}");
            }
        }
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for tier in Tier::value_variants() {
            assert_eq!(tier.to_possible_value().unwrap().get_name(), tier.name());
        }
    }
}
