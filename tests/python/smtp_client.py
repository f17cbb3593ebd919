"""An SMTP client that talks in every way that is allowed, one connection after the other. For each it prints
the transport, the shape of the dialogue, the local port and how many messages got a final reply.

    smtp_client.py ADDRESS:PORT IMPLICIT_ADDRESS:PORT
"""

import base64
import json
import socket
import ssl
import sys
import time

# Name, how TLS begins, cipher of TLS 1.2 (else TLS 1.3).
TRANSPORTS = [
    ("cleartext", None, None),
    ("starttls", "starttls", None),
    ("implicit", "implicit", None),
    ("starttls-aes128", "starttls", "ECDHE-RSA-AES128-GCM-SHA256"),
    ("starttls-aes256", "starttls", "ECDHE-RSA-AES256-GCM-SHA384"),
    ("starttls-chacha20", "starttls", "ECDHE-RSA-CHACHA20-POLY1305"),
    ("implicit-aes256", "implicit", "ECDHE-RSA-AES256-GCM-SHA384"),
    ("implicit-chacha20", "implicit", "ECDHE-RSA-CHACHA20-POLY1305"),
]


def message(size=1500, recipients=1, refuse=None, style=None):
    return {"size": size, "recipients": recipients, "refuse": refuse, "style": style}


THREE = [message(900), message(2100), message(1400)]
# Name, how a message is handed over, the messages, and what is special.
SHAPES = [
    ("single", "single", THREE, {}),
    ("pipelined", "pipelined", THREE, {}),
    ("split", "split", THREE, {}),
    ("command-per-write", "command-per-write", THREE, {}),
    ("dot-apart", "dot-apart", THREE, {}),
    ("dot-late", "dot-late", [message(), message()], {}),
    ("chained", "chained", THREE, {}),
    ("tiny-bodies", "pipelined", [message(0)] * 3, {}),
    ("tiny-bodies-single", "single", [message(0)] * 3, {}),
    ("only-noop", "single", [], {"first": [b"NOOP"] * 5}),
    ("aborted-body", "pipelined", [message(), message(style="abort")], {"end": "close"}),
    ("one-message", "pipelined", [message()], {}),
    ("one-message-single", "single", [message()], {}),
    ("twenty-messages", "pipelined", [message(500 + 37 * n) for n in range(20)], {}),
    ("no-message", "single", [], {}),
    ("big-bodies", "pipelined", [message(40_000), message(200_000)], {}),
    ("auth-plain", "single", THREE, {"auth": "plain"}),
    ("auth-login", "pipelined", THREE, {"auth": "login"}),
    ("auth-refused", "pipelined", THREE, {"auth": "refused"}),
    ("bdat", "bdat", THREE, {}),
    ("bdat-pipelined", "bdat-pipelined", THREE, {}),
    ("bdat-whole", "bdat-whole", THREE, {}),
    ("bdat-chunks", "bdat-chunks", THREE, {}),
    ("bdat-refused-body", "bdat", [message(refuse="body")], {}),
    ("bdat-refused-body-pipelined", "bdat-pipelined", [message(refuse="body"), message()], {}),
    ("bdat-refused-body-whole", "bdat-whole", [message(refuse="body")], {}),
    ("bdat-refused-recipients", "bdat", [message(), message(refuse="all"), message()], {}),
    ("bdat-then-data", "pipelined", [message(style="bdat"), message()], {}),
    ("data-then-bdat", "pipelined", [message(), message(style="bdat")], {}),
    ("recipients", "pipelined", [message(recipients=n) for n in (5, 1, 3)], {}),
    ("recipients-single", "single", [message(recipients=n) for n in (5, 1, 3)], {}),
    ("rset-between", "pipelined", THREE, {"between": "RSET"}),
    ("rset-between-single", "single", THREE, {"between": "RSET"}),
    ("vrfy-between", "pipelined", THREE, {"between": "VRFY user"}),
    ("noop-between", "pipelined", THREE, {"between": "NOOP"}),
    ("noop-between-single", "single", THREE, {"between": "NOOP"}),
    ("refused-sender", "pipelined", [message(), message(refuse="sender"), message()], {}),
    ("refused-sender-single", "single", [message(), message(refuse="sender"), message()], {}),
    ("refused-recipients", "pipelined", [message(), message(refuse="all"), message()], {}),
    ("refused-recipients-single", "single", [message(), message(refuse="all"), message()], {}),
    ("some-refused", "pipelined", [message(recipients=3, refuse="some"), message()], {}),
    ("refused-body", "pipelined", [message(), message(refuse="body"), message()], {}),
    ("refused-body-single", "single", [message(refuse="body"), message()], {}),
    ("only-refused", "pipelined", [message(refuse="all"), message(refuse="all")], {}),
    ("no-quit", "pipelined", THREE, {"end": "close"}),
    ("quit-with-body", "pipelined", [message()], {"end": "with-body"}),
]


