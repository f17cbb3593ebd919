"""An SMTP client with STARTTLS: HOST PORT ACTION...

An action is NxR (N messages to R recipients each, the envelope pipelined) or `wait` (says so, and goes on
after a line on standard input).
"""

import smtplib
import ssl
import sys


def message(client, recipients):
    to = [f"RCPT TO:<b{i}@sink.test>\r\n" for i in range(recipients)]
    client.sock.sendall("".join(["MAIL FROM:<a@mta-a.test>\r\n", *to]).encode())
    expect(250, *(client.getreply() for _ in range(recipients + 1)))
    expect(354, client.docmd("DATA"))
    client.send(b"Subject: test\r\n\r\nbody\r\n.\r\n")
    expect(250, client.getreply())


def expect(code, *replies):
    for reply in replies:
        if reply[0] != code:
            raise SystemExit(f"expected {code}: {reply}")


def main(host, port, *actions):
    client = smtplib.SMTP(host, int(port), local_hostname="lab.test", timeout=20)
    client.starttls(context=ssl._create_unverified_context())
    client.ehlo()
    for action in actions:
        if action == "wait":
            print("waiting", flush=True)
            sys.stdin.readline()
            continue
        count, recipients = map(int, action.split("x"))
        for _ in range(count):
            message(client, recipients)
    client.quit()


main(*sys.argv[1:])
