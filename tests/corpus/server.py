"""An SMTP server for one session: it answers in the words of a family and counts messages."""

import ssl
import time


class Server:
    """Serves the session that `plan` describes on a socket that was accepted."""

    contexts = {}

    def __init__(self, sock, plan, words, random):
        self.sock, self.plan, self.words, self.random = sock, plan, words, random
        self.received, self.pending = b"", b""
        self.tls = False
        # Bodies that got a final reply: the truth of the corpus.
        self.messages = 0
        # What was said before TLS: greeting and EHLO reply.
        self.clear = []

    def text(self, name, address="", size=0, total=0):
        """The words for `name`, filled in, with line end; of a chunk of `size` bytes, `total` with those before it."""
        random, words = self.random, self.words[name]
        if isinstance(words, list):
            words = words[self.plan["refusal"] % len(words)]
        hexadecimal = "".join(random.choice("0123456789ABCDEF") for _ in range(self.plan["id_length"]))
        return words.format(
            a=address, h=self.plan["host"], q=hexadecimal, x="1v%s-%s-2x" % (hexadecimal[:4], hexadecimal[:10].rjust(10, "0")),
            n=size, t=total, i=random.randint(10 ** 13, 10 ** 15), d=random.randint(100, 999),
            g="%s%s.%d - gsmtp" % (self.plan["google"], random.choice("abc"), random.randint(1, 999))) + "\r\n"

    def context(self):
        plan = self.plan
        key = (plan["tls"], plan["tickets"], plan["hello_retry"], plan["ask_certificate"])
        if key not in self.contexts:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain("certificate.pem", "key.pem")
            if plan["tls"].startswith("TLS_"):
                context.minimum_version = ssl.TLSVersion.TLSv1_3
                context.num_tickets = plan["tickets"]
            else:
                context.maximum_version = ssl.TLSVersion.TLSv1_2
                context.set_ciphers(plan["tls"])
            if plan["hello_retry"]:
                context.set_ecdh_curve("secp384r1")
            if plan["ask_certificate"]:
                context.verify_mode = ssl.CERT_OPTIONAL
                context.load_verify_locations("certificate.pem")
            self.contexts[key] = context
        return self.contexts[key]

    def flush(self):
        if self.pending:
            self.sock.sendall(self.pending)
            self.pending = b""

    def say(self, text):
        self.pending += text.encode()
        if self.plan["record_per_reply"]:
            self.flush()

    def more(self):
        if not (self.tls and self.sock.pending()):
            self.flush()
        data = self.sock.recv(262144)
        if not data:
            raise EOFError
        self.received += data

    def line(self):
        while b"\n" not in self.received:
            self.more()
        line, self.received = self.received.split(b"\n", 1)
        return line.strip()

    def greet(self):
        words, plan = self.words, self.plan
        greeting = "220 " + words["greetings"][plan["greeting"] % len(words["greetings"])]
        greeting = greeting.format(h=plan["host"], g="%sa.%d - gsmtp" % (plan["google"], plan["greeting"])) + "\r\n"
        if plan["implicit"]:
            self.sock = self.context().wrap_socket(self.sock, server_side=True)
            self.tls = True
        else:
            self.clear.append(greeting)
        self.sock.sendall(greeting.encode())

    def ehlo(self):
        lines, plan = [], self.plan
        for line in self.words["ehlo"]:
            if line == "STARTTLS" and self.tls or line == "AUTH" and not (self.tls and plan["offer_auth"]) \
                    or line in ("PIPELINING", "CHUNKING") and not plan[line.lower()]:
                continue
            lines.append("AUTH PLAIN LOGIN CRAM-MD5 XOAUTH2" if line == "AUTH" else line.format(h=plan["host"]))
        text = "".join("250%s%s\r\n" % ("-" if at + 1 < len(lines) else " ", line) for at, line in enumerate(lines))
        if not self.tls:
            self.clear.append(text)
        self.say(text)

    def auth(self, words):
        if words[1] == b"LOGIN":
            for challenge in ["334 VXNlcm5hbWU6\r\n", "334 UGFzc3dvcmQ6\r\n"]:
                self.say(challenge)
                self.line()
        elif words[1] == b"CRAM-MD5":
            self.say("334 PDEyMzQ1Njc4OTAuMTIzNDU2Nzg5MEBteC50ZXN0Pg==\r\n")
            self.line()
        elif len(words) < 3:
            self.say("334 \r\n")
            self.line()
        self.say(self.text("auth"))

    def read_body(self):
        """To CRLF . CRLF; returns its size."""
        tail, size = b"\r\n", 0
        while True:
            text = tail + self.received
            end = text.find(b"\r\n.\r\n")
            if end >= 0:
                self.received = text[end + 5:]
                return size + end
            size += len(text) - 4
            tail, self.received = text[-4:], b""
            self.more()

    def read_chunk(self, size):
        while size:
            if not self.received:
                self.more()
            taken = min(size, len(self.received))
            self.received = self.received[taken:]
            size -= taken

    def final(self, name, size=0, total=0):
        self.messages += 1
        name = "bad_body" if self.random.random() < self.plan["refuse_body"] else name
        self.say(self.text(name, "", size, total))

    def serve(self):
        """Until the client or the plan ends the session."""
        try:
            self.greet()
            self.dialogue()
        except (EOFError, OSError):
            pass
        finally:
            self.close()

    def dialogue(self):
        plan, chance = self.plan, self.random.random
        sender, recipients, total = False, 0, 0
        while True:
            line = self.line()
            words = line.upper().split()
            verb = words[0]
            address = line.split(b"<")[1].split(b">")[0].decode() if b"<" in line else ""
            if verb == b"EHLO":
                self.ehlo()
            elif verb == b"STARTTLS":
                self.say(self.words["starttls"] + "\r\n")
                self.flush()
                self.sock = self.context().wrap_socket(self.sock, server_side=True)
                self.tls, self.received = True, b""
            elif verb == b"AUTH":
                self.auth(words)
            elif verb == b"MAIL":
                sender, recipients, total = chance() >= plan["refuse_sender"], 0, 0
                self.say(self.text("mail" if sender else "bad_mail", address))
            elif verb == b"RCPT":
                refused = not sender or address.startswith("bad")
                recipients += not refused
                name = "no_rcpt" if not sender else "bad_rcpt" if refused else "rcpt"
                self.say(self.text(name, address))
            elif verb == b"DATA":
                if not recipients or chance() < plan["refuse_data"]:
                    self.say(self.text("no_rcpt"))
                else:
                    self.say(self.text("data"))
                    self.flush()
                    self.final("final", self.read_body())
                sender, recipients = False, 0
            elif verb == b"BDAT":
                last = len(words) > 2
                size = int(words[1])
                total += size
                self.read_chunk(size)
                if not recipients:
                    self.say(self.text("no_rcpt"))
                elif last:
                    self.final("last", size, total)
                    sender, recipients = False, 0
                else:
                    self.say(self.text("chunk", "", size, total))
            elif verb in (b"RSET", b"NOOP"):
                sender, recipients = (False, 0) if verb == b"RSET" else (sender, recipients)
                self.say(self.text(verb.decode().lower()))
            elif verb == b"QUIT":
                self.say(self.text("quit"))
                self.flush()
                return
            if plan["hang_up_after"] and self.messages >= plan["hang_up_after"] and not self.received:
                self.flush()
                time.sleep(0.01)
                self.sock.sendall(self.text("bye").encode())
                return

    def close(self):
        try:
            if self.tls and self.plan["server_close_notify"]:
                self.sock.settimeout(0.2)
                self.sock.unwrap()
        except (OSError, ValueError):
            pass
        self.sock.close()
