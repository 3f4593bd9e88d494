# Meerkat's build. Every target installs or builds what it misses, and says so.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# What may be set on the command line: make test PACKAGES=./dataplane/plan/...
SCENARIO ?= test/scenarios/storefront/scenario.yaml
SCENARIOS ?=
CASES ?= default
CAPTURES ?= tcpdump wireshark ndpi
PACKAGES ?= ./...
TESTFLAGS ?=
FUZZTIME ?= 30s
BENCHFLAGS ?=
NODES ?= 2
VERSION ?= dev
IMAGES ?= meerkat-dev
E2EFLAGS ?=

# Tools are built from the exact versions of their go.mod, and carry the version in their name: a new version is a new file.
CONTROLLER_GEN := bin/controller-gen-$(shell awk '$$1 == "sigs.k8s.io/controller-tools" { print $$2 }' hack/tools/go.mod)
KUSTOMIZE := bin/kustomize-$(shell awk '$$1 == "sigs.k8s.io/kustomize/kustomize/v5" && $$2 ~ /^v/ { print $$2 }' hack/tools/kustomize/go.mod)
HELM := bin/helm-$(shell awk '$$1 == "helm.sh/helm/v3" { print $$2 }' hack/tools/helm/go.mod)
CRD_REF_DOCS := bin/crd-ref-docs-$(shell awk '$$1 == "github.com/elastic/crd-ref-docs" && $$2 ~ /^v/ { print $$2 }' hack/tools/crd-ref-docs/go.mod)
GOLANGCI_LINT := bin/golangci-lint-$(shell awk '$$1 == "github.com/golangci/golangci-lint/v2" { print $$2 }' hack/tools/golangci-lint/go.mod)

say = @printf '==> %s\n'

##@ Try it

.PHONY: help
help: ## List what can be made.
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: install-deps build ## Run the storefront lab: real Open vSwitch, real Suricata, no cluster (SCENARIO=...).
	$(say) 'running $(SCENARIO)'
	@bin/meerkat lab run $(SCENARIO)

##@ Change it

.PHONY: build
build: bin ## Build the programs into bin/.
	$(say) 'building the programs (minutes the first time, seconds later)'
	@go build -o bin/ ./cmd/...

.PHONY: generate
generate: manifests docs build-installer chart ## Regenerate everything that is generated: deep copies, kinds, roles, docs/api.md, dist/install.yaml.
	$(say) 'generating deep copies'
	@hack/generate.sh object $(CONTROLLER_GEN) api/v1alpha1

.PHONY: manifests
manifests: $(CONTROLLER_GEN) ## Regenerate the kinds from the API's types, and the manager's roles from its controllers.
	$(say) 'generating kinds and roles'
	@hack/generate.sh crd $(CONTROLLER_GEN) config/crd/bases
	@hack/generate.sh rbac $(CONTROLLER_GEN) config/rbac

.PHONY: docs
docs: $(CRD_REF_DOCS) ## Write docs/api.md, the reference of the API, from its types.
	$(say) 'writing docs/api.md'
	@hack/generate.sh docs $(CRD_REF_DOCS) docs

.PHONY: build-installer
build-installer: manifests $(KUSTOMIZE) ## Write dist/install.yaml, all that is installed in one file.
	$(say) 'writing dist/install.yaml'
	@mkdir -p dist
	@hack/generate.sh installer $(KUSTOMIZE) dist

.PHONY: chart
chart: manifests $(KUSTOMIZE) ## Write the parts of the Helm chart that come from config/.
	$(say) 'writing charts/meerkat'
	@hack/chart.sh $(KUSTOMIZE) charts/meerkat

.PHONY: krew
krew: ## Build the kubectl plugin's archives and its manifest for krew, into bin/krew (VERSION=v0.1.0).
	$(say) 'building the kubectl plugin'
	@hack/krew/release.sh $(if $(filter dev,$(VERSION)),$$(cat dist/VERSION),$(VERSION)) bin/krew

.PHONY: fmt
fmt: $(GOLANGCI_LINT) ## Format the code.
	@$(GOLANGCI_LINT) fmt

##@ Check it

