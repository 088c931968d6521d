#!/bin/sh
# Vulkan without a GPU, on Debian and what is made of it: Mesa's lavapipe computes on the CPU. Installs what that takes, builds
# with feature vulkan, and proves the placement there.
#
#     tests/gpu/lavapipe.sh [OUT]
#
# The backend's shaders are over a thousand files, some of which take minutes of a core, and lavapipe compiles what is used of
# them once more in every process.
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

# Debian 12's Mesa, 22.3.6, ends the process in the middle of a shader. The one of its backports lies in target then, apart from the
# system's.
if dpkg --compare-versions "$(dpkg-query -W -f '${Version}' mesa-vulkan-drivers)" lt 24; then
    newer=$PWD/target/lavapipe
    backports=$(. /etc/os-release && echo "$VERSION_CODENAME-backports")
    mkdir -p "$newer/lists/partial" "$newer/archives/partial"
    echo "deb $(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' | head -n 1) $backports main" > "$newer/sources.list"
    apart() {
        apt-get -q -t "$backports" -o Dir::Etc::SourceList="$newer/sources.list" -o Dir::Etc::SourceParts=- \
            -o Dir::State::Lists="$newer/lists" -o Dir::Cache::Archives="$newer/archives" -o Dir::Cache::pkgcache= \
            -o Dir::Cache::srcpkgcache= "$@"
    }
    apart update
    (cd "$newer" && apart download mesa-vulkan-drivers libdrm2 libdrm-amdgpu1)
    for package in "$newer"/*.deb; do
        dpkg -x "$package" "$newer"
    done
    driver=$(find "$newer" -name libvulkan_lvp.so)
    sed "s|libvulkan_lvp.so|$driver|" "$newer/usr/share/vulkan/icd.d/lvp_icd.json" > "$newer/lavapipe.json"
    export VK_ICD_FILENAMES="$newer/lavapipe.json" LD_LIBRARY_PATH="$(dirname "$driver")"
fi
# ggml passes over devices that are no GPUs, unless one is asked for.
export GGML_VK_VISIBLE_DEVICES=0
# LLVM takes several times as long where it optimizes what it compiles.
export GALLIVM_PERF=nopt
export TRIES=1
exec tests/gpu/prove.sh vulkan Vulkan0 "$@"
