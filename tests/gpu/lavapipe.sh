#!/bin/sh
# Vulkan without a GPU, on Debian and what is made of it: Mesa's lavapipe computes on the CPU. Installs what that takes, builds
# with feature vulkan, and proves the placement there.
#
#     tests/gpu/lavapipe.sh [OUT]
#
# The backend's shaders are some hundred files, each of which takes up to minutes of a core.
set -eu
cd "$(dirname "$0")/../.."
packages='cmake ninja-build g++ libvulkan-dev glslc spirv-headers mesa-vulkan-drivers'
for package in $packages; do
    dpkg -s "$package" > /dev/null 2>&1 || missing="${missing:-} $package"
done
# A cmake from elsewhere will do.
command -v cmake > /dev/null && missing=$(echo "${missing:-}" | sed 's/ cmake//; s/ ninja-build//')
if [ -n "${missing:-}" ]; then
    as_root=''
    [ "$(id -u)" = 0 ] || as_root=sudo
    $as_root apt-get update -q
    # shellcheck disable=SC2086
    $as_root apt-get install -q -y --no-install-recommends $missing
fi
# ggml passes over devices that are no GPUs, unless one is asked for.
export GGML_VK_VISIBLE_DEVICES=0
# Every process has its shaders compiled anew, which takes a minute of a core.
export TRIES=1
exec tests/gpu/prove.sh vulkan Vulkan0 "$@"
