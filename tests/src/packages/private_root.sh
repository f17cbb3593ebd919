# Runs a program of packages that are not installed. The mount namespace must be the caller's own.
# Arguments: directory of .deb files, an empty directory, the program and its arguments.
set -eu
packages=$1 scratch=$2
shift 2
mount -t tmpfs -o mode=755 tmpfs "$scratch"
for package in "$packages"/*.deb; do
    dpkg -x "$package" "$scratch/unpacked"
done
# Libraries may lie in /lib, which is a link to /usr/lib on the machine.
if [ -d "$scratch/unpacked/lib" ]; then
    mkdir -p "$scratch/unpacked/usr/lib"
    cp -a "$scratch/unpacked/lib/." "$scratch/unpacked/usr/lib/"
fi
for place in /usr /etc /var/lib; do
    mkdir -p "$scratch/unpacked$place" "$scratch/upper$place" "$scratch/work$place"
    layers=lowerdir=$scratch/unpacked$place:$place
    layers=$layers,upperdir=$scratch/upper$place,workdir=$scratch/work$place
    mount -t overlay -o "$layers" overlay "$place"
done
mount -t tmpfs -o mode=755 tmpfs /var/spool
mount -t tmpfs -o mode=755 tmpfs /run
# The users that the packages would have made.
number=64000
for name in Debian-exim opensmtpd opensmtpq; do
    if ! grep -q "^$name:" /etc/passwd; then
        echo "$name:x:$number:$number::/nonexistent:/bin/false" >> /etc/passwd
        echo "$name:x:$number:" >> /etc/group
    fi
    number=$((number + 1))
done
# There is no DNS here, and to find that out must not take time.
rm -f /etc/resolv.conf
echo "nameserver 127.0.0.1" > /etc/resolv.conf
exec "$@"
