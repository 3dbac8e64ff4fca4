# The commands that people run. `make help` lists them.

.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

CACHE := $(or $(MCP_AUTH_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/mcp-auth-operator)
CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny

.PHONY: help demo test test-long test-auth0 crds lint unit fuzz stories bench-gate bench-operator

help: ## List the commands
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 12

demo: ## The main job on a real API server and a real Keycloak; ONCE=1 ends with a verdict instead of staying up
	@echo "==> building the operator, the gate and the demo (a few minutes the first time)"
	@cargo build -p mcp-auth-operator -p mcp-auth-gate -p mcp-auth-e2e --bins
	@cargo run --quiet -p mcp-auth-e2e --bin demo

test: ## Lint, unit tests, generated files, and the stories on real parts
	@began=$$SECONDS; $(MAKE) --no-print-directory lint unit stories; echo "==> everything passed, in $$((SECONDS - began)) s"

test-long: export LONG = 1
test-long: export PROPTEST_CASES = 4096
test-long: test ## The same at full length: longer outages and pauses, more objects, more random cases

test-auth0: ## What the table asks of Auth0, at a live tenant: that of AUTH0_DOMAIN, AUTH0_CLIENT_ID and AUTH0_CLIENT_SECRET
	@[[ -n "$${AUTH0_DOMAIN:-}" && -n "$${AUTH0_CLIENT_ID:-}" && -n "$${AUTH0_CLIENT_SECRET:-}" ]] || { \
	  echo "test-auth0 wants AUTH0_DOMAIN (as example.eu.auth0.com), AUTH0_CLIENT_ID and AUTH0_CLIENT_SECRET of an application as in docs/auth0.md, in a tenant for tests" >&2; exit 1; }
	AUTH0_LIVE=1 cargo test -p mcp-auth-e2e --test stories -- --test-threads 1

lint: $(CARGO_DENY) ## Format, clippy, and bans, licences and sources of dependencies
	@echo "==> lint"
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	$(CARGO_DENY) --log-level error check bans licenses sources

unit: ## Unit tests, and that the generated files are up to date
	@echo "==> unit tests"
	cargo test --quiet -p mcp-auth-crds -p mcp-auth-cli -p mcp-auth-operator
	cargo test --quiet -p mcp-auth-gate -p mcp-auth-gate-core -p mcp-auth-gate-fuzz
	cargo test --quiet -p mcp-auth-e2e --lib --bins

fuzz: ## Five minutes of random bodies and addresses: what a gate lets through must mean one thing to every reader; SEED=N repeats a run
	cargo run --quiet --release -p mcp-auth-gate-fuzz -- $(if $(SEED),--seed $(SEED))

stories: ## The stories on a real API server and a real Keycloak; SEED=N tries another sample of crashes
	@echo "==> stories"
	cargo build --quiet -p mcp-auth-operator -p mcp-auth-gate
	cargo test --quiet -p mcp-auth-e2e --test stories

bench-gate: ## What a gate costs: direct, through the gate, through Envoy with the same checks (about ten minutes); ONLY=memory takes seconds
	@echo "==> building the gate as it is shipped"
	cargo build --release -p mcp-auth-gate
	cargo build -p mcp-auth-e2e --bin bench-gate
	@MCP_AUTH_GATE_BIN=$(or $(CARGO_TARGET_DIR),target)/release/mcp-auth-gate $(or $(CARGO_TARGET_DIR),target)/debug/bench-gate

bench-operator: ## What the operator costs with 2,000 McpClients and 200 McpServers on a real API server and Keycloak (about half an hour); COUNT=100 is a try, LONG=1 makes 22,000 with a stub in place of Keycloak
	@echo "==> building the operator as it is shipped, and what measures it"
	cargo build --release -p mcp-auth-operator -p mcp-auth-e2e --bin mcp-auth-operator --bin bench-operator
	@$(or $(CARGO_TARGET_DIR),target)/release/bench-operator

crds: ## Generate crds/yaml from the types
	cargo run --quiet -p mcp-auth-crds --bin crdgen -- crds/yaml

# Kept beside the other tools, outside the checkout. The advisories check is left out: its database is not in a registry.
$(CARGO_DENY):
	@echo "==> installing cargo-deny $(CARGO_DENY_VERSION) into $(CACHE) (a few minutes, once)"
	@cargo install cargo-deny --version $(CARGO_DENY_VERSION) --locked --quiet --root $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION)