.PHONY: test
test: install-deps vet check-generated ## Run the tests but those under load (PACKAGES=./dataplane/plan/... TESTFLAGS='-run Name').
	$(say) 'testing $(PACKAGES)'
	@hack/test.sh $(PACKAGES) -- $(TESTFLAGS)

.PHONY: test-load
test-load: install-deps ## Run the tests under load and under failure, and of agents' memory (ten minutes; leave the machine alone meanwhile).
	$(say) 'testing under load and under failure (about eight minutes)'
	@hack/test.sh ./test/load ./test/failure -- $(TESTFLAGS)
	$(say) 'measuring the memory of agents (about two minutes)'
	@hack/test.sh ./test/agent -- -run '^TestMemory(Signatures)?$$' $(TESTFLAGS)

.PHONY: conformance
conformance: install-deps ## Compare verdicts with NetworkPolicy's over cyclonus's cases (five minutes; CASES=all: twice as many).
	$(say) 'playing the cases of cyclonus (about five minutes)'
	@MEERKAT_CONFORMANCE=$(CASES) go test -count=1 -timeout 1h -v -run TestCases ./test/conformance

.PHONY: replay-corpus
replay-corpus: install-deps ## Compare meerkat replay with Suricata over a thousand captures (CAPTURES='tcpdump wireshark ndpi').
	$(say) 'comparing alerts over the captures of $(CAPTURES) (six minutes; downloads 180 MB)'
	@MEERKAT_REPLAY_CORPUS='$(CAPTURES)' go test -count=1 -timeout 4h -v -run TestSameAlerts ./test/replay

.PHONY: test-kernel
test-kernel: ## Play all scenarios on Open vSwitch's kernel datapath, in an emulated machine (SCENARIOS='storefront audit').
	$(say) 'playing scenarios on the kernel datapath, in an emulated machine (ten to twenty minutes)'
	@hack/kernel/test.sh $(SCENARIOS)

.PHONY: test-chart
test-chart: $(HELM) $(KUSTOMIZE) ## Compare the Helm chart with what kustomize installs, and lint it.
	$(say) 'testing charts/meerkat'
	@HELM=$(CURDIR)/$(HELM) KUSTOMIZE=$(CURDIR)/$(KUSTOMIZE) go test -count=1 ./charts/...

.PHONY: vet
vet:
	$(say) 'go vet $(PACKAGES) (the first time it compiles everything: some minutes)'
	@go vet $(PACKAGES)

.PHONY: check-generated
check-generated: $(CONTROLLER_GEN) $(KUSTOMIZE) $(CRD_REF_DOCS) ## Check that generated files are current.
	$(say) 'checking generated files'
	@hack/check-generated.sh $(CONTROLLER_GEN) $(KUSTOMIZE) $(CRD_REF_DOCS)

