# The project's commands. Build results stay outside the clone, so that a second clone builds quickly.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/understudy
export CARGO_TARGET_DIR ?= $(CACHE)/target
export UNDERSTUDY_BIN_DIR := $(CARGO_TARGET_DIR)/release

.PHONY: build test test-units test-behaviour lint setup setup-referee

build: setup
	cargo build --release --bins

test: setup-referee lint build test-units test-behaviour

# Fast checks of single rooms.
test-units:
	cargo test --workspace --lib --bins

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
