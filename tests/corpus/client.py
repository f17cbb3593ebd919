"""An SMTP client that hands over messages in the manner of a well-known program."""

import socket
import ssl
import time


class Client:
    """The client of the session that `plan` describes."""

    contexts, sessions = {}, {}

    def __init__(self, port, plan, random):
        self.plan, self.random = plan, random
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(60)
        self.port = self.sock.getsockname()[1]
        self.received = b""

    def write(self, *parts):
        for part in parts:
            self.sock.sendall(part)

    def reply(self):
        """The code of the next reply; 421 ends the session."""
        while True:
            while b"\n" not in self.received:
                data = self.sock.recv(65536)
                if not data:
                    raise EOFError
                self.received += data
            line, self.received = self.received.split(b"\n", 1)
            if line[3:4] != b"-":
                if line[:3] == b"421":
                    raise EOFError
                return int(line[:3])

    def command(self, *parts):
        self.write(*parts)
        return self.reply()

    def start_tls(self):
        plan = self.plan
        key = (plan["tls"], plan["tickets"], plan["hello_retry"], plan["ask_certificate"])
        context = self.contexts.get(key) if plan["resume"] else None
        if context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_ciphers("ALL")
            self.contexts.setdefault(key, context)
        session = self.sessions.get(key) if plan["resume"] else None
        self.sock = context.wrap_socket(self.sock, session=session)
        self.key = key
        if plan["wait_for_tickets"]:
            time.sleep(0.004)

    def address(self, longest):
        random = self.random
        local = "".join(random.choice("abcdefghij") for _ in range(random.randint(1, longest)))
        return "%s@%s.test" % (local, "".join(random.choice("klmnop") for _ in range(random.randint(1, 12))))

    def body(self):
        plan, random = self.plan, self.random
        kind = plan["bodies"]
        if kind == "tiny":
            size = random.choice([0, 0, 1, 5, 20, 60, 150])
        elif kind == "big":
            size = random.choice([100_000, 1_000_000, 5_000_000, 30_000_000]) if random.random() < 0.3 \
                else random.randint(300, 4000)
        elif kind == "equal":
            size = plan["body_size"]
        else:
            size = int(10 ** random.uniform(2.4, 4.8))
        return b"" if size == 0 else (b"x" * 70 + b"\r\n") * (size // 72) + b"y" * max(0, size % 72 - 2) + b"\r\n"

    def authenticate(self):
        text = lambda least, most: b"QUJD" * self.random.randint(least, most) + b"\r\n"
        kind = self.plan["auth"]
        if kind == "plain":
            self.command(b"AUTH PLAIN " + text(4, 20))
        elif kind == "plain-later":
            self.command(b"AUTH PLAIN\r\n")
            self.command(text(4, 20))
        elif kind == "login":
            self.command(b"AUTH LOGIN\r\n")
            self.command(text(1, 10))
            self.command(text(1, 10))
        elif kind == "cram-md5":
            self.command(b"AUTH CRAM-MD5\r\n")
            self.command(text(10, 20))
        elif kind == "xoauth2":
            self.command(b"AUTH XOAUTH2 " + text(50, 400))

    def begin(self):
        hello = b"EHLO %s\r\n" % self.plan["helo"].encode()
        if self.plan["implicit"]:
            self.start_tls()
        self.reply()
        self.command(hello)
        if not self.plan["implicit"]:
            self.command(b"STARTTLS\r\n")
            self.start_tls()
            self.command(hello)
        self.authenticate()

    def session(self):
        """The whole session, errors included."""
        plan, chance = self.plan, self.random.random
        try:
            self.begin()
            ended, self.refused_body = False, False
            for at in range(plan["messages"]):
                last = at + 1 == plan["messages"]
                if at and plan["rset"]:
                    self.command(b"RSET\r\n")
                if at and chance() < plan["noop"]:
                    self.command(b"NOOP\r\n")
                quits = last and plan["end"] == "quit-with-body"
                sent = self.message(at, quits)
                if plan["client"] == "exim" and self.refused_body:
                    break  # Exim gives the session up
                ended = quits and sent
                if not sent and not last and chance() < plan["resets"]:
                    self.command(b"RSET\r\n")
            if not ended:
                self.end()
        except (EOFError, OSError):
            pass
        self.close()

    def message(self, at, quits):
        """Hands over a message; returns whether its body was sent."""
        plan, random = self.plan, self.random
        size = " SIZE=%d" % random.randint(500, 99999) if plan["size"] else ""
        mail = b"MAIL FROM:<%s>%s\r\n" % ((plan["sender"] or self.address(30)).encode(), size.encode())
        count = random.randint(1, plan["recipients"])
        names = [plan["recipient"] if count == 1 and plan["recipient"] else self.address(20) for _ in range(count)]
        bad = ["bad" if random.random() < plan["refuse_recipient"] else "" for _ in names]
        rcpts = [b"RCPT TO:<%s%s>\r\n" % (b.encode(), name.encode()) for b, name in zip(bad, names)]
        return getattr(self, plan["style"].replace("-", "_"))(mail, rcpts, self.body(), at, quits)

    def finish(self, quits, *parts):
        if quits:
            self.write(*parts[:-1], parts[-1] + b"QUIT\r\n")
            self.reply()
        self.refused_body = (self.reply() if quits else self.command(*parts)) != 250
        return True

    def replies(self, count):
        return [self.reply() for _ in range(count)]

    # Each style sends one message: Postfix, Exim without CHUNKING, and most libraries.
    def envelope(self, mail, rcpts, body, at, quits, before=b""):
        self.write(before + mail + b"".join(rcpts) + b"DATA\r\n")
        codes = self.replies(len(rcpts) + 2 + bool(before))
        return codes[-1] == 354 and self.finish(quits, body + b".\r\n")

    def rset_and_envelope(self, mail, rcpts, body, at, quits):
        """KumoMTA."""
        return self.envelope(mail, rcpts, body, at, quits, b"RSET\r\n" if at else b"")

    def write_per_command(self, mail, rcpts, body, at, quits):
        """Pipelining, each command in a write of its own."""
        self.write(mail, *rcpts, b"DATA\r\n")
        return self.replies(len(rcpts) + 2)[-1] == 354 and self.finish(quits, body + b".\r\n")

    def single(self, mail, rcpts, body, at, quits, dot=False):
        """No pipelining."""
        if self.command(mail) != 250 or not sum([self.command(rcpt) == 250 for rcpt in rcpts]):
            return False
        if self.command(b"DATA\r\n") != 354:
            return False
        return self.finish(quits, body, b".\r\n") if dot and body else self.finish(quits, body + b".\r\n")

    def single_dot_apart(self, mail, rcpts, body, at, quits):
        """OpenSMTPD."""
        return self.single(mail, rcpts, body, at, quits, True)

    def rcpt_and_data(self, mail, rcpts, body, at, quits):
        """Sendmail."""
        if self.command(mail) != 250:
            return False
        self.write(b"".join(rcpts) + b"DATA\r\n")
        parts = [body, b".\r\n"] if body else [b".\r\n"]
        return self.replies(len(rcpts) + 1)[-1] == 354 and self.finish(quits, *parts)

    def chunks(self, body):
        size = self.plan["chunk"] or max(len(body), 1)
        pieces = [body[at:at + size] for at in range(0, len(body), size)] or [b""]
        lasts = [b""] * (len(pieces) - 1) + [b" LAST"]
        return [b"BDAT %d%s\r\n%s" % (len(piece), last, piece) for piece, last in zip(pieces, lasts)]

    def whole(self, mail, rcpts, body, at, quits):
        """MAIL, RCPT, BDAT and the first chunk in one write."""
        first, *rest = self.chunks(body)
        self.write(mail + b"".join(rcpts) + first)
        self.replies(len(rcpts) + 2)
        for chunk in rest:
            self.command(chunk)
        return not quits or self.end() or True

    def exim_chunks(self, body):
        """As Exim cuts: a message of more than 8 KiB has its headers in a first chunk."""
        if len(body) <= 8192:
            return [b"BDAT %d LAST\r\n%s" % (len(body), body)]
        headers = min(int(10 ** self.random.uniform(2.5, 3.9)), len(body) - 1)
        return [b"BDAT %d\r\n%s" % (headers, body[:headers]), b"BDAT %d LAST\r\n%s" % (len(body) - headers, body[headers:])]

    def exim_whole(self, mail, rcpts, body, at, quits):
        """Exim with CHUNKING and PIPELINING: the first chunk with its envelope."""
        first, *rest = self.exim_chunks(body)
        self.write(mail + b"".join(rcpts) + first)
        codes = self.replies(len(rcpts) + 2)
        accepted = codes[0] == 250 and 250 in codes[1:-1]
        if accepted:
            self.refused_body = (self.command(*rest) if rest else codes[-1]) != 250
        return accepted

    def exim_single(self, mail, rcpts, body, at, quits):
        """Exim with CHUNKING, without PIPELINING."""
        if self.command(mail) != 250 or not sum([self.command(rcpt) == 250 for rcpt in rcpts]):
            return False
        for chunk in self.exim_chunks(body):
            self.refused_body = self.command(chunk) != 250
        return True

    def bdat_single(self, mail, rcpts, body, at, quits):
        if self.command(mail) != 250 or not sum([self.command(rcpt) == 250 for rcpt in rcpts]):
            return False
        return self.send_chunks(body, quits)

    def bdat_after_envelope(self, mail, rcpts, body, at, quits):
        """Microsoft: MAIL and RCPT in one write, then the chunks."""
        self.write(mail + b"".join(rcpts))
        codes = self.replies(len(rcpts) + 1)
        return codes[0] == 250 and 250 in codes[1:] and self.send_chunks(body, quits)

    def send_chunks(self, body, quits):
        *before, last = self.chunks(body)
        for chunk in before:
            self.command(chunk)
        return self.finish(quits, last)

    def end(self):
        end = self.plan["end"]
        if end in ("quit", "quit-with-body"):
            self.command(b"QUIT\r\n")
        elif end == "quit-unanswered":
            self.write(b"QUIT\r\n")
        elif end == "rset-quit":
            self.command(b"RSET\r\n")
            self.command(b"QUIT\r\n")
        elif end == "in-a-transaction":
            self.command(b"MAIL FROM:<a@b.test>\r\n")

    def close(self):
        try:
            if self.plan["resume"]:
                self.sessions[self.key] = self.sock.session
            if self.plan["client_close_notify"]:
                self.sock.settimeout(0.05)
                self.sock.unwrap()
        except (OSError, ValueError, AttributeError):
            pass
        self.sock.close()