.PHONY: lint
lint: $(GOLANGCI_LINT) ## Lint Go code and shell scripts.
	$(say) 'checking shell scripts'
	@for script in hack/*.sh hack/kernel/*.sh hack/kube/*.sh hack/kernel/init hack/krew/*.sh .ci/run; do bash -n "$$script"; done
	$(say) 'golangci-lint run'
	@$(GOLANGCI_LINT) run $(PACKAGES)

.PHONY: fuzz
fuzz: ## Run each fuzz test for FUZZTIME (30s).
	@hack/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: ## Compare no policy, HAProxy, Suricata alone and Meerkat on real traffic, into docs/benchmarks.md (BENCHFLAGS='-rounds 9').
	$(say) 'installing what benchmarks need, where it is missing'
	@hack/install-deps.sh bench
	$(say) 'comparing no policy, HAProxy, Suricata alone and Meerkat (about four minutes)'
	@go run ./test/bench -page docs/benchmarks.md $(BENCHFLAGS)

.PHONY: bench-signatures
bench-signatures: ## Measure what 1,000 to 40,000 signatures cost: start, memory, reload, and traffic during one (needs root).
	$(say) 'installing what benchmarks need, where it is missing'
	@hack/install-deps.sh
	$(say) 'measuring signature engines (about half an hour; leave the machine alone meanwhile)'
	@MEERKAT_COST=1 go test ./dataplane/signatures/enginecheck -run 'TestCost|TestReload' -count=1 -v -timeout 60m

.PHONY: scale
scale: ## Measure the manager with 1,000 nodes, 5,000 Pods, 500 policies and 200 selectors, without containers.
	$(say) 'measuring the manager (about five minutes)'
	@MEERKAT_SCALE=full go test ./test/scale -count=1 -v -timeout 20m

##@ Run it in a cluster

.PHONY: images
images: ## Build the container images, without a container engine.
	@hack/install-deps.sh cluster
	@hack/images.sh

.PHONY: cluster-up
cluster-up: ## Start a real cluster on this machine, and print its KUBECONFIG (NODES=1).
	@hack/install-deps.sh cluster
	@go run ./hack/cluster up -nodes $(NODES)

.PHONY: cluster-down
cluster-down: ## Stop the cluster, and remove all that it left.
	@go run ./hack/cluster down

.PHONY: e2e
e2e: ## Install Meerkat into a real cluster of this machine, test it and remove it (E2EFLAGS='-run TestMeerkat/Install').
	@hack/e2e.sh $(E2EFLAGS)

.PHONY: e2e-failure
e2e-failure: ## Kill each part ten times under load in a real cluster, and print what that costs (six minutes; leave the machine alone).
	@MEERKAT_E2E_FAILURES=1 hack/e2e.sh -run '^TestFailures$$' $(E2EFLAGS)

.PHONY: install
install: $(KUSTOMIZE) ## Install the kinds into the cluster of the kubeconfig, without a manager.
	@hack/deploy.sh install $(KUSTOMIZE)

.PHONY: uninstall
uninstall: $(KUSTOMIZE) ## Remove the kinds, with all objects of them.
	@hack/deploy.sh uninstall $(KUSTOMIZE)

.PHONY: deploy
deploy: $(KUSTOMIZE) ## Install Meerkat into the cluster of the kubeconfig (VERSION=v0.1.0 IMAGES=registry.example/meerkat).
	@IMAGES=$(IMAGES) hack/deploy.sh deploy $(KUSTOMIZE) $(VERSION)

.PHONY: undeploy
undeploy: $(KUSTOMIZE) ## Put every node back as it was found, and remove Meerkat from the cluster.
	@IMAGES=$(IMAGES) hack/deploy.sh undeploy $(KUSTOMIZE) $(VERSION)

##@ Keep house

.PHONY: install-deps
install-deps: ## Install Open vSwitch, Suricata 8 and the probes' tools, where they are missing (needs root).
	@hack/install-deps.sh

.PHONY: clean
clean: ## Remove what was built.
	rm -rf bin

bin:
	@mkdir -p bin

$(CONTROLLER_GEN): hack/tools/go.mod hack/tools/go.sum | bin
	$(say) 'building $@ (half a minute the first time)'
	@rm -f bin/controller-gen*
	@cd hack/tools && go build -o $(CURDIR)/$@ sigs.k8s.io/controller-tools/cmd/controller-gen

$(KUSTOMIZE): hack/tools/kustomize/go.mod hack/tools/kustomize/go.sum | bin
	$(say) 'building $@ (half a minute the first time)'
	@rm -f bin/kustomize*
	@cd hack/tools/kustomize && go build -o $(CURDIR)/$@ sigs.k8s.io/kustomize/kustomize/v5

$(HELM): hack/tools/helm/go.mod hack/tools/helm/go.sum | bin
	$(say) 'building $@ (some minutes the first time)'
	@rm -f bin/helm*
	@cd hack/tools/helm && go build -o $(CURDIR)/$@ helm.sh/helm/v3/cmd/helm

$(CRD_REF_DOCS): hack/tools/crd-ref-docs/go.mod hack/tools/crd-ref-docs/go.sum | bin
	$(say) 'building $@ (half a minute the first time)'
	@rm -f bin/crd-ref-docs*
	@cd hack/tools/crd-ref-docs && go build -o $(CURDIR)/$@ github.com/elastic/crd-ref-docs

$(GOLANGCI_LINT): hack/tools/golangci-lint/go.mod hack/tools/golangci-lint/go.sum | bin
	$(say) 'building $@ (some minutes the first time)'
	@rm -f bin/golangci-lint*
	@cd hack/tools/golangci-lint && go build -o $(CURDIR)/$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
