//! Messages handed over in cleartext, from the codes of the server's replies.

use crate::smtp::Reply;

/// Positive replies without a 354 that only a BDAT transaction gives as a rule: to MAIL, RCPT and BDAT.
const BDAT_REPLIES: u32 = 3;

/// Counts DATA transactions. RFC 5321 section 4.1.1.4: 354 asks for the message, and the next reply says
/// what became of it. A message that comes by BDAT (RFC 3030) shows no 354, and its replies look like
/// those to other commands: where the server offers CHUNKING and the replies fit, the count is unknown.
#[derive(Debug, Clone, Default)]
pub(super) struct Transactions {
    count: u32,
    awaits_final: bool,
    chunking: bool,
    /// Positive replies since the greeting, the answer to EHLO, or a 354 and its final reply. A client
    /// uses BDAT for all messages of a session or for none.
    positive: u32,
    /// A 354 was seen.
    data: bool,
    /// A refusal came where that of a BDAT body would come.
    refused: bool,
}

impl Transactions {
    /// Takes the next reply after the greeting.
    pub(super) fn reply(&mut self, reply: &Reply) {
        if self.awaits_final {
            self.awaits_final = false;
            self.count = self.count.saturating_add(1);
            self.positive = 0;
            return;
        }
        match reply.code {
            354 => {
                self.awaits_final = true;
                self.data = true;
                self.positive = 0;
            }
            250 if reply.first != reply.last => {
                // Several lines: the answer to EHLO.
                self.chunking |= reply.offers_chunking;
                self.positive = 0;
            }
            250..=252 => self.positive += 1,
            400.. => self.refused |= self.positive + 1 >= BDAT_REPLIES,
            _ => {}
        }
    }

    /// Messages that got their final reply; `None` if some may have come by BDAT.
    pub(super) fn count(&self) -> Option<u32> {
        let refused_bdat = self.refused && !self.data;
        let may_be_bdat = self.positive >= BDAT_REPLIES || refused_bdat;
        (!(self.chunking && may_be_bdat)).then_some(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::{ReplyParser, Step};

    fn count(text: &str) -> Option<u32> {
        let mut parser = ReplyParser::new();
        let mut transactions = Transactions::default();
        for byte in text.bytes() {
            if let Some(Step::Reply(reply)) = parser.feed(byte) {
                transactions.reply(&reply);
            }
        }
        transactions.count()
    }

    const EHLO: &str = "250-mx\n250-PIPELINING\n250-CHUNKING\n250 SIZE\n";

    #[test]
    fn data_transactions() {
        let message = "250 mail\n250 rcpt\n250 rcpt\n354 go\n250 queued\n";
        assert_eq!(count(&format!("{EHLO}{message}")), Some(1));
        assert_eq!(count(&format!("{EHLO}{message}250 rset\n{message}221 bye\n")), Some(2));
    }

    #[test]
    fn refused_body_counts_and_refused_envelope_does_not() {
        assert_eq!(count(&format!("{EHLO}250 mail\n250 rcpt\n354 go\n554 spam\n")), Some(1));
        assert_eq!(count(&format!("{EHLO}250 mail\n550 rcpt\n554 data\n250 rset\n")), Some(0));
    }

    #[test]
    fn body_without_a_final_reply_does_not_count() {
        assert_eq!(count(&format!("{EHLO}250 mail\n250 rcpt\n354 go\n")), Some(0));
    }

    #[test]
    fn bdat_is_not_guessed() {
        let bdat = "250 mail\n250 rcpt\n250 queued\n";
        assert_eq!(count(&format!("{EHLO}{bdat}{bdat}221 bye\n")), None);
        // A body may be refused, whether all recipients are named before or not.
        assert_eq!(count(&format!("{EHLO}250 mail\n250 rcpt\n554 spam\n221 bye\n")), None);
        let data = "250 mail\n250 rcpt\n550 rcpt\n354 go\n250 queued\n";
        assert_eq!(count(&format!("{EHLO}{data}250 rset\n250 mail\n550 rcpt\n")), Some(1));
        // Without the offer nobody may use it: these are other commands.
        assert_eq!(count(&format!("250 mx\n{bdat}")), Some(0));
    }
}
