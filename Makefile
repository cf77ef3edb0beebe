# SPDX-License-Identifier: GPL-2.0-only
# What people run.  What kbuild builds is in Kbuild.

# Kernels to work with: one, several, or all of tests/kernels
KERNEL ?=
kernels := $(or $(KERNEL),$(shell sed 's/#.*//; s/ .*//' tests/kernels))
one_kernel = $(firstword $(kernels))
newest := $(lastword $(shell sed 's/#.*//; s/ .*//' tests/kernels))
named_or_newest = $(firstword $(KERNEL) $(newest))
export KERNEL

# as kbuild knows them: V=1 shows commands, W=2 more warnings
flags := $(if $(V),V=$(V)) $(if $(W),W=$(W))

running := /lib/modules/$(shell uname -r)/build
cache := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/rmapviz

# make test TESTS=tests/test_scenes.py K=mremap JOBS=1
TESTS ?=
K ?=
JOBS ?= $(shell nproc)
# the distribution's, whatever is first in PATH
pytest := PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -m pytest

sources = $(filter-out %.mod.c,$(wildcard *.c *.h))
version := $(shell sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' dkms.conf)
dkms_source = $(DESTDIR)/usr/src/rmapviz-$(version)
documents = README.md CHANGELOG.md CONTRIBUTING.md $(wildcard docs/*)
tools = $(wildcard tools/*.py tools/rmapviz_lib/*.* tools/man/* \
	tools/completion/*) tools/rmapviz
# take every version of it from DKMS, also one that it has half
dkms_remove = \
	for v in $$(dkms status -m rmapviz | \
		sed -n 's|^rmapviz[/,] *\([^,: ]*\).*|\1|p' | sort -u); do \
			dkms remove rmapviz/$$v --all; done; \
	rm -rf /var/lib/dkms/rmapviz /usr/src/rmapviz-[0-9]*
need_dkms = \
	$(if $(filter-out 0,$(shell id -u)),$(error must be root: sudo make $1)) \
	$(if $(shell command -v dkms),,$(error dkms is missing: apt-get install dkms)) \
	$(if $(wildcard /var/lib/dpkg/info/rmapviz-dkms.list),$(error \
		it was installed by apt: first apt-get purge rmapviz-dkms))

.DEFAULT_GOAL := module
.PHONY: dkms-install dkms-steps dkms-uninstall dkms-source deb
.PHONY: module shell demo picture test tested harm fuzz misuse
.PHONY: test-debug test-races test-flavours coverage bench check history-docs
.PHONY: clean clean-cache help

module: ## build for the running kernel, or: make KERNEL=6.1
ifeq ($(KERNEL),)
	$(if $(wildcard $(running)),,$(error no headers of the running kernel: apt-get install linux-headers-$(shell uname -r)))
	$(MAKE) -C $(running) M=$(CURDIR) modules
else
	@tests/vm/deps run
	@set -e; for k in $(kernels); do tests/vm/build $$k $(flags); done
endif

shell: prepare-$(one_kernel) ## a guest with the module, on this terminal: make shell KERNEL=7.3 ROOT=debian
	@tests/vm/shell $(one_kernel) $(ROOT)

demo: prepare-$(named_or_newest) ## see what the module shows, in a guest; STEP=1: step by step; HTML=story.html: as a page
	@tests/demo $(if $(STEP),--step) $(if $(HTML),--html $(HTML)) $(named_or_newest)

picture: ## draw docs/building.svg anew, which the README shows
	tools/rmapviz draw --svg tests/data/pictures/branch.json \
		--output docs/building.svg

# Tests build what they need; all of them need everything, so say how it goes.
test: need-test $(if $(TESTS)$(K),,$(kernels:%=prepare-%)) ## everything, or: make test KERNEL=7.3 TESTS=tests/test_scenes.py K=mremap
	@$(pytest) $(or $(TESTS),tests) $(if $(K),-k '$(K)') \
		$(if $(filter-out 1,$(JOBS)),--numprocesses $(JOBS) --dist loadgroup)

tested: ## all tests, and docs/tested.md says what came out
	$(if $(TESTS)$(K),$(error tested is for all tests: no TESTS, no K))
	@TESTED=1 $(MAKE) --no-print-directory test

harm: ## what harm a question can do, at the size at which it was once seen
	@HARM=1 $(MAKE) --no-print-directory test TESTS=tests/test_harm.py

# Each of its programs takes that long.
fuzz: ## the parser and names in reports before a fuzzer, or: make fuzz SECONDS=3600
	@FUZZ_SECONDS=$(or $(SECONDS),600) $(MAKE) --no-print-directory test \
		TESTS=tests/test_fuzz.py

misuse: ## a million things done with the files, or: make misuse KERNEL=7.3 CASES=5000
	@MISUSE_CASES=$(or $(CASES),1000000) $(MAKE) --no-print-directory test \
		TESTS=tests/test_misuse.py

# All that there is a configuration for, unless KERNEL names some.
debug_kernels = $(or $(KERNEL),$(patsubst tests/vm/debug-%.config,%,\
	$(wildcard tests/vm/debug-*.config)))

# What is done without a kernel is not done again.
space := $() $()
test-debug: $(debug_kernels:%=prepare-%-debug) ## all of a kernel's tests with one that has KASAN, lockdep and the like, or: make test-debug KERNEL=7.3
	@$(MAKE) --no-print-directory test KERNEL='$(debug_kernels:%=%-debug)' \
		K='$(if $(K),($(K)) and )($(subst $(space), or ,$(strip \
		$(debug_kernels:%=%-debug))))'

race_kernels = $(addsuffix -kcsan,$(or $(KERNEL),$(newest)))

test-races: $(addprefix prepare-,$(race_kernels)) ## a storm with a kernel that looks for data races (KCSAN), or: make test-races KERNEL=6.1
	@$(MAKE) --no-print-directory test KERNEL='$(race_kernels)' \
		TESTS=tests/test_storm.py

flavours = $(or $(KERNEL),$(kernels:%=%-generic) 6.1-rt 6.12-rt 7.3-rt)

test-flavours: ## pages, families and a storm with Debian's generic and rt kernels, or: make test-flavours KERNEL=7.3-rt
	@$(MAKE) --no-print-directory test KERNEL='$(flavours)' \
		TESTS='$(addprefix tests/test_,scenes.py kinds.py storm.py)'

# What fails is shown, and what ran counts all the same.
coverage: ## which code of the module the tests run, and which not, or: make coverage KERNEL=6.1
	@rm -rf build/$(named_or_newest)/coverage
	@COVERAGE=1 $(MAKE) --no-print-directory test K='$(named_or_newest)' \
		KERNEL=$(named_or_newest) || status=$$?; \
		tests/coverage $(named_or_newest) >build/coverage.txt && \
		sed '/^$$/,$$d' build/coverage.txt && \
		echo 'what did not run: build/coverage.txt'; exit $$status

# The two kernels that are documented; make bench KERNEL=6.12 shows others.
bench_kernels = $(or $(KERNEL),6.1 7.3)

bench: need-run ## what questions cost and others wait, in instructions: docs/performance.md, docs/others.md; SIZE=1000x1000: each era's experiment
	@mkdir -p build
	@set -e; for k in $(bench_kernels); do tests/vm/build $$k; \
		tests/vm/initramfs $$k; done
	@tests/bench/eras $(if $(SIZE),--size $(SIZE)) --json build/eras.json \
		$(lastword $(bench_kernels))
	@$(if $(SIZE),:,tests/bench/others --json build/others.json \
		$(if $(KERNEL),,--document docs/others.md) $(bench_kernels))
	@$(if $(SIZE),:,tests/bench/run --json build/bench.json \
		$(if $(KERNEL),,--document docs/performance.md) $(bench_kernels))

history-docs: prepare-$(newest) ## play what docs/history.md shows again, and write down what has changed
	@tests/history-docs $(newest)

check: need-check ## style checks
	@tests/check-style

need-%:
	@tests/vm/deps $*

prepare-%: need-run
	@tests/vm/build $* $(flags)
	@tests/vm/initramfs $*

# The log of a build that failed is shown, since it does not stay either.
dkms-install: ## build and install it on this system by DKMS, for later kernels too
	$(call need_dkms,$@)
	@$(MAKE) --no-print-directory dkms-uninstall
	@trap : HUP INT TERM; \
	$(MAKE) --no-print-directory dkms-steps || { status=$$?; \
		cat /var/lib/dkms/rmapviz/$(version)/build/make.log 2>/dev/null; \
		$(dkms_remove); exit $$status; } >&2

# DKMS 3.0 does not notice a copy that fails, so modinfo is asked in the end.
dkms-steps: dkms-source ## add, build and install it, as part of dkms-install
	dkms add rmapviz/$(version)
	dkms build rmapviz/$(version)
	dkms install rmapviz/$(version)
	modinfo -k "$$(uname -r)" -n rmapviz

dkms-uninstall: ## undo dkms-install
	$(call need_dkms,$@)
	@set -e; $(dkms_remove)

dkms-source: ## copy what DKMS needs to $DESTDIR/usr/src
	rm -rf $(dkms_source)
	install -d $(dkms_source)
	install -m 644 dkms.conf Kbuild LICENSE $(sources) $(dkms_source)

# In a copy, because dpkg-buildpackage writes to the directory above.
deb: need-deb ## build build/rmapviz-dkms_VERSION_all.deb and rmapviz_..., to be installed by apt
	@rm -rf build/deb build/rmapviz*_*.deb
	@mkdir -p build/deb/rmapviz
	@cp -r --parents debian dkms.conf Kbuild LICENSE Makefile $(documents) \
		$(tools) tests/kernels $(sources) build/deb/rmapviz
	@cd build/deb/rmapviz && dpkg-buildpackage --build=binary --no-sign \
		--no-check-builddeps >../build.log 2>&1 || { cat ../build.log; exit 1; }
	@mv build/deb/rmapviz*_$(version)_all.deb build/
	@echo "deb: build/rmapviz-dkms_$(version)_all.deb" \
		"build/rmapviz_$(version)_all.deb"

clean: ## remove what was built
	rm -rf build .tmp_versions
	rm -f *.o *.ko *.mod *.mod.c .*.cmd .*.o.d Module.symvers modules.order

clean-cache: ## remove the roots and kernels in the cache
	@du -sh $(cache) 2>/dev/null || echo 'the cache is empty'
	rm -rf $(cache)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 20
