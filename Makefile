# The facade: Meson and ninja do the work, tools/ the rest; this file only calls them.
BUILD ?= build
SECONDS_EACH ?= 10
PYTHON ?= python3
export PYTHON

.PHONY: all demo test test-unit test-long lint format asan asan-unit asan-long tsan clang fuzz bench macos install deps clean
all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@tools/deps.sh
	meson setup $(BUILD) -Dtests=disabled

deps:
	tools/deps.sh

# Three devices on this machine answer one question.
demo: all
	@tools/demo.sh $(BUILD)

# Every test that needs no GPU and no second machine; warnings are errors here.
test: build-test/build.ninja
	@tools/run_tests.py build-test

test-unit: build-test/build.ninja
	@tools/run_tests.py build-test --suite unit --suite fuzz

test-long: build-test/build.ninja
	@tools/run_tests.py build-test --suite unit --suite simulation --suite fuzz \
	  --suite golden --suite e2e --suite long

build-test/build.ninja:
	@tools/deps.sh test
	meson setup build-test --werror -Dtests=enabled

# gcc warns of things that can't be where sanitizers' checks stand between: no errors here.
asan: build-asan/build.ninja
	@tools/run_tests.py build-asan --suite unit --suite simulation --suite fuzz --suite golden \
	  --suite e2e

# What fits into every change's checks; and what asan leaves out.
asan-unit: build-asan/build.ninja
	@tools/run_tests.py build-asan --suite unit --suite fuzz

asan-long: build-asan/build.ninja
	@tools/run_tests.py build-asan --suite long

# gcc's own warnings misfire on instrumented code, so they are errors only in build-test.
build-asan/build.ninja:
	@tools/deps.sh
	meson setup build-asan -Dtests=enabled -Db_sanitize=address,undefined

tsan: build-tsan/build.ninja
	@tools/run_tests.py build-tsan --suite unit --suite simulation --suite threads

build-tsan/build.ninja:
	@tools/deps.sh
	meson setup build-tsan -Dtests=enabled -Db_sanitize=thread

# The other compiler: no warning, and the same bits.
clang: build-clang/build.ninja
	@tools/run_tests.py build-clang --suite unit --suite fuzz

build-clang/build.ninja:
	@tools/deps.sh test
	CC=clang meson setup build-clang --werror -Dtests=enabled

fuzz: build-fuzz/build.ninja
	tools/fuzz.sh build-fuzz $(SECONDS_EACH)

build-fuzz/build.ninja:
	@tools/deps.sh fuzz
	CC=clang meson setup build-fuzz -Dtests=enabled -Dfuzzers=true -Db_lundef=false \
	  -Db_sanitize=address,undefined

bench: all
	@tools/bench.sh $(BUILD)

macos:
	@tools/deps.sh test
	@tools/macos.sh

lint:
	@tools/lint.py --self-test
	@tools/lint.py

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

install: all
	meson install -C $(BUILD)

clean:
	rm -rf build build-test build-asan build-tsan build-clang build-fuzz build-macos build-macos-parts
