"""An SMTP server that counts: for each connection that ends it prints the client's port and the number of
messages whose body got a final reply, a refusal included.

    smtp_server.py CERTIFICATE KEY ADDRESS:PORT [implicit:ADDRESS:PORT]...

Senders called `refused`, recipients called `refused` and bodies of senders called `bad-body` are refused.
Replies to pipelined commands leave together, as with most servers.
"""

import json
import socket
import ssl
import sys
import threading

EHLO = (
    "250-server.test\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n{}250-AUTH PLAIN LOGIN\r\n"
    "250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250 CHUNKING\r\n"
)


class Connection:
    """One client. What it may send next is checked loosely: the clients are ours."""

    def __init__(self, stream, context, implicit):
        self.stream = stream
        self.context = context
        self.encrypted = implicit
        self.input = b""
        self.output = b""
        self.messages = 0
        self.forget()

    def forget(self):
        self.sender = None
        self.recipients = 0

    def fill(self):
        """Reads more, after sending what waits. False at the end."""
        if self.output:
            self.stream.sendall(self.output)
            self.output = b""
        received = self.stream.recv(65536)
        self.input += received
        return bool(received)

    def line(self):
        while b"\r\n" not in self.input:
            if not self.fill():
                return None
        line, self.input = self.input.split(b"\r\n", 1)
        return line.decode("latin-1")

    def skip(self, size):
        while len(self.input) < size:
            if not self.fill():
                return False
        self.input = self.input[size:]
        return True

    def reply(self, text):
        self.output += text.encode() + b"\r\n"

    def serve(self):
        self.reply("220 server.test ESMTP")
        while (line := self.line()) is not None:
            verb, _, rest = line.partition(" ")
            handler = getattr(self, "on_" + verb.lower(), None)
            if handler is None:
                self.reply("502 5.5.2 what?")
            elif handler(rest) is False:
                break
        if self.output:
            self.stream.sendall(self.output)

    def on_ehlo(self, _):
        starttls = "" if self.encrypted else "250-STARTTLS\r\n"
        self.output += EHLO.format(starttls).encode()

    def on_starttls(self, _):
        self.stream.sendall(b"220 2.0.0 ready\r\n")
        self.stream = self.context.wrap_socket(self.stream, server_side=True)
        self.encrypted = True

    def on_auth(self, rest):
        mechanism, _, initial = rest.partition(" ")
        if mechanism == "LOGIN":
            for prompt in ("VXNlcm5hbWU6", "UGFzc3dvcmQ6"):
                self.reply("334 " + prompt)
                initial = self.line()
        elif not initial:
            self.reply("334 ")
            initial = self.line()
        wrong = initial == "d3Jvbmc="
        self.reply("535 5.7.8 authentication failed" if wrong else "235 2.7.0 welcome")

    def on_mail(self, rest):
        if "<refused@" in rest:
            self.reply("450 4.7.1 sender refused")
        else:
            self.sender = rest
            self.reply("250 2.1.0 sender ok")

    def on_rcpt(self, rest):
        if self.sender is None:
            self.reply("503 5.5.1 no sender")
        elif "<refused@" in rest:
            self.reply("550 5.1.1 no such user here")
        else:
            self.recipients += 1
            self.reply("250 2.1.5 recipient ok")

    def on_data(self, _):
        if self.recipients == 0:
            self.reply("554 5.5.1 no valid recipients")
            return
        self.reply("354 go ahead")
        while (line := self.line()) not in (".", None):
            pass
        if line == ".":
            self.finish()

    def on_bdat(self, rest):
        size, _, last = rest.partition(" ")
        if not self.skip(int(size)):
            return
        if self.recipients == 0:
            self.reply("554 5.5.1 no valid recipients")
        elif last == "LAST":
            self.finish()
        else:
            self.reply("250 2.0.0 chunk taken")

    def finish(self):
        self.messages += 1
        if "<bad-body@" in self.sender:
            self.reply("554 5.6.0 body refused")
        else:
            self.reply("250 2.0.0 queued as 4ABCDEF%04d" % self.messages)
        self.forget()

    def on_rset(self, _):
        self.forget()
        self.reply("250 2.0.0 flushed")

    def on_noop(self, _):
        self.reply("250 2.0.0 ok")

    def on_vrfy(self, _):
        self.reply("252 2.0.0 try it")

    def on_quit(self, _):
        self.reply("221 2.0.0 bye")
        return False


def serve(stream, port, context, implicit):
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    messages, trouble = 0, None
    try:
        if implicit:
            stream = context.wrap_socket(stream, server_side=True)
        connection = Connection(stream, context, implicit)
        try:
            connection.serve()
        finally:
            messages, stream = connection.messages, connection.stream
    except OSError as error:
        trouble = str(error)
    stream.close()
    # One write: the lines of several threads do not mix.
    end = {"port": port, "messages": messages, "trouble": trouble}
    sys.stdout.write(json.dumps(end) + "\n")
    sys.stdout.flush()


def accept(listener, context, implicit):
    while True:
        stream, (_, port) = listener.accept()
        threading.Thread(target=serve, args=(stream, port, context, implicit), daemon=True).start()


def main():
    certificate, key, *addresses = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    threads = []
    for address in addresses:
        implicit = address.startswith("implicit:")
        host, port = address.removeprefix("implicit:").rsplit(":", 1)
        listener = socket.create_server((host, int(port)), backlog=100)
        threads.append(threading.Thread(target=accept, args=(listener, context, implicit)))
    for thread in threads:
        thread.start()


main()
