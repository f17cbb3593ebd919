# Installs packages without starting their services
set -eu
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi
for package in "$@"; do
    if [ "$package" = postfix ]; then
        echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
    fi
done
DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends --no-remove \
    -o DPkg::Lock::Timeout=300 "$@"