class Session:
    def __init__(self, stream):
        self.stream = stream
        self.input = b""
        self.messages = 0

    def send(self, *lines):
        """Sends lines in one write, which is one TLS record if it fits."""
        self.stream.sendall(b"".join(line + b"\r\n" for line in lines))

    def code(self):
        """Reads one reply."""
        while True:
            while b"\r\n" not in self.input:
                received = self.stream.recv(65536)
                if not received:
                    raise EOFError("the server closed")
                self.input += received
            line, self.input = self.input.split(b"\r\n", 1)
            if line[3:4] != b"-":
                return int(line[:3])

    def ask(self, line):
        self.send(line)
        return self.code()

    def ehlo(self):
        if self.ask(b"EHLO client.test") != 250:
            raise ValueError("EHLO was refused")

    def auth(self, how):
        if how == "refused":
            self.ask(b"AUTH PLAIN d3Jvbmc=")
            how = "plain"
        if how == "plain":
            code = self.ask(b"AUTH PLAIN " + base64.b64encode(b"\0user\0password"))
        else:
            self.ask(b"AUTH LOGIN")
            self.ask(base64.b64encode(b"user"))
            code = self.ask(base64.b64encode(b"password"))
        if code != 235:
            raise ValueError("AUTH was refused")

    def final(self, code):
        """Counts a message whose body was sent."""
        self.messages += 1
        if code not in (250, 554):
            raise ValueError(f"final reply {code}")

    def hand_over(self, style, mail, quit_with_body):
        style = mail["style"] or style
        body = body_of(mail["size"])
        if style == "bdat-whole":
            sender, recipients = envelope(mail)
            self.send(sender, *recipients, b"BDAT %d LAST" % len(body) + b"\r\n" + body[:-2])
            return self.final([self.code() for _ in range(2 + len(recipients))][-1])
        if not self.envelope(style, mail):
            return self.ask(b"RSET")
        if style == "abort":
            return self.stream.sendall(body)
        if style.startswith("bdat"):
            return self.chunks(body, 3 if style == "bdat-chunks" else 1)
        if style.startswith("dot-"):
            self.stream.sendall(body)
            time.sleep(0.2 if style == "dot-late" else 0.01)
            self.send(b".")
        else:
            self.send(body + b"." + (b"\r\nQUIT" if quit_with_body else b""))
        self.final(self.code())

    def envelope(self, style, mail):
        """Says whether the server wants the body."""
        sender, recipients = envelope(mail)
        bdat = style.startswith("bdat")
        if style in ("single", "bdat"):
            if self.ask(sender) != 250:
                return False
            if 250 not in [self.ask(recipient) for recipient in recipients]:
                return False
            return bdat or self.ask(b"DATA") == 354
        lines = [sender, *recipients] + ([] if bdat else [b"DATA"])
        if style == "command-per-write":
            for line in lines:
                self.send(line)
        elif style == "split":
            self.ask(sender)
            lines = lines[1:]
            self.send(*lines)
        else:
            self.send(*lines)
        codes = [self.code() for _ in lines]
        return codes[-1] == (250 if bdat else 354)

    def chained(self, messages):
        """The next envelope rides with the end of the body before it."""
        body = b""
        for mail in messages:
            sender, recipients = envelope(mail)
            self.send(body + sender, *recipients, b"DATA")
            if body:
                self.final(self.code())
            for _ in range(2 + len(recipients)):
                self.code()
            body = body_of(mail["size"]) + b".\r\n"
        self.stream.sendall(body)
        self.final(self.code())

    def chunks(self, body, count):
        size = len(body) // count
        for number in range(count):
            last = number == count - 1
            chunk = body[number * size :] if last else body[number * size : (number + 1) * size]
            self.stream.sendall(b"BDAT %d%s\r\n" % (len(chunk), b" LAST" if last else b"") + chunk)
            code = self.code()
        self.final(code)

    def talk(self, style, messages, auth=None, first=(), between=None, end="quit"):
        if auth:
            self.auth(auth)
        for line in first:
            self.ask(line)
        if style == "chained":
            self.chained(messages)
            messages = []
        for number, mail in enumerate(messages):
            if between and number > 0:
                self.ask(between.encode())
            self.hand_over(style, mail, end == "with-body")
        if end == "quit":
            self.send(b"QUIT")
        if end != "close":
            self.code()


def envelope(mail):
    refuse = mail["refuse"]
    local = {"sender": b"refused", "body": b"bad-body"}.get(refuse, b"user")
    names = [b"user%d" % number for number in range(mail["recipients"])]
    if refuse == "all":
        names = [b"refused"] * len(names)
    elif refuse == "some":
        names[0] = b"refused"
    recipients = [b"RCPT TO:<%s@server.test>" % name for name in names]
    return b"MAIL FROM:<%s@client.test> SIZE=%d" % (local, mail["size"]), recipients


def body_of(size):
    if size == 0:
        return b"X\r\n"
    line = b"X" * 70 + b"\r\n"
    return b"Subject: test\r\n\r\n" + line * (size // len(line) + 1)


def connect(address, port, tls, cipher):
    stream = socket.create_connection(address, timeout=15, source_address=("", port))
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if cipher:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(cipher)
    if tls == "implicit":
        stream = context.wrap_socket(stream)
    session = Session(stream)
    session.code()
    session.ehlo()
    if tls == "starttls":
        session.ask(b"STARTTLS")
        session.stream = context.wrap_socket(stream)
        session.ehlo()
    if tls:
        version = "TLSv1.2" if cipher else "TLSv1.3"
        name, got, _ = session.stream.cipher()
        if session.stream.version() != version or (cipher and name != cipher):
            raise ValueError(f"{version} {cipher} was wanted, {got} {name} came")
    return session


def main():
    addresses = [argument.rsplit(":", 1) for argument in sys.argv[1:]]
    plain, implicit = [(host, int(port)) for host, port in addresses]
    # Each connection has a port of its own, whichever address it goes to: the port tells them apart.
    port = 40_000
    for transport, tls, cipher in TRANSPORTS:
        for shape, style, messages, special in SHAPES:
            port += 1
            session = connect(implicit if tls == "implicit" else plain, port, tls, cipher)
            session.talk(style, messages, **special)
            session.stream.close()
            done = {"transport": transport, "shape": shape, "port": port}
            print(json.dumps(done | {"messages": session.messages}), flush=True)


main()
