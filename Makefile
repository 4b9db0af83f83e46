# One line or one script per target; `make help` lists them.
JOBS ?= $(shell nproc)
export JOBS
MAKEFLAGS += --no-print-directory

.PHONY: help deps guest build run test sanitize bench selftests torture fuzz lint format clean

help:    ## list the targets
	@sed -n 's/^\([a-z]*\): .*## \(.*\)/  make \1\t\2/p; s/^\([a-z]*\):  *## \(.*\)/  make \1\t\2/p' Makefile | sort -u | expand -t 16

deps:    ## install the packages that are missing (apt, as root or through sudo)
	@scripts/install-deps

guest: deps    ## fetch the embedded default guest into the user's cache
	@guest/fetch

build: guest    ## build the release program: build/doppel
	@cmake --preset release --log-level=WARNING >/dev/null
	@cmake --build --preset release -j $(JOBS) --target doppel
	@ln -sfn release/doppel build/doppel

run: build    ## boot the default guest to a shell (ARGS='--memory 1G ...' for more)
	@build/doppel run $(ARGS)

test:    ## install, build and run every test; format and layers included
	@scripts/test

sanitize: deps guest    ## build with Clang, ASan and UBSan, and run the unit tests under them
	@cmake --preset asan-ubsan >/dev/null
	@cmake --build --preset asan-ubsan -j $(JOBS)
	@ctest --test-dir build/asan-ubsan -j $(JOBS) -LE boot --output-on-failure --no-tests=error

bench: build    ## measure, next to native and QEMU
	@bench/run $(ARGS)

selftests: build    ## run the kernel's selftests/x86 on the host and in a guest, and compare (140 MB of sources)
	@tests/guest/selftests_x86 build/doppel dbt interp

torture: build    ## run test programs of OpenSSL, zlib and glibc on the host and in a guest, and compare (40 MB of sources)
	@tests/guest/torture build/doppel dbt interp

fuzz: deps    ## run each libFuzzer target for FUZZ_SECONDS (60)
	@scripts/fuzz

lint: deps    ## clang-format, clang-tidy and the arrows between the rooms
	@scripts/lint

format: deps    ## lay every source out as .clang-format says
	@scripts/list-sources | xargs clang-format -i

clean:    ## remove everything that was built (the guest's cache stays)
	@rm -rf build
