# SPDX-License-Identifier: MIT
# What can be done here. `python3` may be anything on a developer's machine, so Debian's own is named.
PYTHON ?= /usr/bin/python3
PYXC_CACHE ?= $(HOME)/.cache/pyxc
export PYXC_CACHE
# pip fails where it cannot make its own directory.
export PIP_CACHE_DIR ?= $(PYXC_CACHE)/pip
# Any tox from 3.28 on, e.g. make test TOX=tox
TOX ?= $(PYTHON) -m tox
# More arguments for the program behind a target, e.g. make lab ARGS='--xen 4.20 -k gate'
ARGS ?=

# Environments of tox that look for harm; arguments are for the first.
FUZZING = fuzz,faults

BUILD_PACKAGES = cython3 gcc libc6-dev python3-dev python3-pyxattr python3-setuptools
TEST_PACKAGES = $(BUILD_PACKAGES) fish gdb git mandoc python3-hypothesis python3-pip python3-pyte \
	python3-pytest python3-pytest-xdist python3-venv tox zsh
# tox itself notices changed requirements; other checkouts of the same recipe use what is installed already.
TOX_DIRECTORY = $(PYXC_CACHE)/tox-$(shell cat tox.ini pyproject.toml | sha256sum | cut -c1-12)

.PHONY: help demo test fuzz lab hosts foreign fresh docs bench deb wheels test-trixie clean

help:  ## This list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo:  ## A tour on simulated hypervisors
	@tools/need $(BUILD_PACKAGES)
	@$(PYTHON) -W ignore setup.py --quiet build_ext --inplace
	@$(PYTHON) -m pyxc demo $(ARGS)

test:  ## All that needs no Xen: tests with old and current tools, coverage, lint, types
	@tools/need $(TEST_PACKAGES)
	@mkdir -p $(TOX_DIRECTORY)
	flock $(TOX_DIRECTORY) $(PYTHON) -m lab.programs $(TOX) --workdir $(TOX_DIRECTORY) $(ARGS)

fuzz:  ## Look for bytes that do harm to a decoder, and for faults that do; e.g. ARGS='--seconds 60 xenstored'
	@tools/need $(TEST_PACKAGES)
	@mkdir -p $(TOX_DIRECTORY)
	flock $(TOX_DIRECTORY) $(TOX) --workdir $(TOX_DIRECTORY) -e $(if $(ARGS),fuzz,$(FUZZING)) -- $(ARGS)

lab:  ## Real Xen in QEMU: tests/real in every dom0
	$(PYTHON) -m lab $(ARGS)

hosts:  ## Real Xens side by side: guests that move by ssh, Ansible, Prometheus, debuggers; each takes 3 GiB
	@tools/need $(BUILD_PACKAGES)
	@$(PYTHON) -W ignore setup.py --quiet build_ext --inplace
	$(PYTHON) -m lab.hosts $(ARGS)

foreign:  ## Real 32-bit Pythons, PowerPC's too: all that needs no Xen, and the bytes that they send
	$(PYTHON) -m lab.foreign $(ARGS)

fresh:  ## What README promises, in a Debian 12 root that has nothing else; only root can
	$(PYTHON) -m lab.fresh $(ARGS)

docs:  ## The pages in docs/ as a site, in build/site/html
	@tools/need $(BUILD_PACKAGES) mandoc python3-pip python3-venv tox
	@mkdir -p $(TOX_DIRECTORY)
	@flock $(TOX_DIRECTORY) $(TOX) -q --workdir $(TOX_DIRECTORY) -e docs -- build/site
	@echo build/site/html/index.html

bench:  ## processes, calls in instructions, pyxc beside its peers on one real Xen, simulated hosts
	@tools/need $(BUILD_PACKAGES)
	@$(PYTHON) -W ignore setup.py --quiet build_ext --inplace
	$(PYTHON) -m bench $(ARGS)

deb:  ## Debian packages for i386 and amd64, tested in a root each, and by cross compilers for armhf and arm64
	PYTHONPATH=. $(PYTHON) tools/build_deb.py bookworm i386 build/deb
	PYTHONPATH=. $(PYTHON) tools/build_deb.py bookworm amd64 build/deb
	PYTHONPATH=. $(PYTHON) tools/build_deb.py bookworm armhf build/deb
	PYTHONPATH=. $(PYTHON) tools/build_deb.py bookworm arm64 build/deb

wheels:  ## Wheels for x86_64 and i686, and for musl on x86_64, each run where nothing else is; only root can
	$(PYTHON) -m lab.fresh --userland amd64 'tools/build_wheel build'
	mkdir -p build/wheels
	mv build/fresh/*.whl build/wheels
	$(PYTHON) -m lab.fresh --userland i386 'tools/build_wheel build'
	mv build/fresh/*.whl build/wheels
	tools/build_musl_wheel build/wheels

test-trixie:  ## The same in a Debian 13 root: Python 3.13, Cython 3
	PYTHONPATH=. $(PYTHON) tools/build_deb.py trixie amd64 build/deb-trixie

clean:  ## Remove what was built here; caches stay in $PYXC_CACHE
	rm -rf build dist pyxc.egg-info pyxc/_core.c pyxc/_core.*.so .coverage \
		.hypothesis .mypy_cache .pytest_cache .ruff_cache .tox
	find . -name __pycache__ -not -path './.git/*' -exec rm -rf {} +
