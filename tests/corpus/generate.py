"""Runs sessions and writes one line each: its plan, its port, what was said in cleartext, the server's count.

generate.py SEED SESSIONS PORT SUITE, where SUITE is a TLS 1.3 cipher suite or 1.2. Lines go to standard output.
"""

import json
import random as randomness
import socket
import sys
import threading

import texts
from client import Client
from server import Server

# Ciphers of TLS 1.2; those of 1.3 are set for the whole process, see run.sh.
CIPHERS = ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305", "AES256-GCM-SHA384"]
SERVERS = dict(postfix=26, exim=14, google=12, microsoft=12, sendmail=6, opensmtpd=6, **{"made-up": 24})
CLIENTS = dict(postfix=34, exim=24, opensmtpd=7, sendmail=7, kumomta=8, other=20)
# How the named clients hand messages over where the server offers PIPELINING and CHUNKING, PIPELINING only, CHUNKING only, and
# neither. Nothing here depends on their configuration but whether they use what is offered.
MANNERS = dict(
    postfix=("envelope", "envelope", "single", "single"),
    exim=("exim-whole", "envelope", "exim-single", "single"),
    opensmtpd=("single-dot-apart",) * 4,
    sendmail=("rcpt-and-data", "rcpt-and-data", "single-dot-apart", "single-dot-apart"),
    kumomta=("rset-and-envelope", "rset-and-envelope", "single", "single"))
# How they end a session.
ENDS = dict(
    postfix={"quit-with-body": 50, "": 40, "quit": 7, "rset-quit": 3}, exim={"quit-unanswered": 60, "quit": 40},
    opensmtpd={"quit": 90, "": 10}, sendmail={"quit": 90, "": 10}, kumomta={"quit": 80, "": 20})
# Styles of other clients where the server offers PIPELINING and CHUNKING, PIPELINING only, CHUNKING only, and neither.
STYLES = {
    (True, True): dict(envelope=25, rset_and_envelope=6, write_per_command=4, single=12, single_dot_apart=7, rcpt_and_data=5,
                       whole=22, bdat_single=5, bdat_after_envelope=14),
    (True, False): dict(envelope=50, rset_and_envelope=8, write_per_command=5, single=15, single_dot_apart=12, rcpt_and_data=10),
    (False, True): dict(single=50, single_dot_apart=25, bdat_single=25),
    (False, False): dict(single=65, single_dot_apart=35),
}


def weighted(random, weights):
    return random.choices(list(weights), list(weights.values()))[0]


def make_plan(random, suite):
    chance = random.random
    plan = dict(server=weighted(random, SERVERS), tls=suite if suite.startswith("TLS_") else random.choice(CIPHERS))
    server = plan["server"]
    plan["pipelining"] = server != "opensmtpd" and chance() > {"postfix": .08, "exim": .08, "made-up": .25}.get(server, 0)
    plan["chunking"] = server not in ("opensmtpd", "sendmail") and chance() > {"postfix": .3, "made-up": .6}.get(server, .05)
    client = plan["client"] = weighted(random, CLIENTS)
    offers = plan["pipelining"], plan["chunking"]
    places = [(True, True), (True, False), (False, True), (False, False)]
    plan["style"] = weighted(random, STYLES[offers]).replace("_", "-") if client == "other" else MANNERS[client][places.index(offers)]
    style = plan["style"]
    plan["implicit"] = chance() < .13
    plan["offer_auth"] = chance() < (.9 if plan["implicit"] else .3)
    authenticates = plan["offer_auth"] and chance() < (.6 if plan["implicit"] else .2)
    plan["auth"] = random.choice(["plain", "plain-later", "login", "cram-md5", "xoauth2"]) if authenticates else ""
    plan["tickets"] = random.choice([0, 1, 2, 2])
    plan["hello_retry"] = suite.startswith("TLS_") and chance() < .05
    plan["ask_certificate"], plan["resume"], plan["wait_for_tickets"] = chance() < .1, chance() < .3, chance() < .5
    host = random.choice(["mx.a.test", "mx1.mail.example.test", "in-%s.example.test" % ("x" * random.randint(1, 30))])
    plan.update(host=host, helo=random.choice(["mx.a.test", "mail-out-17.example.test", "a.test", "[192.0.2.1]",
                                               "h" * random.randint(2, 40)]))
    plan.update(greeting=random.randint(0, 99), refusal=random.randint(0, 99), id_length=random.choice([9, 10, 11, 14]))
    plan["google"] = "".join(random.choice("0123456789abcdef") for _ in range(13)) + "-" + \
        "".join(random.choice("0123456789abcdef") for _ in range(11)) + "si%d" % random.randint(10**6, 10**9)
    plan["record_per_reply"] = chance() < .15
    trouble = chance() < .25
    plan["refuse_sender"] = .15 if trouble and style not in ("whole", "exim-whole") and chance() < .5 else 0
    plan["refuse_recipient"] = random.choice([0, .2, .5]) if trouble else 0
    plan["refuse_data"] = .15 if trouble and chance() < .2 else 0
    plan["refuse_body"] = .2 if trouble and chance() < .5 else 0
    plan["messages"] = random.choices([0, 1, 2, 3, 5, 8, 12, 25, 40, 150], [40, 350, 150, 120, 120, 100, 80, 30, 10, 3])[0]
    plan["bodies"] = weighted(random, dict(usual=64, equal=25, tiny=8, big=3))
    plan["body_size"] = random.randint(300, 6000)
    plan["recipients"] = random.choices([1, 3, 20, 50], [70, 20, 8, 2])[0]
    plan["rset"] = client in ("postfix", "sendmail") or client == "other" and \
        style in ("single", "rcpt-and-data", "bdat-after-envelope") and chance() < .5
    plan["noop"] = .3 if client == "other" and chance() < .1 else 0
    plan["sender"] = "a%s@client.test" % ("b" * random.randint(0, 20)) if chance() < .6 else ""
    plan["recipient"] = "c%s@host.test" % ("d" * random.randint(0, 20)) if chance() < .4 else ""
    plan["size"] = chance() < .4
    plan["chunk"] = random.choice([0, 0, 0, 8192, 65536, 1000])
    ends = ENDS.get(client) or \
        {"quit": 50, "quit-unanswered": 15, "": 20, "quit-with-body": 7 * plan["pipelining"], "rset-quit": 5, "in-a-transaction": 3}
    plan["end"] = weighted(random, ends)
    plan["resets"] = .8 if client == "other" else 1
    plan["hang_up_after"] = random.randint(1, 3) if chance() < .04 else 0
    plan["client_close_notify"], plan["server_close_notify"] = chance() < .6, chance() < .6
    return plan


