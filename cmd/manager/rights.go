package main

// What the manager may do, beside what its controllers say of themselves. make manifests turns it into config/rbac/role.yaml; a test
// finds what is granted and not used.

// Everything that is cached: what plans are made of. Package webhook judges a policy together with what exists, package l7policy
// tells what is wrong with those that exist, and package addressslice resolves their peers.
// +kubebuilder:rbac:groups="",resources=namespaces;nodes;pods;services,verbs=list;watch
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=list;watch
// +kubebuilder:rbac:groups=inspection.meerkat.dev,resources=addressslices;engines;l7policies;nodeinspections,verbs=list;watch

// What packages addressslice and l7policy write.
// +kubebuilder:rbac:groups=inspection.meerkat.dev,resources=addressslices,verbs=create;update;delete
// +kubebuilder:rbac:groups=inspection.meerkat.dev,resources=l7policies/status,verbs=patch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Who asks for metrics, and whether they may.
// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create

// The lease of the manager that leads, and events about who does, which are of the older kind.
// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,verbs=create,namespace=meerkat-system
// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,resourceNames=meerkat-manager,verbs=get;update,namespace=meerkat-system
// +kubebuilder:rbac:groups="",resources=events,verbs=create;patch,namespace=meerkat-system
