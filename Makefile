# The project's commands. Build results stay outside the clone, so that a second clone builds quickly.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/understudy
export CARGO_TARGET_DIR ?= $(CACHE)/target
export UNDERSTUDY_BIN_DIR := $(CARGO_TARGET_DIR)/release

.PHONY: build test test-units test-behaviour lint quickstart stop setup setup-referee

build: setup
	cargo build --release --bins

test: setup-referee lint build test-units test-behaviour

# A primary and two standbys as local processes; the primary is killed under load. `make stop` ends the cluster.
quickstart: build
	./tests/quickstart/quickstart.sh

stop:
	$(UNDERSTUDY_BIN_DIR)/understudy-operator local down --dir $(or $(UNDERSTUDY_DIR),.understudy) --purge

# Fast checks of single rooms.
test-units:
	cargo test --workspace --lib --bins
	cargo build -p operator --examples
	cargo test -p operator --tests

# The programs as users meet them, with PostgreSQL 15 as referee.
test-behaviour: build
	cargo test -p understudy-tests --tests

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings

setup:
	./scripts/setup.sh clients

setup-referee:
	./scripts/setup.sh referee
