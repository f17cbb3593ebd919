#!/bin/bash
# run.sh SEED SESSIONS OUTPUT: makes a corpus of about SESSIONS sessions. Root; needs python3, openssl, tcpdump, iproute2.
set -euo pipefail
if [ "${CORPUS_INSIDE:-}" != yes ]; then
    output=$(realpath "$3")
    # A network namespace of its own: no packet of the host is seen, and its loopback is not used.
    CORPUS_INSIDE=yes exec unshare --net "$0" "$1" "$2" "$output"
fi
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
ip link set lo up
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out certificate.pem -days 2 -subj /CN=mx.test 2>openssl.log
arguments=()
port=46000
for suite in 1.2 TLS_AES_256_GCM_SHA384 TLS_AES_128_GCM_SHA256 TLS_CHACHA20_POLY1305_SHA256; do
    port=$((port + 1))
    : >"$suite.tcpdump"
    tcpdump -i lo -n -s 100 -B 65536 -w "$suite.pcap" "tcp port $port" 2>"$suite.tcpdump" &
    tcpdump=$!
    until grep -q listening "$suite.tcpdump"; do sleep 0.1; done
    {
        printf 'openssl_conf=d\n[d]\n'
        [ $suite = 1.2 ] || printf 'ssl_conf=s\n[s]\nsystem_default=x\n[x]\nCiphersuites=%s\n' $suite
    } >openssl.cnf
    OPENSSL_CONF=$work/openssl.cnf python3 "$here/generate.py" "$1$port" $(($2 / 4)) $port $suite >"$suite.jsonl"
    sleep 1
    kill $tcpdump
    wait $tcpdump || true
    grep dropped "$suite.tcpdump" >&2
    arguments+=("$port:$suite.pcap:$suite.jsonl")
done
python3 "$here/cut.py" "$3" "${arguments[@]}"
