#!/usr/bin/env bash
# Checks what the build needs and installs what is missing.
#
#   deps.sh [test | fuzz]
#
# Debian and Ubuntu: through apt-get, as root or by sudo without a password. Elsewhere it names
# the packages. With everything there it takes a few milliseconds and prints nothing.
# SHOAL_NO_INSTALL=1 only reports. With "test" also what some tests want (about 100 MB: the other
# compiler, and one for NEON with an emulator); where that can't be had those tests are skipped.
# With "fuzz" what libFuzzer needs.
set -euo pipefail

# what | Debian, Ubuntu | Fedora | Arch | Homebrew
# A name with "pc:" is a pkg-config module, one with "clang:" a library of clang's, any other one a
# command.
table='
cc                 | gcc                 | gcc               | gcc         | llvm
meson              | meson               | meson             | meson       | meson
ninja              | ninja-build         | ninja-build       | ninja       | ninja
pkg-config         | pkg-config          | pkgconf           | pkgconf     | pkgconf
python3            | python3             | python3           | python      | python
curl               | curl                | curl              | curl        | curl
pc:libevent >= 2.1 | libevent-dev        | libevent-devel    | libevent    | libevent
pc:openssl >= 3.0 | libssl-dev          | openssl-devel     | openssl     | openssl@3
pc:libcurl >= 7.75 | libcurl4-openssl-dev | libcurl-devel    | curl        | curl
pc:jansson >= 2.13 | libjansson-dev      | jansson-devel     | jansson     | jansson
pc:libpcre2-8 >= 10.32 | libpcre2-dev      | pcre2-devel       | pcre2       | pcre2
pc:libedit         | libedit-dev         | libedit-devel     | libedit     | libedit
pc:libutf8proc     | libutf8proc-dev     | utf8proc-devel    | libutf8proc | utf8proc
pc:cmocka >= 1.1 | libcmocka-dev       | libcmocka-devel   | cmocka      | cmocka
'
test_table='
clang | clang | clang | clang | llvm
'
if [[ $(uname -m) == x86_64 ]]; then
    # Fedora and Homebrew have a cross compiler without a C library for it, which is of no use.
    test_table+='
qemu-aarch64          | qemu-user                                   | qemu-user | qemu-user             |
aarch64-linux-gnu-gcc | gcc-aarch64-linux-gnu libc6-dev-arm64-cross |           | aarch64-linux-gnu-gcc |
'
fi
fuzz_table='
clang                    | clang           | clang       | clang       | llvm
llvm-symbolizer          | llvm            | llvm        | llvm        | llvm
clang:libclang_rt.fuzzer | libclang-rt-dev | compiler-rt | compiler-rt | llvm
'

trim() {
    local text=$1
    text=${text#"${text%%[! ]*}"}
    printf -v "$2" '%s' "${text%"${text##*[! ]}"}"
}

# Whether clang knows where one of its libraries is: it prints a path then, else the name.
clang_has() {
    local name
    for name in "$1-$(uname -m).a" "$1.a"; do
        if [[ $(clang -print-file-name="$name" 2>/dev/null) == /* ]]; then return 0; fi
    done
    return 1
}

missing=() debian=() fedora=() arch=() brew=()
# check TABLE: fills the lists.
check() {
    local table=$1
    missing=() debian=() fedora=() arch=() brew=()
    local what d f a b modules=()
    # One call of pkg-config for all modules: the answer is nearly always yes.
    if command -v pkg-config >/dev/null; then
        while IFS='|' read -r what _; do
            trim "$what" what
            [[ $what == pc:* ]] && modules+=("${what#pc:}")
        done <<<"$table"
    fi
    local all=0
    if ((${#modules[@]})) && pkg-config --exists "${modules[@]}" 2>/dev/null; then all=1; fi
    while IFS='|' read -r what d f a b; do
        trim "$what" what
        [[ -n $what ]] || continue
        case $what in
        pc:*) ((all)) && continue
              command -v pkg-config >/dev/null && pkg-config --exists "${what#pc:}" 2>/dev/null && continue ;;
        clang:*) clang_has "${what#clang:}" && continue ;;
        cc) command -v cc >/dev/null || command -v "${CC:-cc}" >/dev/null && continue ;;
        *) command -v "$what" >/dev/null && continue ;;
        esac
        trim "$d" d; trim "$f" f; trim "$a" a; trim "$b" b
        missing+=("${what#pc:}") debian+=("$d") fedora+=("$f") arch+=("$a") brew+=("$b")
    done <<<"$table"
}

root=()
if ((EUID != 0)); then root=(sudo -n); fi
can_install() {
    [[ -z ${SHOAL_NO_INSTALL:-} ]] && command -v apt-get >/dev/null &&
        { ((EUID == 0)) || sudo -n true 2>/dev/null; }
}
apt_install() {
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends "$@" >/dev/null
}

# Leaves out of packages what this release doesn't have: in Ubuntu 22.04 clang's libraries are in
# clang's own package.
keep_known() {
    local package all=("${packages[@]}")
    packages=()
    for package in "${all[@]}"; do
        if apt-cache show "$package" >/dev/null 2>&1; then packages+=("$package"); fi
    done
}

# obtain TABLE PACKAGE...: installs what is missing, and with it these; false if something stays so.
obtain() {
    local table=$1 packages=()
    shift
    check "$table"
    ((${#missing[@]} == 0)) && return 0
    echo "missing: ${missing[*]}"
    can_install || return 1
    read -ra packages <<<"${debian[*]} $*"
    echo "installing: ${packages[*]}"
    # The package lists of a fresh container are empty, those of an old one point to nothing.
    apt_install "${packages[@]}" 2>/dev/null ||
        { "${root[@]}" apt-get update -q >/dev/null && keep_known && apt_install "${packages[@]}"; } ||
        true
    check "$table"
    ((${#missing[@]} == 0)) && return 0
    echo "could not be installed: ${missing[*]}" >&2
    return 1
}

# libc6-dev comes with gcc only as a recommendation; python3-venv is for the test clients.
if obtain "$table" libc6-dev python3-venv; then
    # After the compiler of the build: Debian's clang would become cc where there is no other.
    if [[ ${1:-} == test ]] && ! obtain "$test_table"; then
        echo "tests that need ${missing[*]} are skipped" >&2
    fi
    if [[ ${1:-} != fuzz ]] || obtain "$fuzz_table"; then exit 0; fi
fi
cat >&2 <<TEXT
Install these and run make again:
  Debian, Ubuntu  sudo apt-get install ${debian[*]}
  Fedora          sudo dnf install ${fedora[*]}
  Arch            sudo pacman -S ${arch[*]}
  Homebrew        brew install ${brew[*]}
TEXT
exit 1
