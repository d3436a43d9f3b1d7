# What one can do here; each line is a whole job. `make test` sets up what it needs by itself.
PYTHON ?= python3
VENV := .venv/bin

.PHONY: demo pyz test lint bench generated trial-hubs trial-push prepare test-aarch64 test-musl trial-systemd trial-containers clean

demo: pyz            ## a hub and six simulated nodes on loopback; Ctrl-C ends all
	dist/gpuwatch.pyz demo

pyz: dist/gpuwatch.pyz   ## build the one file

dist/gpuwatch.pyz: build_zipapp.py requirements.lock requirements-build.lock $(shell find src systemd -type f -not -name '*.pyc')
	$(PYTHON) build_zipapp.py

prepare:             ## virtual environment and system packages for tests; says what is missing
	$(PYTHON) scripts/prepare_tests.py

test: prepare pyz    ## every test
	$(VENV)/python -m pytest -n 2 --dist loadgroup

lint: prepare        ## ruff and mypy
	$(VENV)/ruff check .
	$(VENV)/mypy

bench: prepare pyz   ## the benches; each prints its ratio
	$(VENV)/python bench/startup.py
	$(VENV)/python bench/node_sample.py
	$(VENV)/python bench/hub_poll.py
	$(VENV)/python bench/pages.py
	$(VENV)/python bench/wire.py
	$(VENV)/python bench/store_pack.py

trial-push: prepare  ## a node that pushes and one that is polled through a killed hub and a cut network, 5 minutes each: what is missing; 13 minutes
	$(VENV)/python scripts/trial_push.py

trial-hubs: prepare  ## three hubs, 300 nodes, one killed, one cut off: gaps and duplicates in the store; 5 minutes
	$(VENV)/python scripts/trial_hubs.py

generated:           ## write what is made from tables in the code
	$(VENV)/python scripts/generate.py

test-aarch64: pyz    ## the file on an emulated Debian of the other architecture; needs root, not part of CI
	scripts/test_aarch64.sh

test-musl: pyz       ## the file on a CPython linked with musl, built from Debian's sources at first; not part of CI
	scripts/test_musl.sh

trial-systemd: pyz   ## README's "As a service" under a real systemd, in a machine made by debootstrap; needs root, not part of CI
	scripts/trial_systemd.sh

trial-containers: prepare pyz  ## the image, a node and a hub in containers, without a registry; needs root, not part of CI
	$(VENV)/python scripts/trial_containers.py

clean:
	rm -rf build dist
