// Package convert turns policies of other systems into L7Policies: Cilium's (CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy) and
// Antrea's (NetworkPolicy, ClusterNetworkPolicy). It is pure: what it reads comes as text, and what it has to say goes into notes.
//
// Where an L7Policy cannot say the same, the nearest is written and a note says what differs: Wider for what was denied and now passes,
// Stricter for the other way round. Nothing is dropped without a note: fields are read strictly, and one that is not known here is a fault.
package convert
