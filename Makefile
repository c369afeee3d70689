# The project's commands. Build results stay outside the clone, so that a second clone builds quickly.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/understudy
export CARGO_TARGET_DIR ?= $(CACHE)/target
export UNDERSTUDY_BIN_DIR := $(CARGO_TARGET_DIR)/release

# Where the quick start's cluster lives.
export UNDERSTUDY_DIR ?= $(CURDIR)/.understudy

# Where the cluster of `make cluster` lives. The end-to-end tests have theirs in the cache; a machine has one at a time.
CLUSTER_DIR ?= $(CURDIR)/.understudy-cluster

# The container image, and where its OCI archive goes (for clusters without a registry).
IMAGE ?= understudy.local/understudy:0.1.0
IMAGE_ARCHIVE ?= $(CACHE)/image/understudy.tar

.PHONY: quickstart stop bench build test test-units test-behaviour check-kubernetes soak fuzz format-check lint setup setup-referee setup-cluster \
	cluster cluster-down test-cluster test-e2e e2e image image-test chart-test

# A primary and two standbys, load, SIGKILL of the primary, the takeover, the proof. Leaves the cluster running.
quickstart: build
	./tests/quickstart/quickstart.sh

# Ends what the quick start left running; its data stays.
stop:
	./tests/quickstart/stop.sh

build: setup
	cargo build --workspace --release --bins

# Everything; what runs on Kubernetes comes last. A machine that can't have the test cluster is told so before anything is
# built. KUBERNETES=no leaves that part out, and the last line says so.
ifeq ($(KUBERNETES),no)
test: setup-referee format-check lint test-units test-behaviour
	@echo "test: LEFT OUT (KUBERNETES=no): everything that is promised on Kubernetes; the rest has passed" >&2
else
test: export TWICE = 1
test: check-kubernetes setup-referee setup-cluster format-check lint test-units test-behaviour test-e2e
endif

check-kubernetes:
	@./scripts/e2e.sh check || { echo "test: \`make test KUBERNETES=no\` runs the rest, and says what it left out" >&2; exit 1; }

# Fast checks of single rooms.
test-units:
	./scripts/test-twice.sh units

# The programs as users meet them, with PostgreSQL 15 as referee; and the style of the tree. With debug assertions.
test-behaviour: export UNDERSTUDY_BIN_DIR := $(CARGO_TARGET_DIR)/debug
test-behaviour: setup-referee
	cargo build --workspace --bins
	./scripts/test-twice.sh behaviour

# The long form of the same tests but those on Kubernetes: more rounds, longer loads (UNDERSTUDY_SOAK is what they ask for),
# and the fuzz targets. The programs are optimised and have their assertions. FAULT=NAME and ROUNDS=N choose one fault
# (scripts/soak.sh has the names); a line for each run adds up in one file.
soak: export UNDERSTUDY_SOAK = 1
soak: export UNDERSTUDY_BIN_DIR := $(CARGO_TARGET_DIR)/soak
soak: setup setup-referee
	./scripts/soak.sh

# Every decoder of outside bytes, ten minutes each (FUZZ_SECONDS); a part of soak.
fuzz: build
	./scripts/fuzz.sh

# PostgreSQL 15 and Understudy in one run, as a table of ratios: make bench [ONLY=select,tpcb] [SHORT=1] [OUT=FILE].
bench: setup-referee build
	$(UNDERSTUDY_BIN_DIR)/bench --out $(or $(OUT),bench.md) $(if $(ONLY),--only $(ONLY)) $(if $(SHORT),--short)

# A real Kubernetes cluster on this machine, as root: make cluster [NODES=3]. The first time it builds Kubernetes.
cluster: setup-cluster build
	$(UNDERSTUDY_BIN_DIR)/cluster up --dir $(CLUSTER_DIR) --nodes $(or $(NODES),3)

# Takes it down, whatever state it is in, and leaves nothing behind. One of another folder, as the end-to-end tests leave it
# with KEEP=1: make cluster-down CLUSTER_DIR=FOLDER.
cluster-down:
	@[ -x $(UNDERSTUDY_BIN_DIR)/cluster ] || { echo "$(UNDERSTUDY_BIN_DIR)/cluster is missing; run \`make build\`" >&2; exit 1; }
	$(UNDERSTUDY_BIN_DIR)/cluster down --dir $(CLUSTER_DIR)

# The cluster's own behaviour: up, faults, down, and what an interrupted command leaves.
test-cluster: setup-cluster
	cargo test --workspace --test kubernetes_cluster -- --ignored --test-threads=1 --nocapture

# Understudy on such a cluster, each fault once and what else tells most, within 20 minutes: test-e2e, the last part of
# `make test`. Everything, with the cluster's own behaviour, more rounds, every variant, ten minutes of load, the Dockerfile's
# own build: e2e. A machine has one cluster: where one is up its own behaviour is left out, and that is said.
# FAULT=NAME, ROUNDS=N and TESTS="FILE ..." choose, KEEP=1 leaves the cluster up (scripts/e2e.sh says how); measurements add
# up in one file.
test-e2e: setup-referee setup-cluster
	./scripts/e2e.sh short

e2e: setup-referee
	./scripts/e2e.sh check
	./scripts/setup-cluster.sh dockerfile
	@if [ -n "$${FAULT:-}$${TESTS:-}" ]; then :; \
	elif [ -e /sys/class/net/understudy0 ]; then echo "e2e: LEFT OUT: make test-cluster; a cluster is up" >&2; \
	else $(MAKE) test-cluster; fi
	./scripts/e2e.sh long

# One image with both programs, built by buildah without any base image: make image [IMAGE=registry.example/understudy:0.1.0].
image: export IMAGE := $(IMAGE)
image: setup
	./scripts/image.sh $(IMAGE_ARCHIVE)

# What is in the image runs as promised: no library, no shell, no root, names looked up. As root, in namespaces.
image-test: image setup-referee
	UNDERSTUDY_IMAGE_ARCHIVE=$(IMAGE_ARCHIVE) cargo test --workspace --test image -- --include-ignored --test-threads=2

# The Helm chart: lint, what it renders to, what it refuses. UNDERSTUDY_WRITE_SNAPSHOTS=1 writes snapshots and deploy/.
chart-test:
	UNDERSTUDY_HELM=$$(./scripts/helm.sh $(CACHE)) cargo test --workspace --test chart -- --include-ignored

format-check:
	cargo fmt --all --check

lint:
	cargo clippy --workspace --all-targets

setup:
	./scripts/setup.sh clients

setup-referee:
	./scripts/setup.sh referee

setup-cluster:
	./scripts/setup-cluster.sh
