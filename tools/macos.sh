#!/usr/bin/env bash
# Compiles every object of src/ and tools/ for macOS on ARM, on any Linux (make macos). Nothing is
# linked: it tells whether the sources are right for macOS, not whether the program works there.
# The compiler, with Apple's C headers, is zig's (PyPI: ziglang); the dependencies' headers are this
# machine's, copied, so that no other header of Linux can be found beside them.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build-macos}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/shoal/zig
if ! python=$(tools/venv.sh "$cache" ziglang ziglang); then
    echo "no zig: compiling for macOS is skipped"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
zig=$("$python" -c 'import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), "zig"))')
here=$PWD/$build-parts
mkdir -p "$here/include" "$here/pc"

# Package, and what stands in its include folders.
headers='libevent event2 event.h evutil.h
openssl openssl
libcurl curl
jansson jansson.h jansson_config.h
libpcre2-8 pcre2.h
libedit histedit.h editline
libutf8proc utf8proc.h'
arch=$(cc -print-multiarch 2>/dev/null || true)
while read -r package names; do
    found=$(pkg-config --variable=includedir "$package")
    for folder in "$found" ${arch:+"$found/$arch"}; do
        for name in $names; do
            [[ ! -e $folder/$name ]] || cp -RLu "$folder/$name" "$here/include/"
        done
    done
    also=$package
    [[ $package != libevent ]] || also='libevent libevent_openssl libevent_pthreads'
    for name in $also; do
        printf 'Name: %s\nDescription: headers only\nVersion: %s\nCflags: -I%s\n' "$name" \
            "$(pkg-config --modversion "$package")" "$here/include" >"$here/pc/$name.pc"
    done
done <<<"$headers"

# meson asks each compiler for its linker, and doesn't know zig's.
# It knows no -march of ARM's; the objects here are only compiled, so the flag becomes its own.
cat >"$here/cc" <<CC
#!/bin/bash
[[ " \$* " != *' -Wl,--version '* ]] || { echo 'LLD 1 (for meson only)'; exit 0; }
exec '$zig' cc -target aarch64-macos "\${@/#-march=armv8.2-a+dotprod/-mcpu=generic+v8_2a+dotprod}"
CC
chmod +x "$here/cc"
cat >"$here/cross.ini" <<INI
[binaries]
c = '$here/cc'
ar = ['$zig', 'ar']
pkgconfig = 'pkg-config'
[properties]
pkg_config_libdir = '$here/pc'
[built-in options]
c_args = ['-g0']
[host_machine]
system = 'darwin'
cpu_family = 'aarch64'
cpu = 'aarch64'
endian = 'little'
INI
if [[ ! -f $build/build.ninja ]]; then
    meson setup "$build" --cross-file "$here/cross.ini" --werror --buildtype=plain \
        -Dtests=disabled >"$here/setup.log" || { cat "$here/setup.log"; exit 1; }
fi
mapfile -t objects < <(ninja -C "$build" -t targets all | sed -n 's/^\(.*\.o\): c_COMPILER.*/\1/p' |
    grep -E '^(src|tools)/')
ninja -C "$build" -k 0 "${objects[@]}"
echo "macOS: ${#objects[@]} objects"
