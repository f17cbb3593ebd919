# Fetches a package, and what it needs that is not installed
# Arguments: a directory for packages, the name of the package. Neither is installed.
set -eu
directory=$1 package=$2
names=$(LC_ALL=C apt-get -qq --print-uris --reinstall --no-install-recommends install "$package" |
    sed -n "s/^'[^']*' \([^_ ]*\)_.*/\1/p")
if [ -z "$names" ]; then
    echo "apt names no file for $package" >&2
    exit 1
fi
mkdir -p "$directory"
rm -rf "$directory/$package.new"
mkdir "$directory/$package.new"
cd "$directory/$package.new"
# shellcheck disable=SC2086 # Names of packages are words.
apt-get -q -o APT::Sandbox::User= download $names
rm -rf "../$package"
mv "../$package.new" "../$package"
