# The facade: Meson and ninja do the work; this file only calls them.
BUILD ?= build

.PHONY: all test
all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	meson setup $(BUILD)

test: all
	meson test -C $(BUILD) --print-errorlogs
