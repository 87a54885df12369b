#!/bin/sh
# Usage: apt-install.sh COMMAND:PACKAGE[,PACKAGE...] ...
# Installs the packages of every command that is missing; a bare PACKAGE is always installed.
set -eu
packages=""
for item in "$@"; do
    command=${item%%:*}
    list=$(echo "${item#*:}" | tr ',' ' ')
    if [ "$command" = "$list" ] && [ "$item" = "$command" ]; then
        packages="$packages $list"
    elif ! command -v "$command" >/dev/null 2>&1; then
        packages="$packages $list"
    fi
done
[ -n "$packages" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "missing:$packages (names of Debian's packages)" >&2
    echo "Fedora:  dnf install qemu-system-arm arm-none-eabi-gcc-cs arm-none-eabi-newlib gcc clang cmake" >&2
    echo "Arch:    pacman -S qemu-system-arm arm-none-eabi-gcc arm-none-eabi-newlib gcc clang cmake" >&2
    echo "macOS:   brew install qemu && brew install --cask gcc-arm-embedded" >&2
    echo "Windows: use WSL 2 with Debian 12" >&2
    exit 1
fi
sudo=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "run as root: apt-get install$packages" >&2; exit 1; }
    sudo=sudo
fi
echo "installing$packages"
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $packages >/dev/null
