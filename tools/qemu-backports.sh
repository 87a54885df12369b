#!/bin/sh
# Usage: qemu-backports.sh FOLDER
# Unpacks qemu-system-arm of the release's backports (on Debian 12: QEMU 10) into FOLDER, beside the installed one, and
# prints the path of its commands. The system's own packages and lists of packages stay as they are. Exits with 3,
# saying why, where there is none.
set -eu
folder=$1
if [ -x "$folder/usr/bin/qemu-system-arm" ]; then
    cd "$folder/usr/bin" && pwd
    exit 0
fi
release=$(. /etc/os-release 2>/dev/null && echo "${ID:-} ${VERSION_CODENAME:-}")
case $release in
"debian "?*) ;;
*)
    echo "no backports of QEMU: ${release:-this system} is not Debian" >&2
    exit 3
    ;;
esac
mirror=$(apt-get indextargets --format '$(REPO_URI)' "Codename: ${release#debian }" "Created-By: Packages" 2>/dev/null | head -1)
keys=/usr/share/keyrings/debian-archive-keyring.gpg
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
work=$(mktemp -d "$folder/packages.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
echo "deb [signed-by=$keys] ${mirror:-missing:} ${release#debian }-backports main" >"$work/sources"
apt() {
    apt-get -qq -o Dir::Etc::sourcelist="$work/sources" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root "$@" >&2
}
if ! (apt update && cd "$work" && apt download qemu-system-arm qemu-system-common); then
    echo "no backports of QEMU: they could not be downloaded" >&2
    exit 3
fi
for package in "$work"/*.deb; do
    dpkg-deb -x "$package" "$work/unpacked"
done
mv "$work/unpacked/usr" "$folder/usr"
echo "$folder/usr/bin"
