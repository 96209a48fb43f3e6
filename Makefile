# `make` lists the targets. Their text is what stands behind the two number signs.
.DEFAULT_GOAL := help
.PHONY: help demo test test-compose soak bench secrets

help:
	@awk -F ':[^#]*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Install what is missing and show the reference scenario. ARGS="--once --json" for scripts
	@scripts/setup.sh demo
	@cargo run --locked --package c360 -- demo $(ARGS)

test: ## Install what is missing and check everything: format, lints, all tests, docs
	@scripts/setup.sh test
	@scripts/check.sh

# Needs root. Not part of `make test`: it builds every image.
test-compose: ## Bring docker-compose.yml up for real, without pulling images. SEED=7 KEEP=1
	@scripts/setup.sh compose
	@SEED='$(SEED)' KEEP='$(KEEP)' BINARY='$(BINARY)' scripts/test-compose.sh

# A seed of its own each time, which is printed first and with a failure.
soak: ## Let everything go wrong at random and compare with a model. SECONDS=1800 SEED=7
	@scripts/setup.sh test
	C360_SOAK_SECONDS='$(or $(SECONDS),1800)' C360_SOAK_SEED='$(or $(SEED),$(shell date +%s))' \
		cargo test --locked --workspace --test soak -- --nocapture

# What is set on the command line of make is in the environment of the benchmarks.
bench: ## Measure. NAME=kafka for one benchmark, ROWS=100000 RUNS=5 for another size
	@scripts/setup.sh test
	cargo bench --locked --workspace --bench '$(or $(NAME),*)'

secrets: ## Make the passwords and the installation key that docker-compose.yml hands out
	@scripts/secrets.sh
