"""What servers say: the words of well-known ones, and of servers made up at random."""

DATE = "Mon, 12 Jan 2026 10:20:30 +0000"

# Per family: greetings, EHLO lines ({h} host; STARTTLS and AUTH are put in by the server), replies.
FAMILIES = {
    "postfix": dict(
        greetings=["{h} ESMTP Postfix", "{h} ESMTP Postfix (Debian/GNU)", "{h} ESMTP"],
        ehlo=["{h}", "PIPELINING", "SIZE 50000000", "ETRN", "STARTTLS", "AUTH", "ENHANCEDSTATUSCODES",
              "8BITMIME", "DSN", "SMTPUTF8", "CHUNKING"],
        auth="235 2.7.0 Authentication successful",
        starttls="220 2.0.0 Ready to start TLS",
        mail="250 2.1.0 Ok", rcpt="250 2.1.5 Ok", data="354 End data with <CR><LF>.<CR><LF>",
        final="250 2.0.0 Ok: queued as {q}", rset="250 2.0.0 Ok", noop="250 2.0.0 Ok",
        quit="221 2.0.0 Bye", chunk="250 2.0.0 Ok: {n} bytes",
        last="250 2.0.0 Ok: {t} bytes queued as {q}",
        bad_mail=["554 5.7.1 <{a}>: Sender address rejected: Access denied",
                  "450 4.1.8 <{a}>: Sender address rejected: Domain not found"],
        bad_rcpt=["550 5.1.1 <{a}>: Recipient address rejected: User unknown in local recipient table",
                  "450 4.2.0 <{a}>: Recipient address rejected: Greylisted", "554 5.7.1 <{a}>: Relay access denied"],
        no_rcpt="554 5.5.1 Error: no valid recipients",
        bad_body=["550 5.7.1 Spam message rejected", "554 5.7.1 Service unavailable; message blocked",
                  "452 4.3.1 Insufficient system storage"],
        bye="421 4.4.2 {h} Error: timeout exceeded"),
    "exim": dict(
        greetings=["{h} ESMTP Exim 4.96 " + DATE, "{h} ESMTP Exim 4.98.2 Ubuntu " + DATE],
        ehlo=["{h} Hello client.test [192.0.2.9]", "SIZE 52428800", "8BITMIME", "PIPELINING", "CHUNKING",
              "STARTTLS", "AUTH", "HELP"],
        auth="235 Authentication succeeded",
        starttls="220 TLS go ahead",
        mail="250 OK", rcpt="250 Accepted", data='354 Enter message, ending with "." on a line by itself',
        final="250 OK id={x}", rset="250 Reset OK", noop="250 OK", quit="221 {h} closing connection",
        chunk="250 {n} byte chunk received", last="250- {n} byte chunk, total {t}\r\n250 OK id={x}",
        bad_mail=["550 Sender verify failed", "550-Verification failed for <{a}>\r\n550 Sender verify failed"],
        bad_rcpt=["550 relay not permitted", "550 Unrouteable address", "451 Temporary local problem - please try later"],
        no_rcpt="503-All RCPT commands were rejected with this error:\r\n503-550 Unrouteable address\r\n"
                "503 Valid RCPT command must precede DATA",
        bad_body=["550 This message contains malware", "550 Administrative prohibition"],
        bye="421 {h}: SMTP command timeout - closing connection"),
    "google": dict(
        greetings=["mx.google.com ESMTP {g}"],
        ehlo=["mx.google.com at your service, [192.0.2.9]", "SIZE 157286400", "8BITMIME", "STARTTLS", "AUTH",
              "ENHANCEDSTATUSCODES", "PIPELINING", "CHUNKING", "SMTPUTF8"],
        auth="235 2.7.0 Accepted",
        starttls="220 2.0.0 Ready to start TLS",
        mail="250 2.1.0 OK {g}", rcpt="250 2.1.5 OK {g}", data="354 Go ahead {g}",
        final="250 2.0.0 OK  1768213230 {g}", rset="250 2.1.5 Flushed {g}", noop="250 2.0.0 OK {g}",
        quit="221 2.0.0 closing connection {g}", chunk="250 2.0.0 OK {g}", last="250 2.0.0 OK  1768213230 {g}",
        bad_mail=["553 5.1.7 The sender address <{a}> is not a valid RFC 5321 address. {g}"],
        bad_rcpt=["550-5.1.1 The email account that you tried to reach does not exist. Please try\r\n"
                  "550-5.1.1 double-checking the recipient's email address for typos or\r\n550 5.1.1 "
                  "unnecessary spaces. For more information, go to {g}"],
        no_rcpt="503 5.5.1 RCPT first. {g}",
        bad_body=["550-5.7.26 Your email has been blocked because the sender is unauthenticated.\r\n"
                  "550 5.7.26 Gmail requires all senders to authenticate {g}",
                  "421-4.7.28 Gmail has detected an unusual rate of mail\r\n421 4.7.28 {g}"],
        bye="451 4.4.2 Timeout - closing connection. {g}"),
    "microsoft": dict(
        greetings=["AM0EUR02FT001.mail.protection.outlook.com Microsoft ESMTP MAIL Service ready at " + DATE
                   + " [08DE4F2A1B3C5D7E]"],
        ehlo=["AM0EUR02FT001.mail.protection.outlook.com Hello [192.0.2.9]", "SIZE 157286400", "PIPELINING", "DSN",
              "ENHANCEDSTATUSCODES", "STARTTLS", "AUTH", "8BITMIME", "BINARYMIME", "CHUNKING", "SMTPUTF8"],
        auth="235 2.7.0 Authentication successful",
        starttls="220 2.0.0 SMTP server ready",
        mail="250 2.1.0 Sender OK", rcpt="250 2.1.5 Recipient OK",
        data="354 Start mail input; end with <CRLF>.<CRLF>",
        final="250 2.6.0 <{q}@client.test> [InternalId={i}, Hostname=AM0PR01MB1234.eurprd01.prod.outlook.com] "
              "{n} bytes in 0.{d}, 45.633 KB/sec Queued mail for delivery",
        rset="250 2.0.0 Resetting", noop="250 2.0.0 OK",
        quit="221 2.0.0 Service closing transmission channel",
        chunk="250 2.0.0 {n} octets received",
        last="250 2.6.0 <{q}@client.test> [InternalId={i}, Hostname=AM0PR01MB1234.eurprd01.prod.outlook.com] "
             "{n} bytes in 0.{d}, 45.633 KB/sec Queued mail for delivery",
        bad_mail=["550 5.7.60 SMTP; Client does not have permissions to send as this sender"],
        bad_rcpt=["550 5.4.1 Recipient address rejected: Access denied. [AM0EUR02FT001.eop-EUR02.prod."
                  "protection.outlook.com 2026-01-12T10:20:30.123Z 08DE4F2A1B3C5D7E]",
                  "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found"],
        no_rcpt="503 5.5.2 Need rcpt command",
        bad_body=["550 5.7.509 Access denied, sending domain does not pass DMARC verification"],
        bye="421 4.4.1 Connection timed out. Total session duration: 00:20:55"),
    "sendmail": dict(
        greetings=["{h} ESMTP Sendmail 8.17.1/8.17.1; " + DATE],
        ehlo=["{h} Hello client.test [192.0.2.9], pleased to meet you", "ENHANCEDSTATUSCODES", "PIPELINING",
              "8BITMIME", "SIZE", "DSN", "AUTH", "STARTTLS", "DELIVERBY", "HELP"],
        auth="235 2.0.0 OK Authenticated",
        starttls="220 2.0.0 Ready to start TLS",
        mail="250 2.1.0 <{a}>... Sender ok", rcpt="250 2.1.5 <{a}>... Recipient ok",
        data='354 Enter mail, end with "." on a line by itself',
        final="250 2.0.0 3AB{q} Message accepted for delivery", rset="250 2.0.0 Reset state",
        noop="250 2.0.0 OK", quit="221 2.0.0 {h} closing connection",
        chunk="250 2.0.0 {n} octets", last="250 2.0.0 3AB{q} Message accepted for delivery",
        bad_mail=["553 5.1.8 <{a}>... Domain of sender address {a} does not exist"],
        bad_rcpt=["550 5.1.1 <{a}>... User unknown", "550 5.7.1 <{a}>... Relaying denied"],
        no_rcpt="503 5.0.0 Need RCPT (recipient)", bad_body=["554 5.6.0 Message rejected", "550 5.7.1 Command rejected"],
        bye="421 4.4.1 {h} Lost input channel from client.test"),
    "opensmtpd": dict(
        greetings=["{h} ESMTP OpenSMTPD"],
        ehlo=["{h} Hello client.test [192.0.2.9], pleased to meet you", "8BITMIME", "ENHANCEDSTATUSCODES",
              "SIZE 36700160", "DSN", "STARTTLS", "AUTH", "HELP"],
        auth="235 2.0.0 Authentication succeeded",
        starttls="220 2.0.0 Ready to start TLS",
        mail="250 2.0.0 Ok", rcpt="250 2.1.5 Destination address valid: Recipient ok",
        data='354 Enter mail, end with "." on a line by itself',
        final="250 2.0.0 {q:.8} Message accepted for delivery", rset="250 2.0.0 Reset state",
        noop="250 2.0.0 Ok", quit="221 2.0.0 Bye", chunk="250 2.0.0 {n} ok", last="250 2.0.0 ok",
        bad_mail=["550 Invalid sender"], bad_rcpt=["550 Invalid recipient: <{a}>"],
        no_rcpt="503 5.5.1 Invalid command: No valid recipient", bad_body=["550 5.7.1 Message rejected"],
        bye="421 4.4.2 {h} Connection timed out"),
}

