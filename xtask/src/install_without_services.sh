# Installs packages without starting their services
set -eu
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi
install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends --no-remove \
        -o DPkg::Lock::Timeout=300 "$@"
}
if ! install --simulate "$@" >/dev/null 2>&1; then
    # Not all can be had. Rather most of them than none.
    for package in "$@"; do
        shift
        if install --simulate "$package" >/dev/null 2>&1; then
            set -- "$@" "$package"
        else
            echo "left out: $package, as apt says:" >&2
            install --simulate "$package" >&2 || true
        fi
    done
fi
for package in "$@"; do
    if [ "$package" = postfix ]; then
        echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
    fi
done
if [ $# -gt 0 ]; then
    install "$@"
fi
