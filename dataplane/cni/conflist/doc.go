// Package conflist puts the plugin meerkat-cni behind the other plugins of the network configuration that the node's container
// runtime uses, keeps it there, and takes it out again.
//
// Container runtimes use the lexically first valid file of a directory. A list (.conflist) gets our entry behind its last
// plugin, and disableCheck at its beginning; not another byte of it changes, so that taking them out gives the file back as it
// was. What cannot be edited, a
// single plugin's file (.conf, .json) or a symbolic link, stays as it is: beside it comes a list of our own, which the
// runtime finds first.
//
// Whatever happens, and wherever this process is killed, the directory holds a whole network configuration at every moment,
// and no list names a plugin whose binary is not there: the binary comes before the entry, and goes after it.
package conflist