# Building blocks of servers that smtptrace knows nothing about.
PARTS = dict(
    greeting=["{h} ESMTP", "{h} ready", "{h} ESMTP Haraka/3.0.2 ready", "{h} ESMTP mail gateway",
              "{h} Mail Protection Service ready", "{h} ESMTP (0a1b2c3d4e)"],
    mail=["250 OK", "250 Ok", "250 sender ok", "250 sender <{a}> OK", "250 2.1.0 OK", "250 2.1.0 sender <{a}> ok",
          "250 MAIL FROM accepted", "250 Requested mail action okay, completed", "250 2.1.0 Ok, go ahead with RCPT"],
    rcpt=["250 OK", "250 Ok", "250 recipient ok", "250 recipient <{a}> OK", "250 2.1.5 OK", "250 2.1.5 <{a}> ok",
          "250 RCPT TO accepted", "250 Requested mail action okay, completed", "250 2.1.5 Ok, next or DATA"],
    data=["354 go ahead", "354 Start mail input; end with <CRLF>.<CRLF>", "354 Enter mail, end with a single \".\".",
          "354 End data with <CR><LF>.<CR><LF>", "354 Please start mail input.", "354 send message",
          "354 OK, send."],
    final=["250 OK", "250 ok 1768213230 qp 1234{d}", "250 2.0.0 OK: queued as {q}", "250 Message Queued ({q})",
           "250 2.0.0 {q}-{q}1 Message accepted for delivery", "250 ok:  Message {i} accepted",
           "250 Requested mail action okay, completed: id={q}"],
    rset=["250 OK", "250 reset", "250 2.0.0 OK", "250 flushed", "250 RSET received", "250 2.0.0 Reset state"],
    noop=["250 OK", "250 ok", "250 2.0.0 OK"],
    quit=["221 Bye", "221 {h}", "221 2.0.0 {h} closing connection", "221 {h} Service closing transmission channel"],
    chunk=["250 OK", "250 {n} octets received", "250 2.0.0 chunk ok"],
    bad_mail=["550 No", "550 5.7.1 sender <{a}> rejected", "451 4.7.1 try again later", "554 5.7.1 Access denied"],
    bad_rcpt=["550 No such user", "550 5.1.1 <{a}> unknown", "550 #5.1.0 Address rejected.",
              "550 Requested action not taken: mailbox unavailable", "451 4.7.1 Greylisting in action, please come back later"],
    no_rcpt=["503 No recipients", "503 5.5.1 RCPT first", "554 no valid recipients given"],
    bad_body=["554 Rejected", "550 5.7.1 message content rejected due to spam", "451 4.3.0 temporary error"],
    auth=["235 2.7.0 Authentication successful", "235 OK", "235 Authentication succeeded", "235 2.0.0 OK, authenticated"],
    bye=["421 timeout", "421 4.4.2 {h} idle too long, closing"],
)


def made_up(random):
    """A server of words that belong to nobody in particular."""
    words = {name: random.choice(PARTS[name]) for name in PARTS}
    if random.random() < 0.3:  # terse: the same word for everything
        word = random.choice(["250 OK", "250 Ok", "250 ok"])
        words.update(mail=word, rcpt=word, rset=word, noop=word)
    keywords = ["8BITMIME", "SIZE 35882577", "PIPELINING", "CHUNKING", "ENHANCEDSTATUSCODES", "STARTTLS", "AUTH", "HELP"]
    first = random.choice(["{h}", "{h} Hello client.test [192.0.2.9]", "{h} at your service"])
    for name in ["bad_mail", "bad_rcpt", "bad_body"]:
        words[name] = [words[name]]
    return dict(words, greetings=[words["greeting"]], ehlo=[first] + random.sample(keywords, len(keywords)),
                starttls=random.choice(["220 go ahead", "220 2.0.0 Ready to start TLS", "220 Ready to start TLS"]),
                last=words["final"])
