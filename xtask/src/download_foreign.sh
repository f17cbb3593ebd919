# Unpacks a package of another architecture
# Arguments: a directory, the architecture, the package, its version. Nothing is installed, and the machine's
# own lists of packages stay as they are.
set -eu
directory=$1 arch=$2 package=$3 version=$4
rm -rf "$directory.new"
mkdir -p "$directory.new/lists/partial" "$directory.new/cache/archives/partial"
cd "$directory.new"
: >status
private() {
    apt-get -q -o "APT::Architecture=$arch" -o "APT::Architectures::=$arch" -o APT::Sandbox::User= \
        -o "Dir::State::lists=$PWD/lists" -o "Dir::State::status=$PWD/status" -o "Dir::Cache=$PWD/cache" \
        -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false "$@"
}
private update
private download "$package=$version"
dpkg -x "$package"_*.deb .
rm -rf "$package"_*.deb lists cache status "$directory"
printf '%s\n' "$version" >version
mv "$directory.new" "$directory"