def tags(plan):
    """The variations of the published table that a session belongs to."""
    tls = plan["tls"]
    cipher = "chacha20" if "CHACHA" in tls else "aes-gcm"
    yield ("tls13-" if tls.startswith("TLS_") else "tls12-") + cipher
    yield "style-" + plan["style"]
    yield "client-" + plan["client"]
    yield "server-" + plan["server"]
    yield "pipelining" if plan["pipelining"] else "no-pipelining"
    yield "chunking-offered" if plan["chunking"] else "no-chunking"
    yield "bodies-" + plan["bodies"]
    yield "end-" + (plan["end"] or "close")
    yield "implicit-tls" if plan["implicit"] else "starttls"
    count = plan["messages"]
    yield "messages-0" if count == 0 else "messages-1" if count == 1 else "messages-2-to-9" if count < 10 else "messages-10-and-more"
    chunked = plan["style"] in ("whole", "exim-whole", "exim-single", "bdat-single", "bdat-after-envelope")
    flags = {"auth": plan["auth"], "hello-retry": plan["hello_retry"], "client-certificate-asked": plan["ask_certificate"],
             "resumption": plan["resume"], "tickets-before-ehlo": tls.startswith("TLS_") and plan["wait_for_tickets"] and plan["tickets"],
             "record-per-reply": plan["record_per_reply"], "noop": plan["noop"], "421-unasked": plan["hang_up_after"],
             "refused-envelopes": plan["refuse_sender"] or plan["refuse_recipient"] or plan["refuse_data"],
             "refused-bodies": plan["refuse_body"], "several-recipients": plan["recipients"] > 1, "bdat": chunked,
             "rset": plan["rset"] or plan["style"] == "rset-and-envelope", "several-chunks": plan["chunk"] and chunked and plan["client"] == "other"}
    yield from (name for name, set_ in flags.items() if set_)


def run_session(listener, port, plan, random):
    words = texts.made_up(random) if plan["server"] == "made-up" else texts.FAMILIES[plan["server"]]
    seeds = [randomness.Random(random.random()) for _ in range(2)]
    servers = []

    def serve():
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(60)
        servers.append(Server(sock, plan, words, seeds[0]))
        servers[0].serve()

    thread = threading.Thread(target=serve)
    thread.start()
    client = Client(port, plan, seeds[1])
    client.session()
    thread.join(60)
    return client.port, servers[0]


def main():
    seed, sessions, port, suite = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    random = randomness.Random(seed)
    listener = socket.create_server(("127.0.0.1", port), backlog=50)
    for _ in range(sessions):
        plan = make_plan(random, suite)
        client_port, server = run_session(listener, port, plan, random)
        line = dict(port=client_port, messages=server.messages, clear=server.clear, tags=list(tags(plan)))
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
